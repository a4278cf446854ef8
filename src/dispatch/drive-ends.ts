import type { RunId } from "../domain/ids.ts";
import { isGone } from "../fleet/gone.ts";
import { findWorker, moveWorker, type Worker } from "../fleet/workers.ts";
import type { Db } from "../store/store.ts";
import { closeAttempts, endAttempt } from "./attempts.ts";
import type { DispatchContext } from "./context.ts";
import { moveRun, type Run } from "./runs.ts";

/** The ways in which a drive ends without a launch. */

/** How long a worker counts as busy with a person (ms). */
export const BUSY_MS = 60_000;
/** No run waits longer in the queue for a time (ms). */
export const LONGEST_WAIT_MS = 5_000;

/** Back to the queue without burning an attempt; the worker is free for others, or busy with a person for a while. */
export async function giveBack(
  context: DispatchContext,
  run: Run,
  worker: Worker,
  why: string,
): Promise<void> {
  await context.fleet.store.mutate(async (tx) => {
    await moveWorker(tx, worker, "release", {
      busy_until: tx.now + BUSY_MS,
      busy_reason: why,
      last_run_id: await formerRunId(tx.db, worker, run),
    });
    await moveRun(tx, run, "requeued", {
      patch: { worker_id: null, epoch: null, reason: null },
      kind: "run.requeued",
      payload: { reason: `${worker.name} is busy: ${why}` },
    });
    await closeAttempts(tx.db, run.run_id, tx.now);
  });
}

/** The worker cannot be used; it is set aside with the reason, and the run looks for another. */
export async function giveUpWorker(
  context: DispatchContext,
  run: Run,
  worker: Worker,
  reason: string,
): Promise<void> {
  await context.connections.drop(worker.worker_id);
  const gone = await isGone(context.fleet, worker);
  await context.fleet.store.mutate(async (tx) => {
    const now = await findWorker(tx.db, worker.worker_id);
    if (gone) await moveWorker(tx, now, "gone", { provider_state: "gone", reason });
    else if (now.allocation === "preparing") await moveWorker(tx, now, "step_failed", { reason });
    else if (now.allocation === "claimed")
      await moveWorker(tx, now, "release_unrescued", { reason });
    await moveRun(tx, run, "requeued", {
      patch: { worker_id: null, epoch: null, reason: null, not_before: tx.now + 1_000 },
      kind: "run.requeued",
      payload: { reason: `${worker.name} is ${gone ? "gone" : "set aside"}: ${reason}` },
    });
    await closeAttempts(tx.db, run.run_id, tx.now);
  });
}

export async function requeue(
  context: DispatchContext,
  run: Run,
  reason: string,
  delayMs: number,
): Promise<void> {
  await context.fleet.store.mutate(async (tx) => {
    await moveRun(tx, run, "requeued", {
      patch: { worker_id: null, epoch: null, reason: null, not_before: tx.now + delayMs },
      kind: "run.requeued",
      payload: { reason },
    });
    await closeAttempts(tx.db, run.run_id, tx.now);
  });
}

export async function backOff(
  context: DispatchContext,
  run: Run,
  attempt: number,
  reason: string,
  options: { signal: AbortSignal; delayMs?: number },
): Promise<void> {
  const { clock, ids, store } = context.fleet;
  const wait =
    options.delayMs ??
    Math.ceil(Math.min(30_000, 500 * 2 ** Math.min(attempt, 10)) * (0.5 + ids.fraction() / 2));
  await store.mutate(async (tx) => {
    await endAttempt(tx.db, run.run_id, attempt, "failed", tx.now, reason);
    tx.event({
      kind: "run.retrying",
      repo: run.repo,
      run_id: run.run_id,
      worker_id: run.worker_id ?? undefined,
      payload: { reason, in_ms: wait },
    });
  });
  if (wait > 0) await clock.sleep(wait, options.signal);
}

/** A final failure before the launch: nothing of the agent's exists, so there is nothing to save. */
export async function fail(
  context: DispatchContext,
  run: Run,
  reason: string,
  details: Readonly<Record<string, unknown>>,
): Promise<void> {
  await context.fleet.store.mutate(async (tx) => {
    await closeAttempts(tx.db, run.run_id, tx.now);
    await moveRun(tx, run, "failed", {
      patch: { outcome: "failed", reason },
      payload: { outcome: "failed", reason, ...details },
    });
  });
}

async function formerRunId(db: Db, worker: Worker, run: Run): Promise<RunId | null> {
  const former = await db
    .selectFrom("runs")
    .select("run_id")
    .where("worker_id", "=", worker.worker_id)
    .where("run_id", "!=", run.run_id)
    .orderBy("epoch", "desc")
    .executeTakeFirst();
  return former?.run_id ?? null;
}
