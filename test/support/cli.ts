import { join } from "node:path";
import { runCli } from "../../src/cli/cli.ts";
import type { Context } from "../../src/cli/context.ts";
import type { StandardInput } from "../../src/cli/io.ts";
import { readEnv } from "../../src/config/env.ts";
import { homePaths } from "../../src/config/paths.ts";
import type { Client } from "../../src/operations/client.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";

export interface CliSetting {
  readonly home: string;
  /** What is piped in; `terminal`: a person sits there. */
  readonly stdin?: string | undefined;
  /** What questions on a terminal are answered with. */
  readonly answers?: readonly string[];
  readonly terminal?: boolean;
  readonly colours?: boolean;
  readonly columns?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly silentMs?: number;
  readonly startMs?: number;
  readonly version?: string;
  readonly program?: Context["program"];
  readonly interrupt?: AbortSignal;
  readonly openInProcess?: () => Promise<Client>;
  readonly hostController?: Context["hostController"];
  readonly trials?: Context["trials"];
}

export interface CliResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs one command line in this process, with streams and environment of its own. */
export async function cli(argv: readonly string[], setting: CliSetting): Promise<CliResult> {
  let out = "";
  let err = "";
  const { home, terminal = false } = setting;
  const env = readEnv({
    PATH: process.env["PATH"],
    HOME: home,
    TERM: "xterm",
    ...setting.env,
    ORCHESTRATOR_HOME: join(home, "o"),
  });
  const clock = systemClock();
  const ids = randomIds();
  const context: Context = {
    env,
    paths: homePaths(env.home),
    version: setting.version ?? "0.1.0",
    io: {
      write: (text) => {
        out += text;
      },
      writeError: (text) => {
        err += text;
      },
      isTerminal: terminal,
      isErrorTerminal: terminal,
      columns: setting.columns ?? Infinity,
      hasColours: setting.colours ?? false,
      stdin: standardInput(setting),
    },
    clock: () => clock,
    ids: () => ids,
    program: setting.program ?? ["/nonexistent/orchestrator"],
    silentMs: setting.silentMs ?? 10_000,
    startMs: setting.startMs ?? 20_000,
    openInProcess:
      setting.openInProcess ?? (() => Promise.reject(new Error("no store in this test"))),
    hostController:
      setting.hostController ?? (() => Promise.reject(new Error("no controller in this test"))),
    trials: setting.trials ?? (() => Promise.reject(new Error("no trials in this test"))),
    interruption: () => setting.interrupt ?? new AbortController().signal,
  };
  const code = await runCli(context, argv);
  return { code, out, err };
}

function standardInput({ stdin, answers = [] }: CliSetting): StandardInput {
  const left = [...answers];
  return {
    kind: stdin === "terminal" ? "terminal" : stdin === undefined ? "nothing" : "data",
    async read(maxBytes) {
      const bytes = Buffer.from(stdin ?? "");
      return bytes.length > maxBytes ? undefined : bytes;
    },
    ask: async () => left.shift(),
  };
}

export const socketOf = (home: string): string => join(home, "o", "controller.sock");

/** Lines of JSON, every one of which must parse. */
export const jsonLines = (text: string): Array<Record<string, unknown>> =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
