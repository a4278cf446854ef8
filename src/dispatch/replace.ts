import type { RunId } from "../domain/ids.ts";
import { cleanText } from "../domain/text.ts";
import { providerOf } from "../fleet/context.ts";
import { findWorker, noteWorker } from "../fleet/workers.ts";
import type { Db } from "../store/store.ts";
import type { DispatchContext } from "./context.ts";
import { moveRun, type Run } from "./runs.ts";
import type { Accepted, DispatchInput } from "./request.ts";

/*
 * `onLost: replace`: a run whose worker has been unreachable for long is abandoned, on record, and its task given to another worker as a new
 * run with its own branch. The old worker stays claimed; when it comes back, the fleet's upkeep stops its agent and saves its work.
 */

/** After how long a run's worker counts as lost (ms); null: never, its run waits. */
export async function lostAfterMs(context: DispatchContext, run: Run): Promise<number | null> {
  const repo = context.fleet.config().repos[run.repo];
  // A follow-up needs the conversation that is on that very worker.
  if (repo?.onLost !== "replace" || run.resumes !== null || run.worker_id === null) return null;
  const worker = await findWorker(context.fleet.store.db, run.worker_id);
  const { sleeps } = providerOf(context.fleet, worker.provider).capabilities;
  // One that sleeps is silent, and not lost.
  if (sleeps && (worker.provider_state === "warm" || worker.provider_state === "cold")) return null;
  return repo.lostMinutes * 60_000;
}

/** Gives the run up. Whoever still works for it on the worker is fenced by the epoch of whatever comes there next. */
export async function abandonLost(context: DispatchContext, run: Run): Promise<void> {
  await context.fleet.store.mutate(async (tx) => {
    const reason = "its worker was lost, and another one replaces it";
    await moveRun(tx, run, "abandon", {
      patch: { reason, unrescued: 1 },
      payload: { reason, because: LOST },
    });
    if (run.worker_id === null) return;
    const worker = await findWorker(tx.db, run.worker_id);
    await noteWorker(tx, run.worker_id, { epoch: worker.epoch + 1 });
  });
}

/** In the event of a run that was given up: only such a one is replaced. */
const LOST = "lost";

const requestIdOf = (runId: RunId): string => `replace-${runId}`;

/** Requests the new runs of abandoned ones that have none yet: also after a crash in between. True when one has to be tried again. */
export async function requestReplacements(
  context: DispatchContext,
  request: (input: DispatchInput) => Promise<Accepted>,
): Promise<boolean> {
  const { store, logger } = context.fleet;
  let again = false;
  for (const run of await unreplaced(store.db)) {
    try {
      const [given] = await store.readEvents(0, {
        limit: 1,
        filter: { run_id: run.run_id, kinds: ["run.abandoned"] },
      });
      if (given?.payload["because"] !== LOST) continue;
      const { runId } = await request(await inputOf(store.db, run));
      await store.mutate(
        async (tx) =>
          tx.event({
            kind: "run.replaced",
            repo: run.repo,
            run_id: run.run_id,
            task_id: run.task_id,
            payload: { by: runId },
          }),
        { quiet: true },
      );
    } catch (error) {
      again = true;
      const message = cleanText(error instanceof Error ? error.message : String(error), 300);
      logger.warn("run.not_replaced", { run_id: run.run_id, error: message });
    }
  }
  return again;
}

async function unreplaced(db: Db): Promise<Run[]> {
  const abandoned = await db
    .selectFrom("runs")
    .selectAll()
    .where("state", "=", "abandoned")
    .orderBy("finished_at", "desc")
    .limit(1_000)
    .execute();
  if (abandoned.length === 0) return [];
  const asked = await db
    .selectFrom("requests")
    .select("request_id")
    .where(
      "request_id",
      "in",
      abandoned.map((run) => requestIdOf(run.run_id)),
    )
    .execute();
  const known = new Set(asked.map(({ request_id }) => request_id));
  return abandoned.filter((run) => !known.has(requestIdOf(run.run_id)));
}

async function inputOf(db: Db, run: Run): Promise<DispatchInput> {
  const { body } = await db
    .selectFrom("messages")
    .select("body")
    .where("run_id", "=", run.run_id)
    .orderBy("seq")
    .executeTakeFirstOrThrow();
  const task = await db
    .selectFrom("tasks")
    .select("title")
    .where("task_id", "=", run.task_id)
    .executeTakeFirst();
  return {
    repo: run.repo,
    text: body,
    title: task?.title,
    worker: undefined,
    runtime: run.runtime,
    mode: run.mode,
    onFull: "queue",
    requestId: requestIdOf(run.run_id),
    resumes: undefined,
    request: { operation: "replace", body: { run_id: run.run_id } },
  };
}
