import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import { findWorker } from "../fleet/workers.ts";
import type { Question, QuestionOption } from "../runtimes/runtime.ts";
import { agentWindowOf, notIdentified, type AgentWindow } from "./agent-screen.ts";
import type { DispatchContext } from "./context.ts";
import type { Dispatcher } from "./dispatcher.ts";
import { findRun, type Run } from "./runs.ts";

/** How long a program may take to draw what a key does (ms). */
const DRAWN_WITHIN_MS = 5_000;
const CONFIRMED_WITHIN_MS = 15_000;
const LOOK_MS = 80;
const MAX_WORDS = 160;
const DENIED = "The operator denied this. Go on without it.";

export interface AnswerRequest {
  /** Undefined: only say what is asked. */
  readonly choice: string | undefined;
  /** What a denial tells the agent. */
  readonly because: string | undefined;
  /** The question the person saw: another one is not answered. */
  readonly question: string | undefined;
  /** Who decided. */
  readonly by: string;
}

export interface Answered {
  readonly run: Run;
  readonly question: Question;
  readonly chosen: QuestionOption | null;
  readonly keys: readonly string[];
  /** What the agent's registry said afterwards; null when nothing was pressed. */
  readonly evidence: string | null;
}

/**
 * Answers the open question of a run's agent, on a person's word. Keys are pressed only while the agent's registry says that it waits and its
 * screen is one that was recorded from its version, each time as it was looked at; what was pressed, by whom, is an event. Everything else is
 * refused with the screen (`needs_person`). `delivery_unconfirmed` when the agent still waits afterwards.
 */
export async function answerRun(
  context: DispatchContext,
  dispatcher: Dispatcher,
  runId: string,
  request: AnswerRequest,
): Promise<Answered> {
  const run = await findRun(context.fleet.store.db, runId);
  const window = await agentWindowOf(context, run);
  const worker = await workerNameOf(context, run);
  const { question, screen } = await openQuestion(window, run, worker);
  if (request.choice === undefined)
    return { run, question, chosen: null, keys: [], evidence: null };
  if (request.question !== undefined && request.question !== question.fingerprint) {
    throw notIdentified(
      run,
      `question ${request.question} is not the one that is open`,
      screen,
      worker,
    );
  }
  const chosen = optionOf(question, request.choice);
  const words = wordsOf(question, chosen, request);
  const event = (kind: string, more: Readonly<Record<string, unknown>>) =>
    context.fleet.store.mutate(async (tx) =>
      tx.event({
        kind,
        repo: run.repo,
        run_id: run.run_id,
        worker_id: run.worker_id ?? undefined,
        payload: {
          by: cleanText(request.by, 100),
          question: question.fingerprint,
          asked: cleanText(question.text.join(" "), 300),
          option: chosen.label,
          ...(words === null ? {} : { words }),
          ...more,
        },
      }),
    );
  // Before the first key: what is pressed and not told of would be a decision that nobody made.
  await event("run.answering", {});
  const keys = await press(context, window, run, worker, question, chosen, words);
  const evidence = await confirmed(context, window, question);
  await event("run.answered", { keys, confirmed: evidence !== null, evidence });
  dispatcher.nudge(run.run_id);
  if (evidence === null) {
    throw new OrchestratorError(
      "delivery_unconfirmed",
      `the answer was given, and the agent of run ${run.run_id} still waits`,
      { hint: `look with 'orchestrator attach ${worker}'`, details: { run_id: run.run_id, keys } },
    );
  }
  return {
    run: await findRun(context.fleet.store.db, run.run_id),
    question,
    chosen,
    keys,
    evidence,
  };
}

async function workerNameOf(context: DispatchContext, run: Run): Promise<string> {
  if (run.worker_id === null) return run.run_id;
  return (await findWorker(context.fleet.store.db, run.worker_id)).name;
}

/** The question that is open now: by the registry, and by the screen. */
export async function openQuestion(
  window: AgentWindow,
  run: Run,
  worker: string,
): Promise<{ question: Question; screen: string }> {
  const { registry, attached } = await window.probe();
  const screen = await window.screen();
  if (registry?.status !== "waiting") {
    throw notIdentified(
      run,
      `the agent asks nothing (registry: ${registry?.status ?? "absent"})`,
      screen,
      worker,
    );
  }
  if (attached > 0) throw notIdentified(run, "somebody is attached to the window", screen, worker);
  const question = window.runtime.question(screen, window.version);
  if (question !== null) return { question, screen };
  const dialog = window.runtime.dialog(screen);
  const what =
    dialog === null
      ? "the dialog is not one that was recorded"
      : `the dialog (${dialog.label}) takes no answer from here`;
  const version = window.version === null ? "" : ` in version ${cleanText(window.version, 30)}`;
  throw notIdentified(run, `${what}${version}`, screen, worker);
}

