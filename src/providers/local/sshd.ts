import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { userInfo } from "node:os";

import type { Clock } from "../../platform/clock.ts";
import { ProviderError } from "../provider-error.ts";
import { type Folder, isMissing, tmuxDir } from "./folder.ts";
import type { Labels } from "./labels.ts";
import { type ProcessIdentity, WORKER_MARK, isAlive, parseStat, signal } from "./processes.ts";
import { sshdConfig } from "./sshd-config.ts";

export interface Sshd {
  readonly process: ProcessIdentity;
  readonly port: number;
}

export interface SshdEffects {
  readonly clock: Clock;
  /** Absolute path of the program: sshd refuses another. */
  readonly program: string;
  /** `PATH` of the worker's commands. */
  readonly path: string;
}

const START_TIMEOUT_MS = 10_000;
const POLL_MS = 2;
const ATTEMPTS = 5;

/**
 * Records who it is and then becomes sshd, so no sshd can run unrecorded whenever the controller dies. The pid and the
 * start time in the stat line stay the same through exec.
 */
const LAUNCH = `set -eu
umask 022
IFS= read -r stat <"/proc/$$/stat"
IFS= read -r boot </proc/sys/kernel/random/boot_id
printf '%s\\n%s\\n%s\\n' "$boot" "$2" "$stat" >"$1"
exec "$3" -D -f "$4" -E "$5"
`;

/** The worker's sshd as recorded, when that very process still lives; never starts it. */
export async function findSshd(folder: Folder, clock: Clock): Promise<Sshd | undefined> {
  const text = await readIfThere(folder.sshdRecord);
  const [boot, port, stat] = text.split("\n");
  if (boot === undefined || stat === undefined || boot !== clock.bootId()) return undefined;
  const process = { pid: Number.parseInt(stat, 10), startTime: parseStat(stat)?.startTime ?? "" };
  return isAlive(process) ? { process, port: Number(port) } : undefined;
}

/** Returns the running sshd or starts it, on its former port when that is free. Call it with the worker's lock held. */
export async function ensureSshd(
  folder: Folder,
  labels: Labels,
  effects: SshdEffects,
): Promise<Sshd> {
  const running = await findSshd(folder, effects.clock);
  if (running !== undefined && (await isReady(folder, running, effects.clock))) return running;
  if (running !== undefined) signal(running.process, "SIGKILL");

  if (userInfo().uid === 0) await mkdir("/run/sshd", { recursive: true, mode: 0o755 });
  await mkdir(tmuxDir(folder, labels), { recursive: true, mode: 0o700 });
  let port = await formerPort(folder);
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    port ??= await freePort();
    const started = await startOn(port, folder, labels, effects);
    if (started !== undefined) return started;
    port = undefined;
  }
  const log = (await readIfThere(folder.sshdLog)).slice(-500);
  throw new ProviderError("unavailable", `sshd of local worker ${labels.name} does not start`, {
    cause: new Error(log),
    hint: `read ${folder.sshdLog}`,
  });
}

async function startOn(
  port: number,
  folder: Folder,
  labels: Labels,
  { clock, program, path }: SshdEffects,
): Promise<Sshd | undefined> {
  const settings = { folder, workerId: labels.id, port, tmuxDir: tmuxDir(folder, labels), path };
  await rm(folder.sshdPid, { force: true });
  await writeFile(folder.sshdConfig, sshdConfig(settings), { mode: 0o600 });
  const { sshdRecord, sshdConfig: config, sshdLog } = folder;
  const child = spawn(
    "/bin/sh",
    ["-c", LAUNCH, "sh", sshdRecord, String(port), program, config, sshdLog],
    {
      cwd: "/",
      detached: true,
      stdio: "ignore",
      // Nothing of the operator's environment. sshd overwrites its own to show its state, the mark included.
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", [WORKER_MARK]: labels.id },
    },
  );
  child.unref();
  const over = new AbortController();
  child.once("exit", () => over.abort());
  child.once("error", () => over.abort());
  const deadline = clock.monotonic() + START_TIMEOUT_MS;
  while (!over.signal.aborted && clock.monotonic() < deadline) {
    const sshd = await findSshd(folder, clock);
    if (sshd !== undefined && sshd.process.pid === child.pid && (await listens(folder, sshd))) {
      return sshd;
    }
    await clock.sleep(POLL_MS);
  }
  child.kill("SIGKILL");
  return undefined;
}

/** Waits until a running sshd listens; false when it ended or never does. */
async function isReady(folder: Folder, sshd: Sshd, clock: Clock): Promise<boolean> {
  const deadline = clock.monotonic() + START_TIMEOUT_MS;
  while (isAlive(sshd.process) && clock.monotonic() < deadline) {
    if (await listens(folder, sshd)) return true;
    await clock.sleep(POLL_MS);
  }
  return false;
}

/** sshd writes its pid file after it began to listen. */
async function listens(folder: Folder, sshd: Sshd): Promise<boolean> {
  return (await readIfThere(folder.sshdPid)).trim() === String(sshd.process.pid);
}

async function formerPort(folder: Folder): Promise<number | undefined> {
  const config = await readIfThere(folder.sshdConfig);
  const port = /^ListenAddress 127\.0\.0\.1:([0-9]+)$/m.exec(config)?.[1];
  return port === undefined ? undefined : Number(port);
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return "";
    throw error;
  }
}

/** Where sshd lies on this machine; undefined when it is not installed. */
export async function findSshdProgram(): Promise<string | undefined> {
  const places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"];
  for (const path of places) {
    const file = await open(path, "r").catch(() => undefined);
    if (file === undefined) continue;
    await file.close();
    return path;
  }
  return undefined;
}
