import { z } from "zod";
import { OrchestratorError } from "../domain/errors.ts";
import { sessionName } from "../fleet/context.ts";
import { cleanTail } from "../fleet/failure-text.ts";
import { Mirror } from "../fleet/mirror.ts";
import type { Transport } from "../transport/transport.ts";
import { jobOf } from "./attempts.ts";
import type { DispatchContext } from "./context.ts";
import type { Run } from "./runs.ts";

const MAX_LOG_BYTES = 256 * 1024;

const snapshotOf = z.object({ snapshot: z.string().nullable() });

/** What the run changed against its base, from the mirror: it outlives the worker. */
export async function diffOfRun(context: DispatchContext, run: Run): Promise<string> {
  const report = run.report === null ? null : snapshotOf.parse(JSON.parse(run.report));
  if (report === null) {
    throw new OrchestratorError(
      "not_found",
      `run ${run.run_id} has not ended: there is no diff yet`,
      {
        hint: `watch it with 'orchestrator attach' or wait with 'orchestrator run wait ${run.run_id}'`,
      },
    );
  }
  if (report.snapshot === null || run.base_commit === null) {
    throw new OrchestratorError("not_found", `run ${run.run_id} left no snapshot`);
  }
  const mirror = new Mirror(context.fleet.mirrors, run.repo);
  return mirror.diff(run.base_commit, report.snapshot);
}

/** The run's events, and as long as its worker answers: what its set-up said, and the agent's screen. */
export async function logsOfRun(
  context: DispatchContext,
  run: Run,
  lines: number,
): Promise<string> {
  const { store, provisioner } = context.fleet;
  const events = await store.readEvents(0, { limit: 10_000, filter: { run_id: run.run_id } });
  const history = events.slice(-lines).map((event) => {
    const payload = Object.entries(event.payload)
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
      .join(" ");
    return `${new Date(event.at).toISOString()} ${event.kind} ${payload}`.trimEnd();
  });
  const transport =
    run.worker_id === null ? undefined : await context.connections.kept(run.worker_id);
  if (transport === undefined) return `${history.join("\n")}\n`;
  const setup = await setupLog(context, run, transport, lines);
  const screen = await provisioner
    .screen(transport, sessionName(run.repo))
    .catch(() => "(the screen cannot be read now)");
  return [
    ...history,
    ...(setup === null ? [] : ["", `--- setup of ${run.run_id} ---`, ...setup]),
    "",
    `--- screen of ${run.run_id} ---`,
    screen.trimEnd(),
    "",
  ].join("\n");
}

/** The last lines of the run's latest set-up; null when there was none, or it was skipped, or it cannot be read now. */
async function setupLog(
  context: DispatchContext,
  run: Run,
  transport: Transport,
  lines: number,
): Promise<string[] | null> {
  const { store, provisioner } = context.fleet;
  const step = await store.db
    .selectFrom("steps")
    .select("attempt")
    .where("run_id", "=", run.run_id)
    .where("step", "=", "setup")
    .where("state", "!=", "skipped")
    .orderBy("attempt", "desc")
    .executeTakeFirst();
  if (step === undefined) return null;
  const job = jobOf(run, step.attempt);
  const text = await provisioner
    .stepLog(transport, { job, step: "setup" }, MAX_LOG_BYTES)
    .catch(() => null);
  return text === null ? null : cleanTail(text.split("\n")).slice(-lines);
}
