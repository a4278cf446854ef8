import { readdirSync } from "node:fs";
import { basename, dirname } from "node:path";
import { type ErrorFields, OrchestratorError } from "../domain/errors.ts";

/** The store at `path` is not what it should be; names the backups beside it. */
export function unhealthy(
  path: string,
  message: string,
  fields: ErrorFields = {},
): OrchestratorError {
  const backups = backupsOf(path);
  const hint =
    backups.length > 0
      ? `nothing was changed; the newest backup is ${backups.at(-1)}, and can be restored`
      : "nothing was changed; put the missing files back or restore a backup";
  return new OrchestratorError("unhealthy", message, {
    hint,
    ...fields,
    details: { path, backups, ...fields.details },
  });
}

/** Backups beside the database, oldest first. */
function backupsOf(path: string): string[] {
  const prefix = `${basename(path)}.backup-`;
  try {
    return readdirSync(dirname(path))
      .filter((name) => name.startsWith(prefix))
      .sort((a, b) => takenAt(a) - takenAt(b));
  } catch {
    return [];
  }
}

/** Backups are named `<database>.backup-v<schema>-<milliseconds>`. */
function takenAt(name: string): number {
  return Number(name.slice(name.lastIndexOf("-") + 1)) || 0;
}

/** SQLite's extended result code of an error, if it is one of SQLite's. */
export function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errcode" in error)) return undefined;
  return typeof error.errcode === "number" ? error.errcode : undefined;
}

export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/** Primary result codes that speak of the file or the disk, not of the statement. */
const STORAGE_FAILURES: Readonly<Record<number, { says: string; retryable: boolean }>> = {
  8: { says: "may only be read", retryable: false },
  10: { says: "met an input or output error", retryable: true },
  11: { says: "is damaged", retryable: false },
  13: { says: "has no room left on its disk", retryable: true },
  14: { says: "could not be opened", retryable: true },
  26: { says: "is not a SQLite database", retryable: false },
};

/** An error of the disk or the file becomes `unhealthy`; every other error is returned as it is. */
export function storageFailure(error: unknown, path: string): unknown {
  const code = sqliteCode(error);
  const failure = code === undefined ? undefined : STORAGE_FAILURES[code & 0xff];
  if (failure === undefined) return error;
  return unhealthy(path, `the store ${path} ${failure.says}`, {
    retryable: failure.retryable,
    details: { sqlite_code: code },
    cause: error,
    ...(failure.retryable ? { hint: undefined } : {}),
  });
}
