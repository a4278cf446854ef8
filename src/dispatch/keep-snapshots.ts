import { OrchestratorError } from "../domain/errors.ts";
import { isTerminal } from "../domain/run.ts";
import type { RunId } from "../domain/ids.ts";
import { cleanText } from "../domain/text.ts";
import { Mirror } from "../fleet/mirror.ts";
import { fetchRefs } from "../fleet/rescue.ts";
import { commitOf, snapshotPrefix } from "../fleet/snapshots.ts";
import type { Nudge } from "../platform/nudge.ts";
import { retry } from "../platform/retry.ts";
import type { DispatchContext } from "./context.ts";
import { evidenceOf, findRun, type Run } from "./runs.ts";

const ATTEMPTS = { attempts: 5, firstMs: 1_000, maxMs: 30_000 };

/**
 * Brings the newest snapshot that the guard told of into the mirror while a run is live, so that its work outlives the worker. One whose
 * fetch keeps failing is said to be missing, and the next one is waited for: an agent is never held up. Resolves when the run has ended or
 * the signal aborts; never rejects.
 */
export async function keepSnapshots(
  context: DispatchContext,
  runId: RunId,
  news: Nudge,
  signal: AbortSignal,
): Promise<void> {
  const { fleet } = context;
  let done = 0;
  while (!signal.aborted) {
    try {
      const run = await findRun(fleet.store.db, runId);
      if (isTerminal(run.state)) return;
      const { snapshot } = evidenceOf(run);
      if (snapshot !== null && snapshot.number > done) {
        done = snapshot.number;
        await keep(context, run, snapshot, signal);
      }
    } catch (error) {
      if (signal.aborted) return;
      const message = cleanText(error instanceof Error ? error.message : String(error), 300);
      fleet.logger.warn("run.snapshot_trouble", { run_id: runId, error: message });
    }
    await news.wait(new Promise(() => {}), signal);
  }
}

async function keep(
  context: DispatchContext,
  run: Run,
  { number, epoch }: { number: number; epoch: number },
  signal: AbortSignal,
): Promise<void> {
  const { fleet, connections } = context;
  const { worker_id: workerId } = run;
  if (workerId === null) return;
  const mirror = new Mirror(fleet.mirrors, run.repo);
  const kept = async () =>
    (await mirror.snapshots(run.run_id)).find(
      (one) => one.number === number && one.epoch === epoch,
    );
  // A former controller may have fetched it.
  if ((await kept()) !== undefined) return;
  const prefix = snapshotPrefix(run.run_id, epoch, number);
  try {
    await retry(
      () =>
        context.limitFetching(async () =>
          fetchRefs(fleet, run.repo, prefix, await connections.reach(workerId)),
        ),
      ATTEMPTS,
      fleet,
      { retryable: () => !signal.aborted, signal },
    );
    const snapshot = await kept();
    if (snapshot === undefined) {
      throw new OrchestratorError("internal", "the worker does not have it any more");
    }
    await note(context, run, "run.snapshot_kept", { number, commit: commitOf(snapshot) });
  } catch (error) {
    if (signal.aborted) throw error;
    const reason = cleanText(error instanceof Error ? error.message : String(error), 300);
    await note(context, run, "run.snapshot_not_kept", { number, reason });
  }
}

async function note(
  context: DispatchContext,
  run: Run,
  kind: string,
  payload: Readonly<Record<string, unknown>>,
): Promise<void> {
  await context.fleet.store.mutate(
    async (tx) =>
      tx.event({
        kind,
        repo: run.repo,
        run_id: run.run_id,
        worker_id: run.worker_id ?? undefined,
        payload,
      }),
    { quiet: true },
  );
}
