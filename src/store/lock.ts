import { DatabaseSync } from "node:sqlite";

/** Held until `release`, or until the process dies: the system frees it then. */
export interface ExclusiveLock {
  release(): void;
}

const SQLITE_BUSY = 5;

/** Takes an exclusive transaction on its own small database at `path`; null when another process holds it. Never waits. */
export function holdExclusive(path: string): ExclusiveLock | null {
  const database = new DatabaseSync(path);
  try {
    database.exec("pragma busy_timeout = 0; pragma locking_mode = exclusive; begin exclusive");
  } catch (error) {
    database.close();
    if (isBusy(error)) return null;
    throw error;
  }
  let held = true;
  return {
    release: () => {
      if (!held) return;
      held = false;
      database.close();
    },
  };
}

function isBusy(error: unknown): boolean {
  return (
    error instanceof Error && "errcode" in error && Number(error.errcode) % 256 === SQLITE_BUSY
  );
}
