import { OrchestratorError } from "./errors.ts";

/** Repo, pool and worker names (DESIGN 8): a lower-case letter or digit, then letters, digits and single use of `-`. */
const NAME = /^[a-z0-9][a-z0-9-]*$/;
export const MAX_NAME_LENGTH = 40;

export function isName(value: string): boolean {
  return value.length <= MAX_NAME_LENGTH && NAME.test(value);
}

/** Returns `value` or throws `invalid_input` naming what it is; the value itself is shown escaped and cut. */
export function parseName(value: string, what: string): string {
  if (isName(value)) return value;
  throw new OrchestratorError(
    "invalid_input",
    `${what} ${JSON.stringify(value.slice(0, 60))} is not a valid name`,
    {
      hint: `use at most ${MAX_NAME_LENGTH} lower-case letters, digits and dashes, starting with a letter or digit`,
    },
  );
}

/** `kite`, 3 -> `kite-3`. */
export const workerName = (repo: string, number: number): string => `${repo}-${number}`;

/** `kite-3` -> { repo: "kite", number: 3 }; undefined when it is no worker name. */
export function splitWorkerName(name: string): { repo: string; number: number } | undefined {
  const match = /^(.+)-([1-9][0-9]{0,5})$/.exec(name);
  const repo = match?.[1];
  return repo !== undefined && isName(repo) ? { repo, number: Number(match?.[2]) } : undefined;
}
