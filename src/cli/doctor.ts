import { spawn } from "node:child_process";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { environmentForController } from "../config/env.ts";
import type { Check } from "../domain/check.ts";
import { parseName } from "../domain/names.ts";
import { cleanLine } from "./clean.ts";
import { paletteOf, type Palette } from "./colour.ts";
import type { Context } from "./context.ts";
import { asOrchestratorError, exitCodeOf, INTERRUPTED } from "./errors.ts";
import { plural } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import { argumentOf, isSet, json, textOf, type CommandSpec, type Given } from "./spec.ts";

/** How long a trial may take to clean up after itself (ms). */
const CLEAN_UP_MS = 60_000;

export const commands: readonly CommandSpec[] = [
  {
    path: "doctor",
    summary: "Look at every prerequisite, then prove with a throw-away worker that it all works",
    notes: `Each finding comes with its fix. The proof makes a worker in a temporary home of its own (runtime claude where a credential is configured, which
costs one short turn; else shell), waits until the agent's own hook shows its message, reads its status and destroys it. Nothing is left behind.
Exit codes: 0 healthy (warnings included); 17 something failed. With --json: one object a check {"check","state":"ok|warn|fail|skip","detail","fix"?},
then {"healthy","failed":[...],"warned":[...]}.`,
    options: [
      { name: "repo", value: "name", help: "prove it with this repo instead of an internal one" },
      { name: "quick", help: "without the proof" },
      json,
    ],
    examples: [
      "orchestrator doctor",
      "orchestrator doctor --quick",
      "orchestrator doctor --repo kite --json",
    ],
    run: runDoctor,
  },
  {
    path: "doctor-trial",
    summary:
      "The proof of 'doctor', in a process of its own; ends and cleans up when its standard input ends",
    arguments: [
      { name: "folder", help: "an empty folder of its own" },
      { name: "repo", help: "the repo to prove it with", optional: true },
    ],
    options: [json],
    examples: ["orchestrator doctor-trial /tmp/so-doctor-x"],
    run: runTrialHere,
  },
];

async function runDoctor(context: Context, given: Given): Promise<number> {
  const asJson = isSet(given, "json");
  const repo = textOf(given, "repo");
  if (repo !== undefined) parseName(repo, "--repo");
  const palette = paletteOf(context.io);
  const found: Check[] = [];
  const tell = (check: Check) => {
    found.push(check);
    if (asJson) printJson(context.io, check);
    else for (const line of describe(check, palette)) printLine(context.io, line);
  };
  const signal = context.interruption();
  const { localChecks } = await import("./doctor-checks.ts");
  await localChecks(context, tell, signal);
  if (signal.aborted) return INTERRUPTED;
  if (isSet(given, "quick")) tell({ check: "proof", state: "skip", detail: "left out by --quick" });
  else await prove(context, repo, tell, signal);
  if (signal.aborted) return INTERRUPTED;
  const named = (state: Check["state"]) =>
    found.filter((check) => check.state === state).map(({ check }) => check);
  const [failed, warned] = [named("fail"), named("warn")];
  const healthy = failed.length === 0;
  if (asJson) printJson(context.io, { healthy, failed, warned });
  else if (healthy)
    printLine(
      context.io,
      palette.green(`healthy${warned.length === 0 ? "" : `, ${plural(warned.length, "warning")}`}`),
    );
  else
    context.io.writeError(
      `error: unhealthy: ${failed.map((name) => cleanLine(name, 80)).join(", ")}\n`,
    );
  return healthy ? 0 : exitCodeOf("unhealthy");
}

function describe({ check, state, detail, fix }: Check, palette: Palette): string[] {
  const paint = { ok: palette.green, warn: palette.yellow, fail: palette.red, skip: palette.dim }[
    state
  ];
  const line = `${paint(state.padEnd(4))}  ${cleanLine(check, 60).padEnd(20)}  ${cleanLine(detail, 300)}`;
  return fix === undefined ? [line] : [line, `      ${"".padEnd(20)}  fix: ${cleanLine(fix, 300)}`];
}

/** In a process of its own that cleans up when this one is gone, however it went; and this one looks after it. */
async function prove(
  context: Context,
  repo: string | undefined,
  tell: (check: Check) => void,
  signal: AbortSignal,
): Promise<void> {
  const trials = await context.trials();
  await trials.sweep(tmpdir(), context.clock().now());
  const folder = await mkdtemp(join(tmpdir(), "so-doctor-"));
  try {
    await runChild(context, [folder, ...(repo === undefined ? [] : [repo])], tell, signal);
  } finally {
    await trials.remove(folder);
  }
}

async function runChild(
  context: Context,
  args: readonly string[],
  tell: (check: Check) => void,
  signal: AbortSignal,
): Promise<void> {
  const [command, ...words] = context.program;
  const child = spawn(command, [...words, "doctor-trial", ...args, "--json"], {
    // A group of its own: Ctrl-C at the terminal is for us, and we tell it.
    detached: true,
    env: environmentForController(),
    stdio: ["pipe", "pipe", "ignore"],
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once("error", () => resolve(null));
    child.once("close", (code) => resolve(code));
  });
  child.stdin.on("error", () => {});
  let text = "";
  let told = 0;
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) {
      told += 1;
      if (!signal.aborted) tell(JSON.parse(line) as Check);
    }
  });
  const over = new AbortController();
  const stop = () => {
    child.stdin.end();
    context
      .clock()
      .sleep(CLEAN_UP_MS, over.signal)
      .then(() => child.kill("SIGKILL"))
      .catch(() => {});
  };
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  const code = await ended;
  over.abort();
  signal.removeEventListener("abort", stop);
  if (!signal.aborted && (code !== 0 || told === 0)) {
    tell({
      check: "proof",
      state: "fail",
      detail: `the trial ended by itself (${code ?? "signal"})`,
      fix: "run 'orchestrator doctor' again",
    });
  }
}

async function runTrialHere(context: Context, given: Given): Promise<number> {
  const ending = new AbortController();
  // Whoever started it holds the other end, and the system closes it when that process is gone.
  void context.io.stdin.read(1).then(
    () => ending.abort(new Error("nobody waits for the trial any more")),
    () => ending.abort(new Error("nobody waits for the trial any more")),
  );
  const trials = await context.trials();
  try {
    await trials.run({
      folder: argumentOf(given, 0),
      repo: given.arguments[1],
      signal: AbortSignal.any([context.interruption(), ending.signal]),
      emit: (check) => printJson(context.io, check),
    });
  } catch (thrown) {
    const error = asOrchestratorError(thrown);
    if (ending.signal.aborted) return INTERRUPTED;
    printJson(context.io, {
      check: "proof",
      state: "fail",
      detail: error.message,
      fix: error.hint ?? "read the message",
    });
  }
  return 0;
}
