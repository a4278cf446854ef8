import { execa } from "execa";
import { lstat, mkdir, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Config, RepoConfig } from "../config/config.ts";
import type { Env } from "../config/env.ts";
import { homePaths } from "../config/paths.ts";
import type { Check } from "../domain/check.ts";
import { OrchestratorError } from "../domain/errors.ts";
import { isTerminal } from "../domain/run.ts";
import { findOperation, performOnce } from "../operations/perform.ts";
import { OPERATIONS } from "../operations/registry.ts";
import type { RunDetailView, RunView } from "../operations/views.ts";
import { systemClock } from "../platform/clock.ts";
import { randomIds } from "../platform/ids.ts";
import { localProvider } from "../providers/local/local.ts";
import { holdExclusive } from "../store/lock.ts";
import { startController, type Controller } from "./controller.ts";
import { failed } from "./diagnose.ts";

/** Folders of trials, below the folder for temporary files; short, since sockets have short names. */
const PREFIX = "so-doctor-";
/** A younger one may be about to be used (ms). */
const YOUNG_MS = 60_000;
const POOL = "doctor";
const DELIVERED_WITHIN_MS = 10 * 60_000;
const ENDED_WITHIN_MS = 2 * 60_000;
const PTY_WITHIN_MS = 20_000;

export interface TrialOptions {
  readonly env: Env;
  readonly version: string;
  /** A folder of its own, which all of the trial lies in. */
  readonly folder: string;
  /** The configuration that the trial is about. */
  readonly config: Config;
  /** The repo to try; undefined: an internal one. */
  readonly repo: string | undefined;
  readonly signal: AbortSignal;
  emit(check: Check): void;
}

/**
 * The proof that the product works here: in a home of its own, with a controller and a store of its own, a worker is made, an agent's own hook shows
 * its message, its status is read, and the worker is destroyed. Whatever happens, and when the signal aborts, nothing of it runs on when this returns.
 */
export async function runTrial(options: TrialOptions): Promise<void> {
  const { env, folder, emit, signal } = options;
  const lock = holdExclusive(join(folder, "trial.lock.db"));
  if (lock === null) throw new OrchestratorError("lease_held", `another trial runs in ${folder}`);
  let controller: Controller | undefined;
  try {
    const pool = await prepare(options);
    if (pool === undefined) return;
    controller = await startController({
      env: { ...env, home: join(folder, "h"), overrides: [] },
      version: options.version,
      lifetime: "serve",
    });
    await prove(options, controller, pool);
  } catch (error) {
    if (!signal.aborted)
      emit(
        failed(
          "proof",
          error,
          "read the message; 'orchestrator doctor --quick' looks at the parts alone",
        ),
      );
  } finally {
    await controller?.stop().catch(() => {});
    await destroyAll(folder);
    lock.release();
  }
}

