import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

import { tar } from "../../src/provisioner/tar.ts";
import { killPid } from "./local-transport.ts";

const WORKER_SCRIPTS = join(import.meta.dirname, "..", "..", "provision", "worker");
export const FAKE_AGENT = join(import.meta.dirname, "..", "fakes", "fake-agent.sh");
export const TEST_BUNDLE = "test-bundle";
export const SESSION = "kite-dev";
/** Own to each test file: `over` and `stop` look for it among all processes of the machine's user. */
export const RUN = `run-${process.pid}`;

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface EventLine {
  readonly v: number;
  readonly run: string;
  readonly launch: number;
  readonly source: string;
  readonly event: string;
  readonly at: number;
  readonly up: number;
  readonly payload: Readonly<Record<string, unknown>>;
  readonly payload_file?: string;
  readonly payload_bytes?: number;
}

export interface AgentOptions {
  readonly message?: string | Uint8Array;
  readonly epoch?: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** A folder that stands for a worker's home, with the worker scripts installed and an own tmux socket. */
export class TestWorker implements Disposable {
  readonly root = mkdtempSync("/tmp/so-");
  readonly home = join(this.root, "h");
  readonly env: Readonly<Record<string, string>>;

  constructor() {
    mkdirSync(this.home);
    this.env = {
      PATH: process.env["PATH"] ?? "",
      HOME: this.home,
      TMUX_TMPDIR: this.root,
      LANG: "C.UTF-8",
      SHELL: "/bin/sh",
    };
    this.install(TEST_BUNDLE);
    mkdirSync(join(this.home, "kite"));
  }

  /** Installs the scripts, some of them replaced, as that bundle and points `bin` to it. */
  install(bundle: string, replaced: Readonly<Record<string, string>> = {}): void {
    const folder = this.path("bundles", bundle);
    mkdirSync(this.path("bundles"), { recursive: true, mode: 0o700 });
    cpSync(WORKER_SCRIPTS, folder, { recursive: true });
    for (const [name, text] of Object.entries(replaced)) writeFileSync(join(folder, name), text);
    writeFileSync(join(folder, "VERSION"), `${bundle}\n`);
    rmSync(this.path("bin"), { force: true });
    symlinkSync(join("bundles", bundle), this.path("bin"));
  }

  /** A path below `~/.orchestrator`. */
  path(...parts: string[]): string {
    return join(this.home, ".orchestrator", ...parts);
  }

  spawn(
    script: string,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): ChildProcess {
    return spawn(this.path("bin", script), args, {
      cwd: this.home,
      env: { ...this.env, ...env },
      stdio: "pipe",
    });
  }

  /** Runs one worker script to its end. */
  async run(
    script: string,
    args: readonly string[],
    options: { stdin?: string | Uint8Array; env?: Readonly<Record<string, string>> } = {},
  ): Promise<Ran> {
    return finished(this.spawn(script, args, options.env), options.stdin);
  }

  /** Runs sh text on the worker with $1... */
  async shell(text: string, args: readonly string[] = []): Promise<Ran> {
    const options = { cwd: this.home, env: this.env, stdio: "pipe" } as const;
    return finished(spawn("sh", ["-c", text, "sh", ...args], options));
  }

  tmux(...args: string[]): string {
    return execFileSync("tmux", ["-u", ...args], {
      env: this.env,
      encoding: "utf8",
      stdio: "pipe",
    });
  }

  /** The session as the `session` step leaves it. */
  openSession(options: { guard?: boolean } = {}): void {
    const clone = join(this.home, "kite");
    const size = ["-x", "200", "-y", "50"];
    const first = ["-d", "-s", SESSION, "-n", "shell", ...size, "-c", clone, "exec cat"];
    this.tmux("-f", "/dev/null", "new-session", ...first);
    const agent = ["-d", "-t", `=${SESSION}:1`, "-n", "agent:waiting", "-c", clone];
    this.tmux("new-window", ...agent, this.path("bin", "placeholder"));
    execFileSync(this.path("bin", "tmux-setup"), [SESSION], { env: this.env, stdio: "pipe" });
    if (options.guard === true) this.openGuard();
  }

