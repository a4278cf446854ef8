import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { installBundle, loadBundle } from "../../src/provisioner/bundle.ts";
import { runJob } from "../../src/provisioner/job.ts";
import type {
  JobLine,
  JobRequest,
  JobResult,
  StepName,
} from "../../src/provisioner/provisioner.ts";
import { git } from "./repos.ts";
import { localTransport, type LocalTransport } from "./local-transport.ts";

export const bundle = loadBundle(join(import.meta.dirname, "..", "..", "provision", "worker"));
export const TOOLCHAINS = join(import.meta.dirname, "..", "fixtures", "toolchains");

/** A worker that is a folder: own home, own tmux server, the bundle installed. Dispose of it to end and remove all. */
export interface TestWorker extends AsyncDisposable {
  /** Holds everything of this test, `home` too. */
  readonly folder: string;
  readonly home: string;
  readonly transport: LocalTransport;
  /** Another connection to the same worker. */
  connect(): LocalTransport;
  /** Runs a job with parameters that fit REPO kite, and those given; lines are gathered in `lines`. */
  job(steps: readonly StepName[], options?: TestJob): Promise<TestJobResult>;
  /** Runs a worker script. */
  script(name: string, ...args: string[]): ReturnType<LocalTransport["exec"]>;
  git(...args: string[]): Promise<string>;
  tmux(...args: string[]): Promise<string>;
  read(path: string): Promise<string>;
  write(path: string, text: string): Promise<void>;
}

export interface TestJob {
  readonly job?: string;
  readonly epoch?: number;
  readonly params?: Readonly<Record<string, string>>;
  readonly transport?: LocalTransport;
  readonly signal?: AbortSignal;
  readonly onLine?: (line: JobLine) => void;
  readonly timeoutMs?: number;
}

export interface TestJobResult extends JobResult {
  readonly lines: readonly JobLine[];
}

export async function makeWorker(env: Readonly<Record<string, string>> = {}): Promise<TestWorker> {
  // Short, for the path of tmux's socket.
  const folder = await mkdtemp(join(tmpdir(), "so-"));
  const home = join(folder, "h");
  mkdirSync(join(folder, "t"));
  const environment = {
    TMUX_TMPDIR: join(folder, "t"),
    GIT_CONFIG_NOSYSTEM: "1",
    PATH: `${process.env["PATH"]}:${TOOLCHAINS}`,
    ...env,
  };
  const opened: LocalTransport[] = [];
  const connect = () => {
    const transport = localTransport(home, environment);
    opened.push(transport);
    return transport;
  };
  const transport = connect();
  await installBundle(transport, bundle);
  let jobs = 0;
  const tmux = async (...args: string[]) => {
    const { stdout } = await promisify(execFile)("tmux", ["-u", ...args], {
      env: { ...environment, HOME: home, LANG: "C.UTF-8" },
    });
    return stdout.trimEnd();
  };
  return {
    folder,
    home,
    transport,
    connect,
    script: (name, ...args) => transport.exec([`.orchestrator/bin/${name}`, ...args]),
    job: async (steps, options = {}) => {
      jobs += 1;
      const lines: JobLine[] = [];
      const request: JobRequest = {
        job: options.job ?? `job-${jobs}`,
        epoch: options.epoch ?? 1,
        steps,
        params: { FLEET_ID: "fleet-1", REPO: "kite", SESSION: "kite-dev", ...options.params },
        timeoutMs: options.timeoutMs ?? 60_000,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      };
      const result = await runJob(options.transport ?? transport, bundle, request, (line) => {
        lines.push(line);
        options.onLine?.(line);
      });
      return { ...result, lines };
    },
    git: (...args) => git(join(home, "kite"), ...args),
    tmux,
    read: (path) => readFile(join(home, path), "utf8"),
    write: (path, text) => writeFile(join(home, path), text),
    [Symbol.asyncDispose]: async () => {
      await tmux("kill-server").catch(() => {});
      for (const one of opened) await one.close();
      await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
    },
  };
}
