import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import type { AgentStatus } from "../../src/domain/status.ts";
import type { RunDetailView, RunView, SentView } from "../../src/operations/views.ts";
import { parseLine } from "../../src/runtimes/parse-line.ts";
import type { WorkerLine } from "../../src/runtimes/signal.ts";
import { startMessagesApi } from "../fakes/messages-api.ts";
import type { MessagesApi, MessagesApiOptions } from "../fakes/messages-api.ts";
import { claudeCli, DUMMY_KEY } from "./claude-cli.ts";
import { controllerLog, installation, type Installation } from "./installation.ts";
import { until } from "./wait.ts";

const execute = promisify(execFile);

const cli = await claudeCli();

/** Why tests with the real CLI are skipped, or false. */
export const skip: string | false = cli.kind === "missing" ? cli.reason : false;

/** The machine may be busy with other tests: a turn that takes a second alone can take many. */
export const TIMEOUT_MS = 90_000;

/** A pool whose workers run the real Claude Code CLI against a stub of its API, through the whole product. */
export interface ClaudeFleet extends Installation {
  readonly api: MessagesApi;
  /** Gives a task in the unattended mode; `mode` chooses another. */
  start(text: string, more?: Readonly<Record<string, unknown>>): Promise<RunDetailView>;
  show(runId: string): Promise<RunDetailView>;
  /** Waits for the run's end. */
  ends(runId: string): Promise<RunDetailView>;
  /** Waits until the agent's status is this one. */
  shows(runId: string, status: AgentStatus): Promise<RunDetailView>;
  /** Sends a follow-up to a run or a worker's last run; the run that carries it, and the message. */
  send(target: string, text: string, more?: Readonly<Record<string, unknown>>): Promise<SentView>;
  /** Waits until the run looks like this; when it does not: the last look and the agent's screen in the error. */
  reaches(
    runId: string,
    wanted: (run: RunDetailView) => boolean,
    what: string,
    timeoutMs?: number,
  ): Promise<RunDetailView>;
  tmux(worker: string, ...args: string[]): Promise<string>;
  /** Keys as an operator presses them in the agent's window. */
  press(worker: string, ...keys: string[]): Promise<void>;
  /** The agent's screen as an operator sees it. */
  screen(worker: string): Promise<string>;
  /** Name of the agent's window. */
  windowName(worker: string): Promise<string>;
  /** The agent's process. */
  pid(run: RunDetailView): Promise<number>;
  /** The worker's lines of the run. */
  lines(run: RunView): WorkerLine[];
  /** Kinds and payloads of the run's events, one line each, for messages of failing tests. */
  history(runId: string): Promise<string>;
}

export interface ClaudeFleetOptions {
  readonly api?: MessagesApiOptions;
  readonly repo?: Readonly<Record<string, unknown>>;
  readonly files?: Readonly<Record<string, string>>;
  readonly authKind?: "api-key" | "auth-token";
  readonly config?: Readonly<Record<string, unknown>>;
  readonly version?: string;
}

/** No traffic but to the stub, and no patience with its errors. */
const QUIET = {
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
  CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL: "1",
  CLAUDE_CODE_MAX_RETRIES: "1",
  DISABLE_AUTOUPDATER: "1",
  DISABLE_ERROR_REPORTING: "1",
  DISABLE_TELEMETRY: "1",
};

export async function claudeFleet(options: ClaudeFleetOptions = {}): Promise<ClaudeFleet> {
  if (cli.kind === "missing") throw new Error(cli.reason);
  const api = await startMessagesApi(options.api);
  const place = mkdtempSync(join(tmpdir(), "cf-"));
  // The operator has the program on the path, and nothing else of the cached package.
  const programs = join(place, "bin");
  const temporary = join(place, "tmp");
  mkdirSync(programs);
  mkdirSync(temporary);
  symlinkSync(cli.path, join(programs, "claude"));
  const installed = installation({
    ...(options.files === undefined ? {} : { files: options.files }),
    ...(options.version === undefined ? {} : { version: options.version }),
    env: {
      PATH: [programs, dirname(process.execPath), "/usr/local/bin", "/usr/bin", "/bin"].join(
        delimiter,
      ),
      AGENT_KEY: DUMMY_KEY,
    },
  });
  installed.configure(
    {
      runtime: "claude",
      auth: { kind: options.authKind ?? "api-key", secret: "env:AGENT_KEY", baseUrl: api.url },
      env: { ...QUIET, TMPDIR: temporary },
      ...options.repo,
    },
    // A busy machine must not look like an agent that does not answer.
    options.config ?? { delivery: { confirmSeconds: 90 } },
  );

  const show = (runId: string) => installed.call<RunDetailView>("run.show", { run_id: runId });
  const tmux = async (worker: string, ...args: string[]) => {
    const { env } = await installed.call<{ env: Record<string, string> }>("worker.attach", {
      worker,
    });
    const { stdout } = await execute("tmux", ["-u", ...args], {
      env: { PATH: process.env["PATH"], LANG: "C.UTF-8", ...env },
    });
    return stdout;
  };
  const screen = (worker: string) => tmux(worker, "capture-pane", "-p", "-t", "=kite-dev:1");

  const history = async (runId: string) =>
    (await installed.events(runId))
      .map(({ at, kind, payload }) => `${at} ${kind} ${JSON.stringify(payload).slice(0, 400)}`)
      .join("\n");
  const reaches: ClaudeFleet["reaches"] = async (runId, wanted, what, timeoutMs = TIMEOUT_MS) => {
    let last: RunDetailView | undefined;
    const look = async () => {
      last = await show(runId);
      return wanted(last) ? last : undefined;
    };
    return until(look, { what, timeoutMs }).catch(async (error: unknown) => {
      const shown = last?.worker == null ? "" : await screen(last.worker).catch(String);
      const log = controllerLog(installed).split("\n").slice(-20).join("\n");
      const told = `${JSON.stringify(last?.status, null, 1)}\n${await history(runId)}`;
      throw new Error(`${what}: run is ${last?.state}\n${told}\n${shown}\n${log}`, {
        cause: error,
      });
    });
  };

  return {
    ...installed,
    api,
    show,
    tmux,
    screen,
    history,
    reaches,
    async start(text, more = {}) {
      const run = await installed.dispatch(text, { mode: "bypassPermissions", ...more });
      return show(run.run_id);
    },
    ends: (runId) => reaches(runId, (run) => run.finished_at !== null, "the end"),
    shows: (runId, status) =>
      reaches(runId, (run) => run.status?.status === status, `the status ${status}`),
    send: (target, text, more = {}) => installed.call<SentView>("send", { target, text, ...more }),
    async press(worker, ...keys) {
      await tmux(worker, "send-keys", "-t", "=kite-dev:1", ...keys);
    },
    windowName: async (worker) =>
      (await tmux(worker, "display-message", "-p", "-t", "=kite-dev:1", "#{window_name}")).trim(),
    async pid(run) {
      const gate = `.orchestrator/runs/${run.run_id}/launch-${run.launch}`;
      const text = readFileSync(join(installed.homeOf(run.worker ?? ""), gate), "utf8");
      return Number(text.split(" ")[0]);
    },
    lines(run) {
      const file = `.orchestrator/runs/${run.run_id}/events.jsonl`;
      const text = readFileSync(join(installed.homeOf(run.worker ?? ""), file), "utf8");
      return text
        .split("\n")
        .map((raw) => parseLine(raw))
        .filter((line) => line !== null);
    },
    async [Symbol.asyncDispose]() {
      await installed[Symbol.asyncDispose]();
      await api[Symbol.asyncDispose]();
      rmSync(place, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
}
