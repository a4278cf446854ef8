import { spawn, type ChildProcess } from "node:child_process";
import {
  closeSync,
  existsSync,
  fstatSync,
  linkSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { fromWireError, OrchestratorError, type WireError } from "../domain/errors.ts";
import { environmentForController } from "../config/env.ts";
import { ensureHome } from "../config/paths.ts";
import type { Client } from "../operations/client.ts";
import type { Context } from "./context.ts";
import { exitCodeOf } from "./errors.ts";
import { connectTo } from "./session.ts";

/** How long a controller may take until its socket answers. */
const START_MS = 60_000;
const LOOK_MS = 15;
/** How long to leave a controller alone that has the lock and no socket. */
const HELD_MS = 250;
/** After this a turn counts as abandoned even if a process of its number lives. */
const TURN_MS = 120_000;

/**
 * Starts a detached controller and waits until it answers, or has ended: then its own error is thrown. Of many that call
 * this at once one starts it and the others wait for its socket; the controller's lock is what keeps it single.
 */
export async function startController(
  context: Context,
  options: { readonly isBrief: boolean } = { isBrief: false },
): Promise<Client> {
  await ensureHome(context.paths);
  const clock = context.clock();
  const deadline = clock.monotonic() + (context.startMs ?? START_MS);
  const turn = startTurn(context);
  let started: Started | undefined;
  let held = false;
  let notBefore = 0;
  try {
    for (let now = clock.monotonic(); now < deadline; now = clock.monotonic()) {
      const client = await connectTo(context);
      if (client !== undefined) return client;
      const exit = started?.exit();
      if (exit !== undefined) {
        // Another controller has the lock: it is starting, or has closed its socket and is about to end.
        if (exit.code !== exitCodeOf("lease_held")) throw itsError(exit);
        held = true;
        started = undefined;
        turn.giveBack();
        notBefore = now + HELD_MS;
      }
      if (started === undefined && now >= notBefore && turn.take()) {
        // Whoever had the turn before has given it back because one answers: look again before starting another.
        const answering = await connectTo(context);
        if (answering !== undefined) return answering;
        started = start(context, options.isBrief);
      }
      await clock.sleep(LOOK_MS);
    }
  } finally {
    started?.leave();
    turn.giveBack();
  }
  throw new OrchestratorError(
    "unreachable",
    held
      ? "another controller holds the lock and does not answer at its socket"
      : "the controller was started and does not answer",
    {
      hint: `its log is ${context.paths.controllerLog}`,
      retryable: true,
      details: { log: context.paths.controllerLog },
    },
  );
}

interface Exit {
  readonly code: number | null;
  readonly log: string;
}

interface Started {
  /** Undefined while it runs. */
  exit(): Exit | undefined;
  /** Lets it live on without us. */
  leave(): void;
}

/** A brief one is started by cron, whose environment has neither credentials nor tools: it must not be there for the next dispatch. */
const BRIEF = { ORCHESTRATOR_IDLE_EXIT_MINUTES: "0.25" };

function start(context: Context, isBrief: boolean): Started {
  const [command, ...args] = context.program;
  const log = openSync(context.paths.controllerLog, "a+", 0o600);
  const logStart = fstatSync(log).size;
  let child: ChildProcess;
  let code: number | null | undefined;
  try {
    child = spawn(command, [...args, "serve", "--detached"], {
      cwd: existsSync(context.env.userHome) ? context.env.userHome : context.paths.home,
      detached: true,
      env: { ...(isBrief ? BRIEF : {}), ...environmentForController() },
      stdio: ["ignore", log, log],
    });
  } finally {
    closeSync(log);
  }
  child.on("error", () => {
    code = null;
  });
  child.on("exit", (exitCode) => {
    code = exitCode;
  });
  return {
    exit: () =>
      code === undefined
        ? undefined
        : { code, log: readTail(context.paths.controllerLog, logStart) },
    leave: () => child.unref(),
  };
}

/** What the controller said before it ended. */
function itsError(exit: Exit): OrchestratorError {
  const error = lastError(exit.log);
  if (error !== undefined) return fromWireError(error);
  const last = exit.log.trim().split("\n").at(-1) ?? "";
  return new OrchestratorError(
    "unreachable",
    `the controller ended while it started (exit code ${exit.code ?? "unknown"})${last === "" ? "" : `: ${last}`}`,
    { hint: "run 'orchestrator serve' to see why" },
  );
}

/** `serve --detached` writes its error as a line of JSON. */
function lastError(log: string): WireError | undefined {
  for (const line of log.split("\n").reverse()) {
    try {
      const value: unknown = JSON.parse(line);
      if (typeof value !== "object" || value === null || !("error" in value)) continue;
      return value.error as WireError;
    } catch {
      // A line of another kind.
    }
  }
  return undefined;
}

function readTail(path: string, from: number): string {
  const file = openSync(path, "r");
  try {
    const { size } = fstatSync(file);
    const start = Math.max(from, size - 64 * 1024);
    const bytes = Buffer.alloc(Math.max(0, size - start));
    const read = readSync(file, bytes, 0, bytes.length, start);
    return bytes.subarray(0, read).toString("utf8");
  } finally {
    closeSync(file);
  }
}

/**
 * Whose turn it is to start the controller: a file beside the socket names the process. It only saves starts that would
 * lose against the controller's lock, so it may be taken over when its process is gone.
 */
function startTurn({ paths, clock }: Context) {
  const path = `${paths.controllerLock}.starting`;
  const own = `${path}.${process.pid}`;
  let mine = false;
  return {
    take(): boolean {
      // A link to a file that already holds its content: never seen empty.
      writeFileSync(own, `${process.pid}\n`, { mode: 0o600 });
      try {
        linkSync(own, path);
        mine = true;
      } catch (error) {
        if (!hasCode(error, "EEXIST")) throw error;
        if (isAbandoned(path, clock().now())) rmSync(path, { force: true });
      } finally {
        rmSync(own, { force: true });
      }
      return mine;
    },
    giveBack() {
      if (mine) rmSync(path, { force: true });
      mine = false;
    },
  };
}

function isAbandoned(path: string, now: number): boolean {
  try {
    if (Math.abs(now - statSync(path).mtimeMs) > TURN_MS) return true;
    process.kill(Number.parseInt(readFileSync(path, "utf8"), 10), 0);
    return false;
  } catch (error) {
    // Another user's process lives; a file that just went away is nobody's.
    return !hasCode(error, "EPERM") && !hasCode(error, "ENOENT");
  }
}

const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && "code" in error && error.code === code;
