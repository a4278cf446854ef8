import { OrchestratorError } from "../domain/errors.ts";
import { asRunId, type RunId } from "../domain/ids.ts";
import type { Probe } from "../provisioner/provisioner.ts";
import type { Connections } from "./connections.ts";
import type { FleetContext } from "./context.ts";
import { isGone } from "./gone.ts";
import { liveRunOf, refuseIfLive, whyInUse } from "./in-use.ts";
import type { Seeds } from "./prepare.ts";
import { makeReady } from "./ready.ts";
import { isUnsaved, rescue } from "./rescue.ts";
import { findWorker, moveWorker, type Worker } from "./workers.ts";

/**
 * Brings a worker back to what a new one is like, under a higher epoch. Its work is saved first and proven saved again on the worker itself,
 * right before; with a live agent, an operator attached, somebody's turn or work that cannot be saved it is refused, and nothing is touched.
 */
export async function resetWorker(
  context: FleetContext,
  connections: Connections,
  seeds: Seeds,
  worker: Worker,
  signal: AbortSignal,
): Promise<Worker> {
  const { store } = context;
  await refuseIfLive(store.db, worker, "reset");
  if (await isGone(context, worker)) throw refused(worker, "it is gone");
  const transport = await connections.reach(worker.worker_id);
  const { probe, reason } = await whyInUse(context, worker, transport);
  if (reason !== null) throw refused(worker, reason);
  if (await isUnsaved(context, worker, transport)) {
    const run = { runId: lastRunOf(worker, probe), epoch: worker.epoch };
    const saved = await rescue(context, worker, run, transport);
    if (saved.kind !== "rescued") throw refused(worker, `its work is not saved: ${saved.reason}`);
  }
  await store.mutate(async (tx) => {
    const now = await findWorker(tx.db, worker.worker_id);
    if ((await liveRunOf(tx.db, now)) !== undefined) throw refused(worker, "a run was given to it");
    await moveWorker(tx, { ...now, allocation: worker.allocation }, "reset", {
      epoch: now.epoch + 1,
    });
  });
  const resetting = await findWorker(store.db, worker.worker_id);
  return makeReady(context, connections, seeds, resetting, signal, {
    clone: "reuse",
    former: probe.current,
  });
}

/** The run that the work on a worker belongs to, as far as anybody knows. */
export function lastRunOf(worker: Worker, probe: Probe): RunId {
  return worker.last_run_id ?? asRunId(probe.current?.run ?? `worker-${worker.worker_id}`);
}

const refused = (worker: Worker, reason: string): OrchestratorError =>
  new OrchestratorError("needs_person", `worker ${worker.name} was not reset: ${reason}`, {
    hint: `look at it with 'orchestrator attach ${worker.name}'`,
  });
