import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { OrchestratorError } from "../domain/errors.ts";
import { parseName } from "../domain/names.ts";
import type { Config, RepoConfig, RepoDefaults, RepoInput } from "./config.ts";
import { type LockEffects, withFileLock } from "./file-lock.ts";
import { checkConfig, parseConfig, readConfigText } from "./load.ts";
import { followLinks, writeFileAtomically } from "./write-file.ts";
import { editYaml, type YamlEdit } from "./yaml-edit.ts";

/*
 * Changes to config.yaml that keep what a person wrote: comments, order, values they did not touch. Every change is
 * made under a lock, checked as a whole before it replaces the file, and idempotent. A file that is broken is refused
 * with its problems and stays as it is.
 */

export type EditOutcome = "added" | "replaced" | "removed" | "changed" | "unchanged";

type Change = YamlEdit & { readonly outcome: EditOutcome };

/**
 * Adds a repo. One of this name with the same effect is `unchanged`; with another it is refused (`invalid_input`)
 * unless `replace`, which touches only the keys that differ. Throws `invalid_config` when `repo` is not valid.
 */
export async function addRepo(
  path: string,
  name: string,
  repo: RepoInput,
  effects: LockEffects,
  options: { readonly replace?: boolean } = {},
): Promise<EditOutcome> {
  parseName(name, "repo name");
  return edit(path, effects, (before) => {
    const wanted = effectiveRepo(path, before, name, repo);
    const current = before.repos[name];
    if (current !== undefined) {
      if (isDeepStrictEqual(current, wanted)) return undefined;
      if (options.replace !== true) throw existsOtherwise(path, name, current, wanted);
    }
    const outcome = current === undefined ? "added" : "replaced";
    return { outcome, path: ["repos", name], value: plain(repo) };
  });
}

/** Removes a repo from the file; nothing is done to its workers. One that is not there is `unchanged`. */
export async function removeRepo(
  path: string,
  name: string,
  effects: LockEffects,
): Promise<EditOutcome> {
  parseName(name, "repo name");
  return edit(path, effects, (before) =>
    before.repos[name] === undefined
      ? undefined
      : { outcome: "removed", path: ["repos", name], value: undefined },
  );
}

/** Sets the given keys below `defaults`; the others stay. A key given as undefined is removed. */
export async function setDefaults(
  path: string,
  values: RepoDefaults,
  effects: LockEffects,
): Promise<EditOutcome> {
  return edit(path, effects, (before) => {
    const wanted = plain({ ...before.defaults, ...values });
    checkConfig({ defaults: wanted }, path);
    return isDeepStrictEqual(wanted, plain({ ...before.defaults }))
      ? undefined
      : { outcome: "changed", path: ["defaults"], value: wanted };
  });
}

/** `change` returns undefined when nothing is to be done. */
async function edit(
  path: string,
  effects: LockEffects,
  change: (before: Config) => Change | undefined,
): Promise<EditOutcome> {
  const target = await followLinks(path);
  await mkdir(dirname(target), { recursive: true, mode: 0o700 });
  return withFileLock(target, effects, async () => {
    const text = (await readConfigText(target)) ?? "";
    const { config, yaml } = parseConfig(text, path);
    const wanted = change(config);
    if (wanted === undefined) return "unchanged";
    const changed = editYaml(yaml, wanted, path);
    parseConfig(changed, path);
    await writeFileAtomically(target, asLinesOf(text, changed), effects.ids.token());
    return wanted.outcome;
  });
}

/** What `repo` becomes under the defaults of the file. */
function effectiveRepo(
  path: string,
  { defaults }: Config,
  name: string,
  repo: RepoInput,
): RepoConfig | undefined {
  return checkConfig(plain({ defaults, repos: { [name]: repo } }), path).repos[name];
}

function existsOtherwise(
  path: string,
  name: string,
  current: RepoConfig,
  wanted: RepoConfig | undefined,
): OrchestratorError {
  const before = new Map<string, unknown>(Object.entries(current));
  const after = new Map<string, unknown>(Object.entries(wanted ?? {}));
  const differs = [...new Set([...before.keys(), ...after.keys()])].filter(
    (key) => !isDeepStrictEqual(before.get(key), after.get(key)),
  );
  return new OrchestratorError(
    "invalid_input",
    `repo ${name} exists with another ${differs.join(", ")}`,
    {
      hint: "replace it, or choose another name",
      details: { repo: name, file: path, differs },
    },
  );
}

/** Without undefined values, as it will stand in the file. */
function plain(value: object): Readonly<Record<string, unknown>> {
  return JSON.parse(JSON.stringify(value)) as Record<string, unknown>;
}

function asLinesOf(original: string, changed: string): string {
  return original.includes("\r\n") ? changed.replaceAll(/\r?\n/g, "\r\n") : changed;
}