function optionOf(question: Question, choice: string): QuestionOption {
  const wanted = choice.trim().toLowerCase();
  const found = question.options.filter(
    ({ number, label, role }) =>
      role === wanted || String(number) === wanted || label.toLowerCase() === wanted,
  );
  const [option] = found;
  if (found.length === 1 && option !== undefined) return option;
  throw new OrchestratorError(
    "invalid_input",
    `the question has no option ${JSON.stringify(cleanText(choice, 60))}`,
    {
      hint: `its options: ${question.options.map(({ number, label }) => `${number} ${label}`).join("; ")}`,
      details: { options: question.options },
    },
  );
}

/** Words go with `deny` alone: an option named by its number or text is taken as it stands. */
function wordsOf(
  question: Question,
  chosen: QuestionOption,
  request: AnswerRequest,
): string | null {
  const denies = chosen.role === "deny" && request.choice?.trim().toLowerCase() === "deny";
  if (request.because !== undefined && (!denies || question.amendKeys === null)) {
    throw new OrchestratorError("invalid_input", "this answer takes no words", {
      hint: "--because goes with 'deny', where the question lets words be added",
    });
  }
  if (!denies || question.amendKeys === null) return null;
  const words = request.because ?? DENIED;
  if (words !== cleanText(words, MAX_WORDS) || words === "") {
    throw new OrchestratorError(
      "invalid_input",
      `--because wants one line of at most ${MAX_WORDS} plain characters`,
    );
  }
  return words;
}

async function press(
  context: DispatchContext,
  window: AgentWindow,
  run: Run,
  worker: string,
  question: Question,
  chosen: QuestionOption,
  words: string | null,
): Promise<string[]> {
  const { provisioner } = context.fleet;
  const pressed: string[] = [];
  /** Keys on the very screen that `shows` takes for the wanted one; waits until it is drawn. */
  const pressOn = async (shows: (screen: string) => boolean, keys: readonly string[]) => {
    const deadline = context.fleet.clock.monotonic() + DRAWN_WITHIN_MS;
    for (;;) {
      const screen = await window.screen();
      if (shows(screen)) {
        const how = { how: "same", screen } as const;
        const done = await provisioner.press(window.transport, window.session, how, keys);
        if (done === "pressed") return void pressed.push(...keys);
      } else if (context.fleet.clock.monotonic() > deadline) {
        const so = pressed.length === 0 ? "" : ` (after ${pressed.join(" ")})`;
        throw notIdentified(run, `the screen is not the one expected${so}`, screen, worker);
      }
      await context.fleet.clock.sleep(LOOK_MS);
    }
  };
  const isSelected = (number: number) => (screen: string) => {
    const now = window.runtime.question(screen, window.version);
    return now?.fingerprint === question.fingerprint && now.selected === number;
  };
  const steps = chosen.number - question.selected;
  if (steps !== 0) {
    const key = steps > 0 ? "Down" : "Up";
    await pressOn(isSelected(question.selected), Array<string>(Math.abs(steps)).fill(key));
  }
  if (words === null) {
    await pressOn(isSelected(chosen.number), ["Enter"]);
    return pressed;
  }
  await pressOn(isSelected(chosen.number), question.amendKeys ?? []);
  await untilOpenForWords(context, window, run, worker);
  await provisioner.paste(window.transport, window.session, words);
  pressed.push("(words)");
  const { version } = window;
  await pressOn((screen) => window.runtime.hasAmended(screen, version, words), ["Enter"]);
  return pressed;
}

/** Waits until the denial is open for words: until then they would be keys. */
async function untilOpenForWords(
  context: DispatchContext,
  window: AgentWindow,
  run: Run,
  worker: string,
): Promise<void> {
  const deadline = context.fleet.clock.monotonic() + DRAWN_WITHIN_MS;
  for (;;) {
    const screen = await window.screen();
    if (window.runtime.takesWords(screen, window.version)) return;
    if (context.fleet.clock.monotonic() > deadline) {
      throw notIdentified(run, "the question does not take words", screen, worker);
    }
    await context.fleet.clock.sleep(LOOK_MS);
  }
}

/** What the registry says once it no longer waits for this; null when it goes on waiting. */
async function confirmed(
  context: DispatchContext,
  window: AgentWindow,
  question: Question,
): Promise<string | null> {
  const { clock } = context.fleet;
  const deadline = clock.monotonic() + CONFIRMED_WITHIN_MS;
  do {
    const { registry, agent } = await window.probe();
    if (agent?.alive !== true) return "the process has ended";
    if (registry !== null && registry.status !== "waiting") return `registry: ${registry.status}`;
    const next = window.runtime.question(await window.screen(), window.version);
    if (next !== null && next.fingerprint !== question.fingerprint)
      return "another question is open";
    await clock.sleep(LOOK_MS);
  } while (clock.monotonic() < deadline);
  return null;
}
