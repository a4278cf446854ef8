import { OrchestratorError } from "../domain/errors.ts";
import { runtimeOf } from "../fleet/context.ts";
import { failureText } from "../fleet/failure-text.ts";
import { prepare } from "../fleet/prepare.ts";
import { findWorker } from "../fleet/workers.ts";
import type { Transport } from "../transport/transport.ts";
import { PREPARE_TIMEOUT_MS, type DispatchContext } from "./context.ts";
import type { Run } from "./runs.ts";

/**
 * Makes the worker ready for a further launch of a run: the credential as it is configured now, the agent's program, and the tmux session, which
 * may have ended with its server. The clone is not touched. Null when it is ready, else why not; a job, so that repeating it re-attaches.
 */
export async function prepareRelaunch(
  context: DispatchContext,
  run: Run,
  transport: Transport,
  signal: AbortSignal,
): Promise<string | null> {
  const { fleet, seeds } = context;
  if (run.worker_id === null) {
    throw new OrchestratorError("internal", `run ${run.run_id} has no worker to launch on`);
  }
  const worker = await findWorker(fleet.store.db, run.worker_id);
  const outcome = await prepare(
    fleet,
    seeds,
    worker,
    {
      job: `${run.run_id}-launch-${run.launch}`,
      epoch: run.epoch ?? worker.epoch,
      runtime: runtimeOf(fleet, run.runtime),
      mode: run.mode,
      runBranch: "",
      clone: "untouched",
      former: null,
      timeoutMs: PREPARE_TIMEOUT_MS,
      signal,
    },
    transport,
    () => {},
  );
  switch (outcome.kind) {
    case "ready":
      await noteSecret(context, run, outcome.prepared.digest);
      return null;
    case "lost":
      return "the worker restarted while it was made ready again";
    case "failed":
      return failureText(outcome);
  }
}

async function noteSecret(
  { fleet }: DispatchContext,
  run: Run,
  digest: string | null,
): Promise<void> {
  if (digest === run.secret_digest) return;
  await fleet.store.mutate(
    (tx) =>
      tx.db
        .updateTable("runs")
        .set({ secret_digest: digest })
        .where("run_id", "=", run.run_id)
        .execute(),
    { quiet: true },
  );
}
