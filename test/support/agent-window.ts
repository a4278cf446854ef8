import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readFile,
  realpath,
  rm,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { StatusVerdict } from "../../src/domain/status.ts";
import type { RunState } from "../../src/domain/run.ts";
import { deriveStatus } from "../../src/runtimes/derive-status.ts";
import { NO_EVIDENCE } from "../../src/runtimes/evidence.ts";
import type { Evidence } from "../../src/runtimes/evidence.ts";
import { foldSignals, hashText } from "../../src/runtimes/fold.ts";
import { parseLine, payloadFileOf } from "../../src/runtimes/parse-line.ts";
import type { EncodedMessage, Runtime, SeedAuth } from "../../src/runtimes/runtime.ts";
import type { WorkerLine } from "../../src/runtimes/signal.ts";
import { until } from "./wait.ts";

const run = promisify(execFile);

/** Stands in for the worker's `hook`: one line an event, larger payloads in a file. */
const HOOK = `#!/bin/sh
umask 077
dir=$ORCHESTRATOR_DIR
read -r up rest </proc/uptime
mkdir -p "$dir/payloads"
name=p$$-$up
cat >"$dir/payloads/$name.tmp"
bytes=$(wc -c <"$dir/payloads/$name.tmp")
up=$(printf '%s' "$up" | tr -d .)0
if [ "$bytes" -lt 3000 ]; then
  body="\\"payload\\":$(cat "$dir/payloads/$name.tmp")"
  rm "$dir/payloads/$name.tmp"
else
  mv "$dir/payloads/$name.tmp" "$dir/payloads/$name"
  body="\\"payload_file\\":\\"$name\\",\\"payload_bytes\\":$bytes"
fi
printf '{"v":1,"run":"%s","launch":%s,"source":"hook","event":"%s","at":%s,"up":%s,%s}\\n' \\
  "\${ORCHESTRATOR_LAUNCH%/*}" "\${ORCHESTRATOR_LAUNCH#*/}" "$1" "$(date +%s%3N)" "$up" "$body" >>"$dir/events.jsonl"
exit 0
`;

export interface AgentOptions {
  readonly runtime: Runtime;
  /** Environment of the agent before the launch plan's own. */
  env(home: string): Record<string, string>;
  /** Absolute path of the program that the plan names first; omitted: as the plan says. */
  readonly program?: string;
  readonly auth?: SeedAuth;
  readonly mode?: string;
  readonly flags?: readonly string[];
  /** Change the seeded home before the start (dialog fixtures, planted user settings). */
  prepare?(home: string, cwd: string): Promise<void>;
  readonly seed?: boolean;
}

/** A home, a clone and a tmux server of its own, in which one agent program runs as the launch plan says. */
export interface AgentWindow extends AsyncDisposable {
  readonly home: string;
  readonly cwd: string;
  /** Starts launch n with a text (encoded by the runtime) or none, and returns what was sent. */
  start(text: string | null, options?: { resume?: boolean }): Promise<EncodedMessage | null>;
  evidence(): Promise<Evidence>;
  status(runState?: RunState): Promise<StatusVerdict>;
  /** Waits for a verdict; its error shows the last one with every reading. */
  reaches(
    wanted: (verdict: StatusVerdict, evidence: Evidence) => boolean,
    what: string,
    timeoutMs?: number,
  ): Promise<StatusVerdict>;
  screen(): Promise<string>;
  keys(...keys: string[]): Promise<void>;
  pid(): Promise<number>;
  lines(): Promise<readonly WorkerLine[]>;
}

const RUN_ID = "run-test";
const STATUS_LINE = join(import.meta.dirname, "..", "..", "provision", "worker", "statusline");

