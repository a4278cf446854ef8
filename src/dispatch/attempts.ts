import type { RunId } from "../domain/ids.ts";
import type { Db } from "../store/store.ts";
import type { DispatchContext } from "./context.ts";
import type { Run } from "./runs.ts";

/*
 * An attempt is one try of bringing a run to its launch; it names the worker's job. One that was begun and not ended belongs to a controller that
 * was killed: its number is used again, so that the job is re-attached and not repeated.
 */

/** The worker's job of an attempt. */
export const jobOf = (run: Pick<Run, "run_id">, attempt: number): string =>
  `${run.run_id}-${attempt}`;

export async function lastAttempt(
  context: DispatchContext,
  runId: RunId,
): Promise<{ last: number; open: number | undefined }> {
  const rows = await context.fleet.store.db
    .selectFrom("steps")
    .select(["attempt", "state"])
    .where("run_id", "=", runId)
    .where("step", "=", "attempt")
    .execute();
  return {
    last: Math.max(0, ...rows.map((row) => row.attempt)),
    open: rows.find((row) => row.state === "running")?.attempt,
  };
}

export async function beginAttempt(
  context: DispatchContext,
  run: Run,
  attempt: number,
): Promise<void> {
  await context.fleet.store.mutate(
    (tx) =>
      tx.db
        .insertInto("steps")
        .values({
          run_id: run.run_id,
          attempt,
          step: "attempt",
          state: "running",
          exit_code: null,
          detail: null,
          started_at: tx.now,
          ended_at: null,
        })
        .execute(),
    { quiet: true },
  );
}

export async function endAttempt(
  db: Db,
  runId: RunId,
  attempt: number,
  state: "done" | "failed",
  now: number,
  detail: string | null = null,
): Promise<void> {
  await db
    .updateTable("steps")
    .set({ state, detail, ended_at: now })
    .where("run_id", "=", runId)
    .where("step", "=", "attempt")
    .where("attempt", "=", attempt)
    .execute();
}

export async function closeAttempts(db: Db, runId: RunId, now: number): Promise<void> {
  await db
    .updateTable("steps")
    .set({ state: "failed", ended_at: now })
    .where("run_id", "=", runId)
    .where("state", "=", "running")
    .execute();
}
