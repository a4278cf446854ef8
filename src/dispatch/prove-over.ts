import { isGone } from "../fleet/gone.ts";
import { findWorker } from "../fleet/workers.ts";
import type { Over } from "../provisioner/provisioner.ts";
import type { DispatchContext } from "./context.ts";
import type { Run } from "./runs.ts";

/**
 * Proves the latest launch of a run over (DESIGN 2): its gate is revoked, its processes are stopped within the grace, and none that carries
 * its launch id is left. `alive` when that could not be shown; a connection that breaks is an error, never an answer.
 */
export async function proveOver(
  context: DispatchContext,
  run: Run,
  { graceMs }: { graceMs: number },
): Promise<Over> {
  if (run.launch === 0 || run.worker_id === null) return { kind: "over", why: "never launched" };
  try {
    const transport = await context.connections.reach(run.worker_id);
    return await context.fleet.provisioner.stop(transport, {
      epoch: run.epoch ?? 0,
      run: run.run_id,
      launch: run.launch,
      graceMs,
    });
  } catch (error) {
    const worker = await findWorker(context.fleet.store.db, run.worker_id);
    if (await isGone(context.fleet, worker)) return { kind: "over", why: "its worker is gone" };
    throw error;
  }
}
