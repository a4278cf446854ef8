import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import { findWorker } from "../fleet/workers.ts";
import { agentWindowOf, notIdentified, type AgentWindow } from "./agent-screen.ts";
import { openQuestion } from "./answer.ts";
import type { DispatchContext } from "./context.ts";
import type { Dispatcher } from "./dispatcher.ts";
import { findRun, type Run } from "./runs.ts";
import { targetRun } from "./target.ts";

const CONFIRMED_WITHIN_MS = 20_000;
const LOOK_MS = 100;
const TRIES = 5;

export interface Interrupted {
  readonly run: Run;
  /** Keys that were pressed, or the signal that was sent. */
  readonly keys: readonly string[];
  readonly evidence: string;
}

/**
 * Stops the turn of a run's agent, on a person's word: by a signal where the runtime runs a plain program, else by its key, on a screen that is
 * identified on the worker at that moment. Confirmed by the agent's own registry or the end of its process; an event says who did it. The run
 * stays: a stopped turn waits for the next message. `not_claimable` when no turn runs.
 */
export async function interruptRun(
  context: DispatchContext,
  dispatcher: Dispatcher,
  target: string,
  by: string,
): Promise<Interrupted> {
  const { store } = context.fleet;
  const run = await targetRun(context, target);
  const window = await agentWindowOf(context, run);
  const note = (kind: string, payload: Readonly<Record<string, unknown>>) =>
    store.mutate(async (tx) =>
      tx.event({
        kind,
        repo: run.repo,
        run_id: run.run_id,
        worker_id: run.worker_id ?? undefined,
        payload: { by: cleanText(by, 100), ...payload },
      }),
    );
  const keys = await stop(context, window, run, () => note("run.interrupting", {}));
  const evidence = await confirmed(context, window);
  await note("run.interrupted", { keys, confirmed: evidence !== null, evidence });
  dispatcher.nudge(run.run_id);
  if (evidence === null) {
    throw new OrchestratorError(
      "delivery_unconfirmed",
      `the agent of run ${run.run_id} was interrupted, and its turn goes on`,
      {
        hint: `stop the run with 'orchestrator run cancel ${run.run_id}'`,
        details: { run_id: run.run_id, keys },
      },
    );
  }
  return { run: await findRun(store.db, run.run_id), keys, evidence };
}

async function stop(
  context: DispatchContext,
  window: AgentWindow,
  run: Run,
  intend: () => Promise<unknown>,
): Promise<readonly string[]> {
  const { provisioner, clock } = context.fleet;
  const { interrupt } = window.runtime;
  if (interrupt.kind === "signal") {
    await intend();
    const sent = await provisioner.interrupt(window.transport, run.run_id, run.launch);
    if (sent === "absent") throw noTurn(run, "its process has ended");
    return ["SIGINT"];
  }
  const worker =
    run.worker_id === null ? "" : (await findWorker(context.fleet.store.db, run.worker_id)).name;
  let intended = false;
  const pressOn = async (how: "same" | "has", screen: string) => {
    if (!intended) await intend();
    intended = true;
    const expected = { how, screen };
    return provisioner.press(window.transport, window.session, expected, interrupt.keys);
  };
  for (let tries = 1; ; tries += 1) {
    const { registry } = await window.probe();
    if (registry?.status === "waiting") {
      const { screen } = await openQuestion(window, run, worker);
      if ((await pressOn("same", screen)) === "pressed") return interrupt.keys;
    } else if (registry?.status === "busy") {
      const screen = await window.screen();
      const turn = interrupt.turnOnScreen(screen, window.version);
      if (turn !== null && (await pressOn("has", turn)) === "pressed") return interrupt.keys;
      if (tries >= TRIES)
        throw notIdentified(run, "the screen does not show a turn", screen, worker);
    } else throw noTurn(run, `registry: ${registry?.status ?? "absent"}`);
    if (tries >= TRIES)
      throw notIdentified(run, "the screen keeps changing", await window.screen(), worker);
    await clock.sleep(LOOK_MS);
  }
}

function noTurn(run: Run, why: string): OrchestratorError {
  return new OrchestratorError(
    "not_claimable",
    `the agent of run ${run.run_id} is in no turn (${why})`,
    {
      hint: `'orchestrator status ${run.run_id}' shows what it does`,
    },
  );
}

async function confirmed(context: DispatchContext, window: AgentWindow): Promise<string | null> {
  const { clock } = context.fleet;
  const deadline = clock.monotonic() + CONFIRMED_WITHIN_MS;
  do {
    const { registry, agent } = await window.probe();
    if (agent?.alive !== true) return "the process has ended";
    if (registry?.status === "idle" || registry?.status === "shell")
      return `registry: ${registry.status}`;
    await clock.sleep(LOOK_MS);
  } while (clock.monotonic() < deadline);
  return null;
}
