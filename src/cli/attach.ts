import { spawn } from "node:child_process";
import { OrchestratorError } from "../domain/errors.ts";
import { splitWorkerName } from "../domain/names.ts";
import { cleanLine } from "./clean.ts";
import type { Context } from "./context.ts";
import { printJson, printLine } from "./io.ts";
import { targetName } from "./run-target.ts";
import { performAt } from "./session.ts";
import { argumentOf, isSet, json, printOption, type CommandSpec, type Given } from "./spec.ts";
import { asAttachment, asRunDetail } from "./views.ts";

export const commands: readonly CommandSpec[] = [
  {
    path: "attach",
    summary: "Put your terminal into a worker's tmux; detach with Ctrl-b d",
    notes:
      "While somebody is attached, the worker is not idle and nothing is typed into its window.",
    arguments: [{ name: "target", help: "a worker or a run" }],
    options: [printOption, json],
    examples: ["orchestrator attach kite-1", "orchestrator attach run-7k3m9x2q0abc"],
    run: runAttach,
  },
];

/** Runs what puts the operator there, on this terminal; its exit code is ours. */
export async function runAttach(context: Context, given: Given): Promise<number> {
  return goTo(context, given, "worker.attach", await workerOf(context, argumentOf(given, 0)));
}

/** For `worker.attach` and `worker.console`. */
export async function goTo(
  context: Context,
  given: Given,
  operation: string,
  worker: string,
): Promise<number> {
  const attachment = asAttachment(
    await performAt(context, "controller", operation, { worker }, { repeatable: true }),
  );
  const { io } = context;
  if (isSet(given, "json")) printJson(io, attachment);
  else if (isSet(given, "print")) printLine(io, cleanLine(attachment.command, 4_000));
  else if (!io.isTerminal || io.stdin.kind !== "terminal") {
    throw new OrchestratorError("needs_person", "there is no terminal here to attach", {
      hint: `run it in a terminal: ${attachment.command}`,
    });
  } else return runOnTerminal(attachment.argv, attachment.env);
  return 0;
}

async function workerOf(context: Context, target: string): Promise<string> {
  if (splitWorkerName(target) !== undefined) return target;
  const input = { run_id: targetName(target) };
  const run = asRunDetail(
    await performAt(context, "store", "run.show", input, { repeatable: true }),
  );
  if (run.worker !== null) return run.worker;
  throw new OrchestratorError(
    "nothing_available",
    `run ${run.run_id} has no worker (it is ${run.state})`,
  );
}

function runOnTerminal(
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<number> {
  const [command = "", ...args] = argv;
  return new Promise((resolve, reject) => {
    // The terminal's signals reach the child by themselves; this process stays until it has ended.
    const ignore = () => {};
    process.on("SIGINT", ignore).on("SIGQUIT", ignore);
    const child = spawn(command, args, { stdio: "inherit", env: mergedEnv(env) });
    child.once("error", (cause) => {
      reject(
        new OrchestratorError("unreachable", `${cleanLine(command, 100)} could not be run`, {
          cause,
          hint: "is it installed on this machine?",
        }),
      );
    });
    child.once("exit", (code) => {
      process.off("SIGINT", ignore).off("SIGQUIT", ignore);
      resolve(code ?? 1);
    });
  });
}

// oxlint-disable-next-line no-restricted-properties -- the person's own environment, handed on as it is
const mergedEnv = (env: Readonly<Record<string, string>>) => ({ ...process.env, ...env });