  openGuard(): void {
    const window = ["-d", "-t", `=${SESSION}:2`, "-n", "guard"];
    this.tmux("new-window", ...window, this.path("bin", "guard"), SESSION);
  }

  /** A format of the agent's window or pane. */
  show(format: string): string {
    return this.tmux("display-message", "-p", "-t", `=${SESSION}:1`, format).replace(/\n$/, "");
  }

  windowName(): string {
    return this.show("#{window_name}");
  }

  startArgs(run: string, launch: number, epoch = 1): string[] {
    return [TEST_BUNDLE, String(epoch), run, String(launch), SESSION];
  }

  /** Starts (RUN, N) with the fake agent doing what `script` says; the message is its last argument. */
  async startAgent(
    run: string,
    launch: number,
    script: readonly string[],
    options: AgentOptions = {},
  ): Promise<Ran> {
    return this.run("start", this.startArgs(run, launch, options.epoch), {
      stdin: this.agentFiles(launch, script, options),
    });
  }

  agentFiles(launch: number, script: readonly string[], options: AgentOptions = {}): Uint8Array {
    const program = join(this.root, `script-${launch}`);
    // By rename: an agent of the same launch may just be reading it.
    writeFileSync(`${program}.new`, script.map((line) => `${line}\n`).join(""));
    renameSync(`${program}.new`, program);
    const { message, env = {} } = options;
    return this.files(launch, [FAKE_AGENT, program], { message, env });
  }

  /** What `start` takes for a program of the test's own. */
  files(
    launch: number,
    argv: readonly string[],
    options: {
      message?: string | Uint8Array | undefined;
      env?: Readonly<Record<string, string>>;
    } = {},
  ): Uint8Array {
    const { message, env = {} } = options;
    const exec = [
      `cwd='${join(this.home, "kite")}'`,
      "auth='kite'",
      ...(message === undefined
        ? []
        : [`message='prompt-${launch}'`, `bytes=${Buffer.from(message).length}`]),
      ...Object.entries(env).map(([name, value]) => `export ${name}='${value}'`),
      `set -- ${argv.map((word) => `'${word}'`).join(" ")}`,
    ];
    return archive([
      { name: `exec-${launch}`, content: `${exec.join("\n")}\n` },
      ...(message === undefined ? [] : [{ name: `prompt-${launch}`, content: message }]),
    ]);
  }

  /** Lines of the run's events.jsonl; each must parse. */
  events(run: string): EventLine[] {
    return linesOf(this.path("runs", run, "events.jsonl")).map(
      (line) => JSON.parse(line) as EventLine,
    );
  }

  /** Pids of all processes that were started with this worker's home in their environment. */
  processes(): number[] {
    const mark = `\0HOME=${this.home}\0`;
    return readdirSync("/proc").flatMap((name) => {
      if (!/^\d+$/.test(name)) return [];
      try {
        const environment = `\0${readFileSync(`/proc/${name}/environ`, "latin1")}`;
        return environment.includes(mark) ? [Number(name)] : [];
      } catch {
        return [];
      }
    });
  }

  [Symbol.dispose](): void {
    // Several rounds: what is ended may just have started another, and within an exec a process shows no environment.
    for (let round = 0, quiet = 0; round < 50 && quiet < 3; round += 1) {
      const left = this.processes();
      quiet = left.length === 0 ? quiet + 1 : 0;
      for (const pid of left) killPid(pid);
    }
    rmSync(this.root, { recursive: true, force: true, maxRetries: 20, retryDelay: 20 });
  }
}

/** Files as `start` takes them. */
export function archive(
  files: readonly { name: string; content: string | Uint8Array }[],
): Uint8Array {
  return tar(
    [...files, { name: "END", content: "" }].map(({ name, content }) => ({
      name,
      content: Buffer.from(content),
      mode: 0o600,
    })),
  );
}

/** Collects what a child prints; resolves when it has ended and its output is closed. */
export async function finished(child: ChildProcess, stdin?: string | Uint8Array): Promise<Ran> {
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk));
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
  child.stdin?.on("error", () => {});
  child.stdin?.end(stdin);
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}

/** Whole lines of a file, none when it is absent. */
export function linesOf(file: string): string[] {
  return existsSync(file) ? readFileSync(file, "utf8").split("\n").slice(0, -1) : [];
}
