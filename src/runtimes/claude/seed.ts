import { isFields, listField, objectField } from "../fields.ts";
import type { Fields } from "../fields.ts";
import type { SeedFile, SeedInput } from "../runtime.ts";
import { UNATTENDED_MODE } from "./vendor-data.ts";

/**
 * The first-run questions, answered before the start: onboarding, the API key, trust in the clone's folder, and the warning
 * of the unattended mode. Everything else in these files is the user's and stays. Idempotent.
 */
export function seedClaude(input: SeedInput): readonly SeedFile[] {
  const files: SeedFile[] = [
    { path: ".claude.json", merge: (current) => mergeState(fieldsOf(current), input) },
  ];
  if (input.mode === UNATTENDED_MODE) {
    files.push({
      path: ".claude/settings.json",
      merge: (current) => ({ ...fieldsOf(current), skipDangerousModePermissionPrompt: true }),
    });
  }
  return files;
}

const fieldsOf = (value: unknown): Fields => (isFields(value) ? value : {});

function mergeState(current: Fields, { cwd, auth }: SeedInput): Fields {
  const projects = objectField(current, "projects") ?? {};
  const project = Object.hasOwn(projects, cwd) ? fieldsOf(projects[cwd]) : {};
  return {
    ...current,
    hasCompletedOnboarding: true,
    ...(auth.kind === "api-key" ? { customApiKeyResponses: approve(current, auth.last20) } : {}),
    projects: { ...projects, [cwd]: { ...project, hasTrustDialogAccepted: true } },
  };
}

function approve(current: Fields, last20: string): Fields {
  const responses = objectField(current, "customApiKeyResponses") ?? {};
  const others = (key: string) =>
    (listField(responses, key) ?? []).filter((entry) => entry !== last20);
  return {
    ...responses,
    approved: [...others("approved"), last20],
    rejected: others("rejected"),
  };
}
