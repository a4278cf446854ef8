import { z } from "zod";
import { OrchestratorError } from "../domain/errors.ts";
import { sessionName } from "../fleet/context.ts";
import { Mirror } from "../fleet/mirror.ts";
import type { DispatchContext } from "./context.ts";
import type { Run } from "./runs.ts";

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

/** Steps with their last lines, and the agent's screen when its worker answers. */
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
  const screen = await provisioner
    .screen(transport, sessionName(run.repo))
    .catch(() => "(the screen cannot be read now)");
  return `${history.join("\n")}\n\n--- screen of ${run.run_id} ---\n${screen.trimEnd()}\n`;
}
