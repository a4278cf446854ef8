import { OrchestratorError } from "../../domain/errors.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import { sqliteCode } from "../failure.ts";

export interface Turns {
  readonly clock: Clock;
  readonly ids: Ids;
}

/** SQLITE_BUSY, SQLITE_BUSY_RECOVERY, SQLITE_BUSY_SNAPSHOT: another process is at it. */
const BUSY: ReadonlySet<number | undefined> = new Set([5, 261, 517]);

export function isBusy(error: unknown): boolean {
  return BUSY.has(sqliteCode(error));
}

/** A lock held this long belongs to a process that is stopped or stuck. */
const PATIENCE_MS = 30_000;

/** After this long a waiter asks every millisecond, so that nobody starves. */
const HURRY_AFTER_MS = 50;

/**
 * Tries `action` again every 1-5 ms while another process holds the lock; the event loop runs meanwhile. Rejects with a
 * retryable `unhealthy` after 30 s.
 */
export async function whenFree<T>(
  action: () => T,
  { clock, ids }: Turns,
  path: string,
): Promise<T> {
  let since: number | undefined;
  for (;;) {
    try {
      return action();
    } catch (error) {
      if (!isBusy(error)) throw error;
      since ??= clock.monotonic();
      const waitedMs = clock.monotonic() - since;
      if (waitedMs > PATIENCE_MS) throw stuck(path, waitedMs, error);
      await clock.sleep(waitedMs > HURRY_AFTER_MS ? 1 : 1 + Math.floor(5 * ids.fraction()));
    }
  }
}

function stuck(path: string, waitedMs: number, cause: unknown): OrchestratorError {
  return new OrchestratorError(
    "unhealthy",
    `another process has held the lock of the store ${path} for ${Math.round(waitedMs / 1000)} s`,
    { retryable: true, details: { path }, cause },
  );
}
