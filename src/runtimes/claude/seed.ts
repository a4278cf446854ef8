import { isFields, listField, objectField } from "../fields.ts";
import type { Fields } from "../fields.ts";
import type { SeedFile, SeedInput } from "../runtime.ts";

/**
 * The first-run questions, answered before the start: onboarding, the API key, and trust in the clone's folder. Everything else in the file is
 * the user's and stays; the CLI itself rewrites it while it runs. The warning of the unattended mode is answered by the run's own settings
 * (launch.ts), so that the user's settings are never edited. Idempotent.
 */
export function seedClaude(input: SeedInput): readonly SeedFile[] {
  return [{ path: ".claude.json", merge: (current) => mergeState(fieldsOf(current), input) }];
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