export async function agentWindow(options: AgentOptions): Promise<AgentWindow> {
  const root = await realpath(await mkdtemp(join(tmpdir(), "agent-")));
  const home = join(root, "home");
  const cwd = join(home, "kite");
  const folder = join(home, ".orchestrator", "runs", RUN_ID);
  await mkdir(join(home, "tmp"), { recursive: true });
  await mkdir(folder, { recursive: true });
  await mkdir(cwd);
  await run("git", ["init", "-q", cwd]);
  await mkdir(join(home, ".orchestrator", "bin"));
  await script(join(home, ".orchestrator", "bin", "hook"), HOOK);
  await copyFile(STATUS_LINE, join(home, ".orchestrator", "bin", "statusline"));
  const { runtime } = options;
  const mode = options.mode ?? runtime.defaultMode(true);
  const tmux = (...args: string[]) =>
    run("tmux", ["-u", "-S", join(root, "tmux"), "-f", "/dev/null", ...args], {
      env: { PATH: "/usr/bin:/bin", HOME: home, LANG: "C.UTF-8", TERM: "xterm-256color" },
    });
  if (options.seed !== false) {
    for (const file of runtime.seed({ cwd, mode, auth: options.auth ?? { kind: "none" } })) {
      const path = join(home, file.path);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, JSON.stringify(file.merge(null)));
    }
  }
  await options.prepare?.(home, cwd);

  const own = new Set<string>();
  const guard = guardOf(home, () => launch);
  let launch = 0;
  let intendedAt: number | null = null;
  const runtimeSessionId = crypto.randomUUID();

  async function start(text: string | null, { resume = false } = {}) {
    launch += 1;
    const encoding =
      text === null ? null : runtime.encode(text, { runId: RUN_ID, seq: launch, home });
    if (encoding?.kind === "refused") throw new Error(encoding.reason);
    const message = encoding?.message ?? null;
    if (message !== null) own.add(hashText(message.sent).hash);
    const plan = runtime.launch({
      runId: RUN_ID,
      launch,
      seq: launch,
      runtimeSessionId,
      resume,
      message,
      mode,
      instructions: null,
      flags: options.flags ?? [],
      cwd,
      home,
      root: process.getuid?.() === 0,
      worker: "kite-1",
    });
    const prompt = `prompt-${launch}`;
    const files: Record<string, string> = { ...plan.files };
    if (message !== null) files[prompt] = message.sent;
    if (message?.file != null) files[`message-${launch}`] = message.file;
    for (const [name, content] of Object.entries(files))
      await writeFile(join(folder, name), content, { mode: 0o600 });
    const env = {
      ...options.env(home),
      ...plan.env,
      ORCHESTRATOR_RUN: RUN_ID,
      ORCHESTRATOR_LAUNCH: `${RUN_ID}/${launch}`,
      ORCHESTRATOR_DIR: folder,
    };
    const [first = "", ...rest] = plan.argv;
    const argv = [options.program ?? first, ...rest].map(word).join(" ");
    const argument = plan.appendMessage ? `"$message"` : "";
    const pidFile = join(folder, `pid-${launch}`);
    await script(
      join(folder, `start-${launch}`),
      `#!/bin/sh
cd ${word(cwd)} || exit 70
${Object.entries(env)
  .map(([name, value]) => `export ${name}=${word(value)}`)
  .join("\n")}
${message === null ? "" : `message=$(cat ${word(join(folder, prompt))}; printf x); message=\${message%x}`}
echo $$ >${word(pidFile)}.new; mv ${word(pidFile)}.new ${word(pidFile)}
exec ${argv} ${argument}
`,
    );
    intendedAt = Date.now();
    const command = join(folder, `start-${launch}`);
    if (launch === 1) await tmux("new-session", "-d", "-x", "150", "-y", "50", "-s", "t", command);
    else await tmux("respawn-pane", "-k", "-t", "t:0", command);
    await tmux("set-option", "-w", "-t", "t:0", "remain-on-exit", "on");
    await until(() => pidOf(folder, launch), { what: "the agent's pid" });
    guard.watch(await pid());
    return message;
  }

  const pid = async () => Number(await readFile(join(folder, `pid-${launch}`), "utf8"));

  async function lines(): Promise<WorkerLine[]> {
    const text = await readFile(join(folder, "events.jsonl"), "utf8").catch(() => "");
    const raws = text.split("\n").filter((raw) => raw !== "");
    const parsed = raws.map((raw) => {
      const file = payloadFileOf(raw);
      const payload =
        file === null ? null : readFileSync(join(folder, "payloads", file.name), "utf8");
      return parseLine(raw, payload);
    });
    const known = [...parsed.filter((line) => line !== null), ...guard.lines];
    return known.toSorted((a, b) => a.up - b.up);
  }

  async function evidence(): Promise<Evidence> {
    return (await lines()).reduce<Evidence>(
      (known, line) =>
        foldSignals(known, runtime.signals(line), {
          at: line.at,
          up: line.up,
          launch: line.launch,
          ownHashes: own,
        }),
      NO_EVIDENCE,
    );
  }

  async function status(runState: RunState = "active"): Promise<StatusVerdict> {
    const now = Date.now();
    return deriveStatus(await evidence(), { now, runState, launchIntendedAt: intendedAt, launch });
  }

  return {
    home,
    cwd,
    start,
    evidence,
    status,
    pid,
    lines,
    async reaches(wanted, what, timeoutMs = 20_000) {
      let last: StatusVerdict | null = null;
      const look = async () => {
        last = await status();
        return wanted(last, await evidence()) ? last : null;
      };
      return until(look, { what, timeoutMs }).catch(async (error: unknown) => {
        const screen = await tmux("capture-pane", "-p", "-t", "t:0").catch(() => ({ stdout: "" }));
        throw new Error(`${what}: ${JSON.stringify(last, null, 1)}\n${screen.stdout}`, {
          cause: error,
        });
      });
    },
    screen: async () => (await tmux("capture-pane", "-p", "-t", "t:0")).stdout,
    keys: async (...keys) => {
      await tmux("send-keys", "-t", "t:0", ...keys);
    },
    [Symbol.asyncDispose]: async () => {
      guard.stop();
      if (launch > 0) await endProcess(await pid());
      await tmux("kill-server").catch(() => {});
      // The program may still write its last lines for a moment.
      await rm(root, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
}

const word = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

async function script(path: string, content: string): Promise<void> {
  await writeFile(path, content);
  await chmod(path, 0o755);
}

function pidOf(folder: string, launch: number): number | null {
  try {
    return Number(readFileSync(join(folder, `pid-${launch}`), "utf8"));
  } catch {
    return null;
  }
}

export function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

async function endProcess(pid: number): Promise<void> {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    return;
  }
  await until(() => !isAlive(pid), { what: `the end of process ${pid}` });
}

const TICK_MS = 200;

/** Stands in for the worker's guard: reads registry and process, and tells changes as its `pulse` lines do. */
function guardOf(home: string, launch: () => number) {
  const lines: WorkerLine[] = [];
  let pid: number | null = null;
  let last = { registry: "", alive: true, waitingFor: null as string | null };
  let changedAt = 0;
  let settledTold = false;
  const tick = () => {
    if (pid === null) return;
    const alive = isAlive(pid);
    const now = { ...registryOf(home, pid), alive };
    const up = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1_000;
    const changed = JSON.stringify(now) !== JSON.stringify(last);
    if (changed) {
      changedAt = up;
      settledTold = false;
    }
    const settled = up - changedAt > 1_000;
    if (!changed && (!settled || settledTold)) return;
    settledTold = settled;
    last = now;
    const payload = { pid, alive, registry: now.registry, waiting_for: now.waitingFor, settled };
    const head = { run: RUN_ID, launch: launch(), source: "guard", event: "pulse" } as const;
    lines.push({ ...head, at: Date.now(), up, payload });
  };
  const timer = setInterval(tick, TICK_MS);
  return {
    lines,
    watch(next: number) {
      pid = next;
      last = { registry: "", alive: true, waitingFor: null };
    },
    stop: () => clearInterval(timer),
  };
}

function registryOf(home: string, pid: number): { registry: string; waitingFor: string | null } {
  try {
    const text = readFileSync(join(home, ".claude", "sessions", `${pid}.json`), "utf8");
    const file = JSON.parse(text) as { status?: string; waitingFor?: string };
    return { registry: file.status ?? "absent", waitingFor: file.waitingFor ?? null };
  } catch {
    return { registry: "absent", waitingFor: null };
  }
}
