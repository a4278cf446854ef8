import { readFileSync } from "node:fs";
import { OrchestratorError } from "../domain/errors.ts";
import { cleanLine } from "./clean.ts";
import type { Context } from "./context.ts";
import { asOrchestratorError, exitCodeOf, toJsonError } from "./errors.ts";
import { formatTime, plural } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import { connectTo, performAt } from "./session.ts";
import { isSet, json, type CommandSpec, type Given } from "./spec.ts";
import { asPong, asStopping } from "./views.ts";

/** How long a controller may take to stop (ms): it closes connections and the store. */
const STOP_MS = 30_000;
const LOOK_MS = 20;

export const commands: readonly CommandSpec[] = [
  {
    path: "serve",
    summary: "Run the controller in the foreground until it is stopped",
    notes:
      "There is no need to: any command that needs the controller starts it. One that was started here does not end when idle.",
    options: [
      { name: "detached", help: "as started by other commands: ends when idle, errors as JSON" },
    ],
    examples: ["orchestrator serve"],
    run: runServe,
  },
  {
    path: "stop",
    summary:
      "Stop the controller; agents go on, and their runs are taken up again at its next start",
    options: [json],
    examples: ["orchestrator stop"],
    run: runStop,
  },
  {
    path: "ping",
    summary: "Ask whether the controller answers, and what it is; starts none",
    options: [json],
    examples: ["orchestrator ping"],
    async run(context, given) {
      const pong = asPong(
        await performAt(context, "running", "controller.ping", {}, { repeatable: true }),
      );
      if (isSet(given, "json")) printJson(context.io, pong);
      else {
        printLine(
          context.io,
          `controller ${pong.pid}, version ${cleanLine(pong.version, 40)}, since ${formatTime(pong.started_at)}, ${plural(pong.live_runs, "live run")}`,
        );
      }
      return 0;
    },
  },
];

async function runServe(context: Context, given: Given): Promise<number> {
  const detached = isSet(given, "detached");
  const signal = context.interruption();
  try {
    const hosted = await context.hostController({ idleExit: detached });
    if (!detached)
      printLine(context.io, `controller ${process.pid} answers at ${context.paths.socket}`);
    const interrupted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve());
    });
    await Promise.race([hosted.ended, interrupted]);
    await hosted.stop();
    return 0;
  } catch (thrown) {
    if (!detached) throw thrown;
    // Who started it reads this line from the log.
    const error = asOrchestratorError(thrown);
    context.io.writeError(`${JSON.stringify({ error: toJsonError(error) })}\n`);
    return exitCodeOf(error.code);
  }
}

async function runStop(context: Context, given: Given): Promise<number> {
  const asJson = isSet(given, "json");
  const client = await connectTo(context);
  if (client === undefined) {
    if (asJson) printJson(context.io, { running: false, live_runs: 0 });
    else printLine(context.io, "no controller is running");
    return 0;
  }
  const { pid } = asPong(await client.call("controller.ping", {}));
  const answer = asStopping(await client.call("controller.stop", {}));
  await client.close();
  await untilGone(context, pid);
  if (asJson) printJson(context.io, { running: false, live_runs: answer.live_runs });
  else {
    const runs =
      answer.live_runs === 0
        ? ""
        : `; ${plural(answer.live_runs, "live run")} will be taken up again`;
    printLine(context.io, `the controller has stopped${runs}`);
  }
  return 0;
}

/** The socket goes first; the lock is free, and the home another's to use, only when the process is gone. */
async function untilGone(context: Context, pid: number): Promise<void> {
  const clock = context.clock();
  const deadline = clock.monotonic() + STOP_MS;
  while (clock.monotonic() < deadline) {
    if (!isAlive(pid)) return;
    await clock.sleep(LOOK_MS);
  }
  throw new OrchestratorError(
    "unreachable",
    `the controller (process ${pid}) was asked to stop and still runs`,
    {
      hint: `its log is ${context.paths.controllerLog}`,
      retryable: true,
    },
  );
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
  return !isZombie(pid);
}

/** One that nobody has waited for yet holds no lock any more. */
function isZombie(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return /^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}