/** Ends and removes what is left in `folder`, when no trial lives in it. */
export async function removeTrial(folder: string): Promise<void> {
  const there = await stat(folder).catch(() => undefined);
  if (there === undefined) return;
  const lock = holdExclusive(join(folder, "trial.lock.db"));
  if (lock === null) return;
  await destroyAll(folder);
  lock.release();
  await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

/** Removes what trials left that were killed, with all that watched over them. */
export async function sweepTrials(root: string, now: number): Promise<void> {
  const names = await readdir(root).catch(() => []);
  for (const name of names.filter((entry) => entry.startsWith(PREFIX))) {
    const folder = join(root, name);
    const found = await lstat(folder).catch(() => undefined);
    // Anybody may put a link there: it is not followed.
    const isOurs = found?.isDirectory() === true && found.uid === process.getuid?.();
    if (isOurs && now - found.mtimeMs > YOUNG_MS) await removeTrial(folder).catch(() => {});
  }
}

async function destroyAll(folder: string): Promise<void> {
  const root = homePaths(join(folder, "h")).local;
  if ((await stat(root).catch(() => undefined)) === undefined) return;
  const provider = localProvider({ root, clock: systemClock(), ids: randomIds(), graceMs: 500 });
  const workers = await provider.list("");
  await Promise.allSettled(workers.map(({ id }) => provider.destroy(id)));
}

/** Writes the trial's configuration; undefined when this repo cannot be tried. */
async function prepare({ folder, config, repo, emit }: TrialOptions): Promise<string | undefined> {
  const home = join(folder, "h");
  const temporary = join(folder, "tmp");
  await mkdir(home, { mode: 0o700 });
  await mkdir(temporary, { mode: 0o700 });
  const tried = repo === undefined ? undefined : config.repos[repo];
  if (repo !== undefined && tried === undefined) {
    throw new OrchestratorError("not_found", `there is no repo ${repo} in the configuration`);
  }
  if (tried !== undefined && tried.provider !== "local") {
    emit({
      check: "proof",
      state: "skip",
      detail: `workers of the provider ${tried.provider} are not made for a trial`,
    });
    return undefined;
  }
  const { verify: _, ...chosen }: Partial<RepoConfig> & { url: string } = tried ?? {
    url: await internalRepo(folder),
    ...agentOf(config),
  };
  const value = {
    ...chosen,
    minIdle: 0,
    maxWorkers: 1,
    push: "none",
    env: { ...chosen.env, TMPDIR: temporary },
  };
  const pool = repo ?? POOL;
  // JSON is YAML.
  await writeFile(
    join(home, "config.yaml"),
    JSON.stringify({ repos: { [pool]: value }, delivery: config.delivery }),
    { mode: 0o600 },
  );
  return pool;
}

/** Claude Code where there is a credential for it, else a plain command. */
function agentOf(config: Config): Partial<RepoConfig> {
  const with_ = Object.values(config.repos).find(
    ({ runtime, auth }) => runtime === "claude" && auth !== undefined,
  );
  if (with_?.auth === undefined) return { runtime: "shell" };
  const { auth, env, flags } = with_;
  return { runtime: "claude", auth, env, flags };
}

async function internalRepo(folder: string): Promise<string> {
  const work = join(folder, "seed");
  const bare = join(folder, `${POOL}.git`);
  await mkdir(work);
  await writeFile(join(work, "README.md"), "# doctor\n");
  const identity = [
    "-c",
    "user.name=doctor",
    "-c",
    "user.email=doctor@orchestrator.invalid",
    "-c",
    "core.hooksPath=/dev/null",
  ];
  const git = (...args: string[]) =>
    execa("git", [...identity, ...args], { cwd: work, timeout: 30_000 });
  await git("init", "-q", "-b", "main");
  await git("add", "-A");
  await git("-c", "commit.gpgsign=false", "commit", "-q", "-m", "Begin");
  await git("clone", "-q", "--bare", work, bare);
  return bare;
}

async function prove(options: TrialOptions, controller: Controller, pool: string): Promise<void> {
  const { emit, signal, folder } = options;
  const call = async <T>(op: string, input: unknown): Promise<T> =>
    (await performOnce(findOperation(OPERATIONS, op), controller.services, input, signal)) as T;
  const show = (runId: string) => call<RunDetailView>("run.show", { run_id: runId });
  const isShell = controller.services.config.repos[pool]?.runtime === "shell";
  const text = isShell
    ? "echo the doctor was here"
    : "This is a test of the connection. Answer with the one word: ready. Use no tool.";
  const { run } = await call<{ run: RunView }>("dispatch", { repo: pool, text });
  const got = await call<RunDetailView>("run.wait", {
    run_id: run.run_id,
    until: "delivered",
    timeout_ms: DELIVERED_WITHIN_MS,
  });
  const [message] = got.messages;
  if (message?.receipt !== "accepted") {
    emit({
      check: "proof delivered",
      state: "fail",
      detail: `the agent did not show that it has the message: ${got.state}${got.state_reason === null ? "" : `, ${got.state_reason}`}`,
      fix: isShell
        ? "look at the steps above"
        : "look at the credential, and at the program's own start",
    });
    for (const step of got.steps.filter(({ state }) => state === "failed")) {
      emit({
        check: `proof step ${step.step}`,
        state: "fail",
        detail: step.detail ?? "failed",
        fix: `look at ${step.step} of the repo`,
      });
    }
    return;
  }
  emit({ check: "proof worker", state: "ok", detail: `${got.worker ?? ""} was made and prepared` });
  emit({
    check: "proof delivered",
    state: "ok",
    detail: `the hook of the runtime ${got.runtime} showed ${message.bytes} bytes, ${message.form ?? ""}`,
  });
  emit(await ptyOf(folder));
  const { status } = await show(run.run_id);
  if (status === null)
    emit({
      check: "proof status",
      state: "fail",
      detail: "no status came back",
      fix: "orchestrator events --follow",
    });
  else
    emit({
      check: "proof status",
      state: "ok",
      detail: `${status.status}: ${status.reason} (${status.source})`,
    });
  await settle(call, show, run.run_id, emit);
  await call("worker.destroy", { worker: got.worker });
  emit({
    check: "proof destroy",
    state: "ok",
    detail: `${got.worker ?? ""} was destroyed, its work proven saved`,
  });
}

/** Brings the run to its end, one way or the other. */
async function settle(
  call: <T>(op: string, input: unknown) => Promise<T>,
  show: (runId: string) => Promise<RunDetailView>,
  runId: string,
  emit: (check: Check) => void,
): Promise<void> {
  const wait = (until: "settled" | "ended", timeoutMs: number) =>
    call("run.wait", { run_id: runId, until, timeout_ms: timeoutMs });
  await wait("settled", ENDED_WITHIN_MS).catch((error: unknown) => {
    if (!(error instanceof OrchestratorError) || error.code !== "nothing_available") throw error;
  });
  const run = await show(runId);
  if (run.state === "completed") return;
  emit({
    check: "proof turn",
    state: "warn",
    detail: `the agent's turn did not end well: ${run.state}${run.state_reason === null ? "" : `, ${run.state_reason}`}`,
    fix: "look at what the agent's API answers",
  });
  if (isTerminal(run.state)) return;
  await call("run.cancel", { run_id: runId });
  await wait("ended", ENDED_WITHIN_MS);
}

/** Whether sshd can give a terminal here; attaching to local workers does without. */
async function ptyOf(folder: string): Promise<Check> {
  const check = "pty";
  const paths = homePaths(join(folder, "h"));
  const provider = localProvider({ root: paths.local, clock: systemClock(), ids: randomIds() });
  const [worker] = await provider.list("");
  if (worker === undefined) return { check, state: "skip", detail: "there is no worker to ask" };
  const { address } = await provider.dial(worker.id);
  if (address.kind !== "tcp")
    return { check, state: "skip", detail: "the worker is not reached by TCP" };
  const options = [
    "BatchMode=yes",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "GlobalKnownHostsFile=/dev/null",
    "IdentitiesOnly=yes",
    "LogLevel=ERROR",
  ];
  const argv = [
    "-F",
    "none",
    "-tt",
    "-i",
    paths.sshKey,
    "-p",
    String(address.port),
    ...options.flatMap((option) => ["-o", option]),
  ];
  const asked = await execa("ssh", [...argv, `${address.user}@${address.host}`, "tty"], {
    reject: false,
    timeout: PTY_WITHIN_MS,
    stdin: "ignore",
  });
  if (!asked.failed && asked.stdout.includes("/dev/"))
    return { check, state: "ok", detail: "sshd gives a terminal" };
  return {
    check,
    state: "warn",
    detail: "sshd gives no terminal here; 'orchestrator attach' works without it",
    fix: "mount /dev/pts with gid=5",
  };
}
