import { OrchestratorError } from "../domain/errors.ts";
import { parseName, splitWorkerName } from "../domain/names.ts";
import { cleanLine } from "./clean.ts";
import type { Context, HostedController } from "./context.ts";
import { exitCodeOf, INTERRUPTED } from "./errors.ts";
import { followAndReport } from "./follow-command.ts";
import { printJson, printLine } from "./io.ts";
import { isSet, json, textOf, type CommandSpec, type Given, type OptionSpec } from "./spec.ts";
import { openSession, performAt, type Session } from "./session.ts";
import { readTaskText, saysStandardInput, TEXT_NOTES, textOptions } from "./task-text.ts";
import { asDispatched, asPlan } from "./views.ts";

const EXAMPLE = 'orchestrator --repo kite --command "fix the authentication bug"';

const noDaemon: OptionSpec = {
  name: "no-daemon",
  help: "host the controller in this process until the run ends or needs a person",
};

export const commands: readonly CommandSpec[] = [
  {
    path: "dispatch",
    summary: "Give a task to the next idle worker of a pool; one is created when none is idle",
    notes: `${TEXT_NOTES}
Returns once the agent is shown to have the task, or the task is queued. Ctrl-C stops following, never the run.
Exit codes: 0 delivered, queued or completed; 2 wrong input; 3 the pool is full (--on-full fail); 5 the run failed;
6 delivery not confirmed; 7 something cannot be reached; 8 a person is needed; 16 a limit.`,
    arguments: [{ name: "-", help: "read the task from standard input", optional: true }],
    options: [
      { name: "repo", value: "name", help: "the pool (required)" },
      ...textOptions,
      { name: "title", value: "text", help: "short name of the task; default: its beginning" },
      { name: "worker", value: "name", help: "only this worker, for example kite-1" },
      { name: "runtime", value: "name", help: "agent program", choices: ["claude", "shell"] },
      { name: "mode", value: "name", help: "permission mode of the agent program" },
      {
        name: "on-full",
        value: "what",
        help: "when no worker is free: wait in the queue (default), or fail",
        choices: ["queue", "fail"],
      },
      {
        name: "request-id",
        value: "id",
        help: "name of this request: repeated with the same task it never acts twice",
      },
      { name: "wait", help: "follow until the run has ended, or needs a person" },
      { name: "dry-run", help: "show which worker it would be, and why; changes nothing" },
      noDaemon,
      json,
    ],
    examples: [
      EXAMPLE,
      "orchestrator --repo kite --file task.md --wait",
      "git diff | orchestrator --repo kite - --title 'review this patch'",
      'orchestrator --repo kite --command "npm test" --runtime shell --wait --json',
    ],
    run: runDispatch,
  },
];

async function runDispatch(context: Context, given: Given): Promise<number> {
  const repo = requiredRepo(given);
  const worker = workerOption(given);
  if (isSet(given, "dry-run")) return showPlan(context, given, repo, worker);
  const text = await readTaskText(context.io, given, saysStandardInput(given, 0));
  if (text === undefined) throw missing("--command");
  const input = {
    repo,
    text,
    title: textOf(given, "title"),
    worker,
    runtime: textOf(given, "runtime"),
    mode: textOf(given, "mode"),
    on_full: textOf(given, "on-full"),
    // Also without one of the caller's: so the request may be sent again when its answer was lost.
    request_id: textOf(given, "request-id") ?? context.ids().next("request"),
  };
  if (isSet(given, "no-daemon") || context.env.noDaemon)
    return dispatchHosted(context, given, input);
  const session = openSession(context, "controller");
  try {
    return await dispatchAndFollow(context, session, given, input, isSet(given, "wait"));
  } finally {
    await session.close();
  }
}

async function dispatchAndFollow(
  context: Context,
  session: Session,
  given: Given,
  input: { readonly request_id: string },
  wait: boolean,
  interruptedNote?: string,
): Promise<number> {
  const asJson = isSet(given, "json");
  const signal = context.interruption();
  let answer: unknown;
  try {
    answer = await session.call("dispatch", input, { repeatable: true, signal });
  } catch (error) {
    if (!signal.aborted) throw error;
    context.io.writeError(
      `\nstopped waiting; the task may have been taken: 'orchestrator run list' shows it, and\nthe same command with --request-id ${cleanLine(input.request_id)} does not give it twice\n`,
    );
    return INTERRUPTED;
  }
  const { run, replayed } = asDispatched(answer);
  if (!asJson) {
    printLine(context.io, `run       ${run.run_id}: ${cleanLine(run.task, 100)}`);
    if (replayed) printLine(context.io, "          (taken before under this request id)");
  }
  return followAndReport(context, session, run, {
    until: wait ? "ended" : "delivered",
    json: asJson,
    after: 0,
    ...(interruptedNote === undefined ? {} : { interruptedNote }),
  });
}

/** Hosts the controller here, unless one is running: then that one does the work. */
async function dispatchHosted(
  context: Context,
  given: Given,
  input: { readonly request_id: string },
): Promise<number> {
  const hosted = await hostUnlessRunning(context);
  const session = openSession(context, "running");
  try {
    const note =
      hosted === undefined
        ? undefined
        : "its agent goes on, and any next command takes the run up again";
    return await dispatchAndFollow(context, session, given, input, true, note);
  } finally {
    await session.close();
    await hosted?.stop();
  }
}

async function hostUnlessRunning(context: Context): Promise<HostedController | undefined> {
  try {
    return await context.hostController({ idleExit: false });
  } catch (error) {
    const isHeld = error instanceof Error && "code" in error && error.code === "lease_held";
    if (!isHeld) throw error;
    context.io.writeError("a controller is running already: it takes the task\n");
    return undefined;
  }
}

async function showPlan(
  context: Context,
  given: Given,
  repo: string,
  worker: string | undefined,
): Promise<number> {
  const plan = asPlan(
    await performAt(context, "controller", "dispatch.plan", { repo, worker }, { repeatable: true }),
  );
  if (isSet(given, "json")) printJson(context.io, plan);
  else {
    printLine(
      context.io,
      `${plan.kind}${plan.worker === null ? "" : ` ${plan.worker}`}: ${cleanLine(plan.reason)}`,
    );
    for (const { worker: name, verdict } of plan.considered) {
      printLine(context.io, `  ${name}: ${cleanLine(verdict)}`);
    }
  }
  return plan.kind === "refuse" ? exitCodeOf("nothing_available") : 0;
}

function requiredRepo(given: Given): string {
  const repo = textOf(given, "repo");
  if (repo === undefined) throw missing("--repo");
  return parseName(repo, "--repo");
}

function workerOption(given: Given): string | undefined {
  const worker = textOf(given, "worker");
  if (worker === undefined || splitWorkerName(worker) !== undefined) return worker;
  throw new OrchestratorError(
    "invalid_input",
    `--worker ${JSON.stringify(worker.slice(0, 60))} is no worker's name`,
    { hint: "a worker is called after its pool and number, for example kite-1" },
  );
}

function missing(option: string): OrchestratorError {
  return new OrchestratorError("invalid_input", `${option} is missing`, {
    hint: `for example: ${EXAMPLE}`,
  });
}
