import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { stringify } from "yaml";
import { readEnv } from "../../src/config/env.ts";
import { homePaths, type HomePaths } from "../../src/config/paths.ts";
import {
  startController,
  type Controller,
  type ControllerOptions,
} from "../../src/controller/controller.ts";
import { findOperation, performOnce } from "../../src/operations/perform.ts";
import { OPERATIONS } from "../../src/operations/registry.ts";
import type { EventView, RunDetailView, RunView } from "../../src/operations/views.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { localProvider } from "../../src/providers/local/local.ts";

const MAIN = join(import.meta.dirname, "..", "..", "src", "main.ts");

/** An orchestrator of its own for one test: home, git remote, configuration; real sshd, tmux and git below it. */
export interface Installation extends AsyncDisposable {
  readonly home: string;
  readonly paths: HomePaths;
  readonly remote: string;
  readonly env: NodeJS.ProcessEnv;
  /** Writes config.yaml with this pool `kite` merged over the defaults of the test. */
  configure(
    repo: Readonly<Record<string, unknown>>,
    more?: Readonly<Record<string, unknown>>,
  ): void;
  /** The controller in this process; started when it is not running. */
  controller(): Promise<Controller>;
  stopController(): Promise<void>;
  call<T>(operation: string, input?: unknown): Promise<T>;
  dispatch(text: string, more?: Readonly<Record<string, unknown>>): Promise<RunView>;
  wait(
    runId: string,
    until?: "delivered" | "settled" | "ended",
    timeoutMs?: number,
  ): Promise<RunDetailView>;
  events(runId?: string): Promise<EventView[]>;
  homeOf(worker: string): string;
}

export interface InstallationOptions {
  readonly repo?: Readonly<Record<string, unknown>>;
  /** Files of the remote: path -> content; those ending in `.sh` become executable. */
  readonly files?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly overrides?: ControllerOptions["overrides"];
  /** The controller's version; a program of another one refuses to talk to it. */
  readonly version?: string;
}

const FILES = {
  "README.md": "# kite\n",
  "scripts/dev-setup.sh": '#!/bin/bash\nset -e\necho "ready" > .setup-ran\n',
  ".gitignore": ".setup-ran\n",
};

export function installation(options: InstallationOptions = {}): Installation {
  const root = mkdtempSync(join(tmpdir(), "so-"));
  const home = join(root, "h");
  mkdirSync(home, { mode: 0o700 });
  const paths = homePaths(home);
  const remote = makeRemote(root, { ...FILES, ...options.files });
  const env: NodeJS.ProcessEnv = {
    PATH: process.env["PATH"],
    HOME: join(root, "person"),
    ORCHESTRATOR_HOME: home,
    ...options.env,
  };
  mkdirSync(join(root, "person"));
  let running: Promise<Controller> | undefined;
  let disposed = false;

  const configure: Installation["configure"] = (repo, more = {}) =>
    writeFileSync(
      paths.config,
      stringify({ repos: { kite: { url: remote, runtime: "shell", ...repo } }, ...more }),
    );
  configure(options.repo ?? {});

  const controller = () => {
    // What a failed test left waiting must not start it again.
    if (disposed) return Promise.reject(new Error("the installation is gone"));
    running ??= startController({
      env: readEnv(env),
      version: options.version ?? "0.0.0-test",
      lifetime: "serve",
      ...(options.overrides === undefined ? {} : { overrides: options.overrides }),
    });
    return running;
  };
  const stopController = async () => {
    const stopping = running;
    running = undefined;
    await (await stopping)?.stop();
  };
  const call = async <T>(operation: string, input: unknown = {}): Promise<T> => {
    const { services } = await controller();
    const found = findOperation(OPERATIONS, operation);
    return (await performOnce(found, services, input, new AbortController().signal)) as T;
  };

  return {
    home,
    paths,
    remote,
    env,
    configure,
    controller,
    stopController,
    call,
    async dispatch(text, more = {}) {
      const { run } = await call<{ run: RunView }>("dispatch", { repo: "kite", text, ...more });
      return run;
    },
    wait: (runId, wanted = "ended", timeoutMs = 60_000) =>
      call<RunDetailView>("run.wait", { run_id: runId, until: wanted, timeout_ms: timeoutMs }),
    events: (runId) =>
      call<EventView[]>("events.read", {
        limit: 10_000,
        ...(runId === undefined ? {} : { run_id: runId }),
      }),
    homeOf: (worker) => join(paths.local, worker, "home"),
    async [Symbol.asyncDispose]() {
      disposed = true;
      await stopController();
      // A controller that the command line started outlives its starter.
      if (existsSync(paths.socket)) spawnSync(process.execPath, [MAIN, "stop"], { env });
      const provider = localProvider({ root: paths.local, clock: systemClock(), ids: randomIds() });
      const workers = await provider.list("");
      await Promise.allSettled(workers.map(({ id }) => provider.destroy(id)));
      rmSync(root, { recursive: true, force: true });
    },
  };
}

function makeRemote(root: string, files: Readonly<Record<string, string>>): string {
  const work = join(root, "seed");
  const remote = join(root, "kite.git");
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(work, path)), { recursive: true });
    writeFileSync(join(work, path), content);
    if (path.endsWith(".sh")) chmodSync(join(work, path), 0o755);
  }
  const git = (...args: string[]) =>
    execFileSync("git", ["-c", "user.name=T", "-c", "user.email=t@example.invalid", ...args], {
      cwd: work,
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1" },
    });
  git("init", "-q", "-b", "main");
  git("add", "-A");
  git("commit", "-q", "-m", "Begin");
  git("clone", "-q", "--bare", work, remote);
  return remote;
}

/** The log of the controller, for messages of failing tests. */
export function controllerLog(installed: Installation): string {
  try {
    return readFileSync(installed.paths.controllerLog, "utf8");
  } catch {
    return "";
  }
}
