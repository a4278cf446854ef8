import { OrchestratorError } from "../domain/errors.ts";
import type { RunId } from "../domain/ids.ts";
import { findWorkerByName } from "../fleet/workers.ts";
import type { DispatchContext } from "./context.ts";
import { findRun, type Run } from "./runs.ts";

/** The run of that id, or the last run of the worker of that name. */
export async function targetRun(context: DispatchContext, target: string): Promise<Run> {
  const { store } = context.fleet;
  const run = await store.db
    .selectFrom("runs")
    .selectAll()
    .where("run_id", "=", target as RunId)
    .executeTakeFirst();
  if (run !== undefined) return run;
  const worker = await findWorkerByName(store.db, target);
  if (worker.last_run_id !== null) return findRun(store.db, worker.last_run_id);
  throw new OrchestratorError("not_found", `worker ${target} has not run anything yet`);
}
