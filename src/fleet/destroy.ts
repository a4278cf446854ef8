import { OrchestratorError, type ErrorCode, type ErrorFields } from "../domain/errors.ts";
import { asRunId } from "../domain/ids.ts";
import type { Connections } from "./connections.ts";
import { providerOf, type FleetContext } from "./context.ts";
import { refuseIfLive, whyInUse } from "./in-use.ts";
import { isUnsaved, rescue } from "./rescue.ts";
import { findWorker, moveWorker, type Worker } from "./workers.ts";

/**
 * Destroys a worker after checking, at this moment and on the worker itself, that nobody is attached, no agent works, no run is live, and
 * all its work is in the mirror. Refuses with `needs_person` and the reason otherwise, also when a run took the worker at the same moment;
 * there is no flag that overrides it. Who asks while it is being destroyed shares the outcome.
 */
export async function destroyWorker(
  context: FleetContext,
  connections: Connections,
  worker: Worker,
): Promise<void> {
  const { destroying } = context;
  const underWay = destroying.get(worker.worker_id);
  if (underWay !== undefined) return underWay;
  const done = destroyUnlessOvertaken(context, connections, worker).finally(() =>
    destroying.delete(worker.worker_id),
  );
  destroying.set(worker.worker_id, done);
  return done;
}

async function destroyUnlessOvertaken(
  context: FleetContext,
  connections: Connections,
  worker: Worker,
): Promise<void> {
  try {
    await destroy(context, connections, worker);
  } catch (error) {
    if (!(error instanceof OrchestratorError) || !OVERTAKEN.has(error.code)) throw error;
    const now = await findWorker(context.store.db, worker.worker_id);
    // Its provider said meanwhile that it is gone, or another asked just before.
    if (now.allocation === "destroyed") return;
    await refuseIfLive(context.store.db, now, "destroyed");
    throw refused(worker, "it was used at the same moment", { retryable: true, cause: error });
  }
}

/** The row was moved by somebody else, or the worker has seen a higher epoch than this look at it. */
const OVERTAKEN: ReadonlySet<ErrorCode> = new Set(["not_claimable", "lease_stale"]);

async function destroy(
  context: FleetContext,
  connections: Connections,
  worker: Worker,
): Promise<void> {
  if (worker.allocation !== "destroying") {
    await refuseIfLive(context.store.db, worker, "destroyed");
    // Looked at before and after it is taken out of the pool: a refusal here leaves the worker as it was.
    const refusal = await whyNotSafe(context, connections, worker);
    if (refusal !== null) throw refused(worker, refusal);
    await context.store.mutate((tx) =>
      moveWorker(tx, worker, "destroy", { reason: worker.reason }),
    );
  }
  const destroying = await findWorker(context.store.db, worker.worker_id);
  const refusal = await whyNotSafe(context, connections, destroying);
  if (refusal !== null) {
    await context.store.mutate((tx) =>
      moveWorker(tx, destroying, "destroy_refused", { reason: refusal }),
    );
    throw refused(worker, refusal);
  }
  await connections.drop(worker.worker_id);
  context.failpoint("before-destroy");
  if (worker.provider_id !== null) {
    await providerOf(context, worker.provider).destroy(worker.provider_id);
  }
  context.failpoint("after-destroy");
  await context.store.mutate((tx) =>
    moveWorker(tx, destroying, "gone", { provider_state: "gone", provider_state_at: tx.now }),
  );
}

function refused(worker: Worker, reason: string, fields: ErrorFields = {}): OrchestratorError {
  return new OrchestratorError(
    "needs_person",
    `worker ${worker.name} was not destroyed: ${reason}`,
    {
      hint: `look at it with 'orchestrator attach ${worker.name}'`,
      ...fields,
    },
  );
}

async function whyNotSafe(
  context: FleetContext,
  connections: Connections,
  worker: Worker,
): Promise<string | null> {
  const provider = providerOf(context, worker.provider);
  const seen = worker.provider_id === null ? null : await provider.get(worker.provider_id);
  if (seen === null || seen.state === "gone") return null;
  let transport;
  try {
    transport = await connections.reach(worker.worker_id);
  } catch {
    return "it cannot be reached, so nobody can say what is on it";
  }
  const { reason } = await whyInUse(context, worker, transport);
  if (reason !== null) return reason;
  if (!(await isUnsaved(context, worker, transport))) return null;
  const saved = await rescue(
    context,
    worker,
    { runId: worker.last_run_id ?? asRunId(`worker-${worker.worker_id}`), epoch: worker.epoch },
    transport,
  );
  return saved.kind === "rescued" ? null : `its work is not saved: ${saved.reason}`;
}
