#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { runCli } from "./cli/cli.ts";
import type { Context } from "./cli/context.ts";
import { showError } from "./cli/errors.ts";
import { processIo } from "./cli/process-io.ts";
import { readEnv, type Env } from "./config/env.ts";
import { OrchestratorError } from "./domain/errors.ts";
import { homePaths } from "./config/paths.ts";
import { systemClock, type Clock } from "./platform/clock.ts";
import { randomIds, type Ids } from "./platform/ids.ts";

/** As shells say of a program that a closed pipe or Ctrl-C has ended. */
const BROKEN_PIPE = 141;
const INTERRUPTED = 130;
/** Colours of a terminal before its environment is known. */
const PLAIN = { noColor: true, term: undefined };

/** Put in by scripts/build.ts. */
declare const ORCHESTRATOR_VERSION: string | undefined;

function readVersion(): string {
  if (typeof ORCHESTRATOR_VERSION === "string") return ORCHESTRATOR_VERSION;
  const text = readFileSync(join(import.meta.dirname, "..", "package.json"), "utf8");
  const { version } = JSON.parse(text) as { version: string };
  return version;
}

/** An older one would fail later, in words nobody understands. */
function refuseOldNode(): void {
  const [major = "0"] = process.versions.node.split(".");
  if (Number(major) >= 24) return;
  throw new OrchestratorError(
    "invalid_config",
    `this is Node ${process.version}, and 24 or newer is needed`,
  );
}

function interruption(): AbortSignal {
  const asked = new AbortController();
  const onSignal = () => {
    if (asked.signal.aborted) process.exit(INTERRUPTED);
    asked.abort(new Error("interrupted"));
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  return asked.signal;
}

function contextOf(env: Env, io: Context["io"]): Context {
  const version = readVersion();
  const paths = homePaths(env.home);
  let clock: Clock | undefined;
  let ids: Ids | undefined;
  let interrupted: AbortSignal | undefined;
  const context: Context = {
    env,
    paths,
    version,
    io,
    clock: () => (clock ??= systemClock()),
    ids: () => (ids ??= randomIds()),
    program: [process.execPath, ...process.execArgv, process.argv[1] ?? ""],
    async openInProcess() {
      const { openInProcess } = await import("./operations/in-process.ts");
      return openInProcess({ env, paths, version, clock: context.clock(), ids: context.ids() });
    },
    async hostController({ idleExit }) {
      const { startController } = await import("./controller/controller.ts");
      const lifetime = idleExit ? "on-demand" : "serve";
      const controller = await startController({ env, version, lifetime });
      return { ended: controller.finished, stop: controller.stop };
    },
    async trials() {
      const { openTrials } = await import("./controller/trials.ts");
      return openTrials({ env, paths, version });
    },
    interruption: () => (interrupted ??= interruption()),
  };
  return context;
}

async function main(): Promise<number> {
  const endQuietly = () => process.exit(BROKEN_PIPE);
  const argv = process.argv.slice(2);
  let env: Env;
  try {
    refuseOldNode();
    env = readEnv();
  } catch (error) {
    return showError(processIo(PLAIN, endQuietly), error, argv.includes("--json"));
  }
  const io = processIo(env, endQuietly);
  if (io.isErrorTerminal)
    for (const warning of env.warnings) io.writeError(`warning: ${warning}\n`);
  const code = await runCli(contextOf(env, io), argv);
  await io.flush();
  return code;
}

// All that was written is flushed: nothing that still lingers may hold the process back.
void main().then((code) => process.exit(code));
