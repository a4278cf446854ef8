import { OrchestratorError } from "../domain/errors.ts";
import type { RunId } from "../domain/ids.ts";
import { cleanText } from "../domain/text.ts";
import type { Tx } from "../store/store.ts";
import type { Connections } from "./connections.ts";
import type { FleetContext } from "./context.ts";
import { isGone } from "./gone.ts";
import { whyInUse } from "./in-use.ts";
import type { Seeds } from "./prepare.ts";
import { makeReady } from "./ready.ts";
import { lastRunOf } from "./reset.ts";
import { rescue, type Rescued } from "./rescue.ts";
import { findWorker, moveWorker, type Worker } from "./workers.ts";

export interface RescuedWorker {
  readonly worker: Worker;
  readonly runId: RunId;
  readonly snapshot: string | null;
  /** Left out by rule, and left in its place: secrets and large files. */
  readonly skipped: readonly { readonly why: string; readonly path: string }[];
}

/**
 * Saves what is on a worker that was set aside into the mirror, and makes the worker usable again. What cannot be saved is named, with the
 * reason, and the worker stays as it is.
 */
export async function rescueWorker(
  context: FleetContext,
  connections: Connections,
  seeds: Seeds,
  worker: Worker,
  signal: AbortSignal,
): Promise<RescuedWorker> {
  if (worker.allocation !== "unready") {
    throw new OrchestratorError(
      "not_claimable",
      `worker ${worker.name} is ${worker.allocation}, not unready: there is nothing to rescue`,
    );
  }
  if (await isGone(context, worker)) {
    throw refused(worker, "it is gone", {
      hint: "what reached the mirror before is there: 'orchestrator run recover RUN --list'",
    });
  }
  const transport = await connections.reach(worker.worker_id);
  const { probe, reason } = await whyInUse(context, worker, transport);
  if (reason !== null) {
    throw refused(worker, reason, { hint: `look at it with 'orchestrator attach ${worker.name}'` });
  }
  const runId = lastRunOf(worker, probe);
  const saved = await rescue(context, worker, { runId, epoch: worker.epoch }, transport);
  if (saved.kind !== "rescued") throw notSaved(worker, saved);
  await context.store.mutate(async (tx) => {
    await noteRescued(tx, worker, runId, saved.snapshot);
    await moveWorker(tx, worker, "setup", { epoch: worker.epoch + 1 });
  });
  const preparing = await findWorker(context.store.db, worker.worker_id);
  const ready = await makeReady(context, connections, seeds, preparing, signal, {
    clone: "reuse",
    former: probe.current,
  });
  return { worker: ready, runId, snapshot: saved.snapshot, skipped: saved.saved.skipped };
}

/** The run whose end was not saved has it saved now. */
export async function noteRescued(
  tx: Tx,
  worker: Worker,
  runId: RunId,
  snapshot: string | null,
): Promise<void> {
  const run = await tx.db
    .selectFrom("runs")
    .select(["report", "state"])
    .where("run_id", "=", runId)
    .executeTakeFirst();
  if (run !== undefined) {
    const report = run.report === null ? null : (JSON.parse(run.report) as object);
    await tx.db
      .updateTable("runs")
      .set({
        unrescued: 0,
        ...(report === null ? {} : { report: JSON.stringify({ ...report, snapshot }) }),
      })
      .where("run_id", "=", runId)
      .execute();
  }
  tx.event({
    kind: "run.rescued",
    repo: worker.repo,
    worker_id: worker.worker_id,
    ...(run === undefined ? {} : { run_id: runId }),
    payload: { worker: worker.name, run: runId, snapshot },
  });
}

function notSaved(worker: Worker, rescued: Extract<Rescued, { kind: "not-rescued" }>) {
  const unsaved = (rescued.saved?.unsaved ?? [])
    .slice(0, 100)
    .map(({ why, path }) => ({ path: cleanText(path, 300), why: cleanText(why, 60) }));
  return refused(worker, rescued.reason, {
    hint: `mend it there ('orchestrator attach ${worker.name}'), then rescue it again`,
    details: { unsaved },
  });
}

const refused = (
  worker: Worker,
  reason: string,
  more: { hint?: string; details?: Readonly<Record<string, unknown>> },
): OrchestratorError =>
  new OrchestratorError("needs_person", `worker ${worker.name} was not rescued: ${reason}`, more);
