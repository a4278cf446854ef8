import { OrchestratorError } from "../domain/errors.ts";
import type { Connections } from "./connections.ts";
import type { FleetContext } from "./context.ts";
import { noteRescued } from "./rescue-worker.ts";
import { rescue } from "./rescue.ts";
import { findWorker, moveWorker, type Worker } from "./workers.ts";

const GRACE_MS = 5_000;

/**
 * Takes a worker back whose run was abandoned while nobody could reach it: its agent is stopped and proven over, its work saved into the
 * mirror, and only then it is free. What cannot be saved sets it aside. An error where it cannot be reached yet: call again.
 */
export async function takeBack(
  context: FleetContext,
  connections: Connections,
  worker: Worker,
): Promise<void> {
  const { store, provisioner } = context;
  const run = await store.db
    .selectFrom("runs")
    .select(["run_id", "launch"])
    .where("worker_id", "=", worker.worker_id)
    .orderBy("epoch", "desc")
    .executeTakeFirst();
  const transport = await connections.reach(worker.worker_id);
  if (run !== undefined && run.launch > 0) {
    const over = await provisioner.stop(transport, {
      epoch: worker.epoch,
      run: run.run_id,
      launch: run.launch,
      graceMs: GRACE_MS,
    });
    if (over.kind !== "over") {
      throw new OrchestratorError(
        "needs_person",
        `the agent of ${run.run_id} on ${worker.name} could not be stopped`,
        { retryable: true, details: { pids: over.pids } },
      );
    }
  }
  const saved =
    run === undefined
      ? null
      : await rescue(context, worker, { runId: run.run_id, epoch: worker.epoch }, transport);
  await store.mutate(async (tx) => {
    const now = await findWorker(tx.db, worker.worker_id);
    const last = { last_run_id: now.last_run_id };
    if (saved?.kind === "not-rescued") {
      const reason = `unrescued: ${saved.reason}`;
      return moveWorker(tx, now, "release_unrescued", { ...last, reason });
    }
    if (saved !== null && run !== undefined) {
      await noteRescued(tx, worker, run.run_id, saved.snapshot);
    }
    await moveWorker(tx, now, "release", last);
  });
}
