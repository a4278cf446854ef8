import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import { runtimeOf, sessionName } from "../fleet/context.ts";
import type { Probe } from "../provisioner/provisioner.ts";
import type { Runtime } from "../runtimes/runtime.ts";
import type { Transport } from "../transport/transport.ts";
import type { DispatchContext } from "./context.ts";
import { placeOf } from "./launch.ts";
import type { Run } from "./runs.ts";

const MAX_REGISTRY_BYTES = 64 * 1024;
const MAX_SHOWN = 4_000;

/** The window of a run's agent, for a person's keys. */
export interface AgentWindow {
  readonly runtime: Runtime;
  readonly transport: Transport;
  readonly session: string;
  /** The version of the program that runs there, by its own registry; null when it does not say. */
  readonly version: string | null;
  probe(): Promise<Probe>;
  screen(): Promise<string>;
}

/** Reaches a live run's agent; `not_claimable` when there is none. */
export async function agentWindowOf(context: DispatchContext, run: Run): Promise<AgentWindow> {
  const { fleet, connections } = context;
  const isLive = ["launched", "active", "blocked"].includes(run.state);
  if (!isLive || run.worker_id === null || run.launch === 0) {
    throw new OrchestratorError(
      "not_claimable",
      `run ${run.run_id} is ${run.state}: no agent works on it`,
      {
        hint: `look with 'orchestrator run show ${run.run_id}'`,
      },
    );
  }
  const transport = await connections.reach(run.worker_id);
  const session = sessionName(run.repo);
  const runtime = runtimeOf(fleet, run.runtime);
  const probe = () =>
    fleet.provisioner.probe(transport, session, { run: run.run_id, launch: run.launch });
  const { agent } = await probe();
  if (agent?.alive !== true) {
    throw new OrchestratorError("not_claimable", `the agent of run ${run.run_id} does not run`, {
      hint: `look with 'orchestrator status ${run.run_id} --explain'`,
    });
  }
  return {
    runtime,
    transport,
    session,
    version: await versionOf(context, run, runtime, transport, agent.pid),
    probe,
    screen: () => fleet.provisioner.screen(transport, session),
  };
}

async function versionOf(
  context: DispatchContext,
  run: Run,
  runtime: Runtime,
  transport: Transport,
  pid: number,
): Promise<string | null> {
  const { provisioner } = context.fleet;
  const named = `${placeOf(run).home}/.orchestrator/runs/${run.run_id}/registry-${run.launch}`;
  const folder = (await provisioner.readTail(transport, named, MAX_REGISTRY_BYTES))?.trim() ?? "";
  if (!folder.startsWith("/") || folder.includes("\n")) return null;
  const text = await provisioner.readTail(transport, `${folder}/${pid}.json`, MAX_REGISTRY_BYTES);
  return text === null ? null : runtime.versionOf(text);
}

/** `needs_person` with the screen in its details: nothing was pressed. */
export function notIdentified(
  run: Run,
  why: string,
  screen: string,
  worker: string,
): OrchestratorError {
  return new OrchestratorError("needs_person", `${why}: no key was pressed for run ${run.run_id}`, {
    hint: `answer in its window: orchestrator attach ${worker}`,
    details: { run_id: run.run_id, screen: shownScreen(screen) },
  });
}

/** A screen as people and programs are shown it: cleaned line by line, bounded. */
export function shownScreen(screen: string): string {
  return screen
    .split("\n")
    .map((line) => cleanText(line.replaceAll("\t", "  "), 300))
    .join("\n")
    .replaceAll(/\n{3,}/g, "\n\n")
    .trim()
    .slice(-MAX_SHOWN);
}
