import { TERMINAL_RUN_STATES } from "../domain/run.ts";
import { OrchestratorError } from "../domain/errors.ts";
import type { RunId } from "../domain/ids.ts";
import { cleanText } from "../domain/text.ts";
import type { Probe } from "../provisioner/provisioner.ts";
import type { Db } from "../store/store.ts";
import type { Transport } from "../transport/transport.ts";
import { sessionName, type FleetContext } from "./context.ts";
import { whyFull } from "./disk.ts";
import type { Worker } from "./workers.ts";

/** Whether somebody or something uses a worker: what is asked before anything on it is reset or destroyed. */

const LOOK_TIMEOUT_MS = 60_000;

/** The run that has the worker now. */
export async function liveRunOf(
  db: Db,
  worker: Pick<Worker, "worker_id">,
): Promise<{ readonly run_id: RunId; readonly state: string } | undefined> {
  return db
    .selectFrom("runs")
    .select(["run_id", "state"])
    .where("worker_id", "=", worker.worker_id)
    .where("state", "not in", [...TERMINAL_RUN_STATES])
    .executeTakeFirst();
}

/** Refuses what may be done to a worker without a run only; `done` is the participle: destroyed, reset. */
export async function refuseIfLive(db: Db, worker: Worker, done: string): Promise<void> {
  const live = await liveRunOf(db, worker);
  if (live !== undefined) {
    throw new OrchestratorError(
      "needs_person",
      `worker ${worker.name} was not ${done}: ${live.run_id} runs on it`,
      { hint: `stop it first with 'orchestrator run cancel ${live.run_id}'` },
    );
  }
  if (worker.allocation !== "free" && worker.allocation !== "unready") {
    throw new OrchestratorError(
      "needs_person",
      `worker ${worker.name} was not ${done}: it is ${worker.allocation}`,
      { retryable: true },
    );
  }
}

/** Why a probed worker counts as used by somebody; null when nobody uses it, as far as its agent says. */
export function whyBusy(probe: Probe): string | null {
  if (probe.attached > 0) return "an operator is attached";
  if (probe.agent?.alive !== true) return null;
  switch (probe.registry?.status) {
    case "busy":
      return "its agent is in a turn";
    case "waiting":
      return "its agent waits for an answer";
    case "shell":
      return "its agent has a command running in the background";
    default:
      return null;
  }
}

/** What nobody can tell of must not be ended. */
const whySilent = (probe: Probe): string | null =>
  probe.agent?.alive === true && probe.registry === null
    ? "its agent runs, and does not say what it does"
    : null;

/** As `whyBusy`, an agent that says nothing included, and by the worker's own look (step `idle`): agents in other windows, turns that a person began, programs that are not ours. */
export async function whyInUse(
  context: FleetContext,
  worker: Worker,
  transport: Transport,
): Promise<{ readonly probe: Probe; readonly reason: string | null }> {
  const session = sessionName(worker.repo);
  const probe = await context.provisioner.probe(transport, session);
  const busy = whyBusy(probe) ?? whySilent(probe);
  if (busy !== null) return { probe, reason: busy };
  try {
    const looked = await context.provisioner.runJob(
      transport,
      {
        job: `${worker.worker_id}-${context.ids.next("look")}`,
        epoch: worker.epoch,
        steps: ["idle"],
        params: { SESSION: session, REPO: worker.repo },
        timeoutMs: LOOK_TIMEOUT_MS,
      },
      () => {},
    );
    if (looked.code === 0) return { probe, reason: null };
    const fact = looked.facts["idle.busy"];
    if (fact !== undefined) return { probe, reason: cleanText(fact, 200) };
    const why = (await whyFull(transport, worker.name)) ?? "it could not be looked at";
    return { probe, reason: why };
  } catch (error) {
    const isTheWorkers = error instanceof OrchestratorError && error.code === "internal";
    const full = isTheWorkers ? await whyFull(transport, worker.name) : null;
    if (full === null) throw error;
    return { probe, reason: full };
  }
}
