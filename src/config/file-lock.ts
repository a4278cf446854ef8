import { createHash } from "node:crypto";
import { mkdir, open, readdir, readFile, readlink, unlink } from "node:fs/promises";
import { join } from "node:path";
import { OrchestratorError } from "../domain/errors.ts";
import type { Clock } from "../platform/clock.ts";
import type { Ids } from "../platform/ids.ts";

/*
 * One writer at a time, between processes of one machine, without a lock that outlives its owner.
 *
 * Each contender puts a claim of a unique name into `<path>.lock/` and then lists the folder: alone, it holds the lock;
 * with an older claim beside it, it withdraws and waits until the folder is empty. Of two that claim at once at least
 * one sees the other, so two never hold; the oldest of them stays, so one soon does. A claim names its process; when that is dead it is removed, which can hit no other claim.
 */

const CLAIM = /^(?<at>\d{15})-(?<scope>[0-9a-f]{8})-(?<pid>\d+)-(?<start>\d+)-[0-9a-f]+$/;

/** A claim of another boot or container cannot be checked; what is locked here never takes this long. */
const FOREIGN_MS = 60_000;

export interface LockEffects {
  readonly clock: Clock;
  readonly ids: Ids;
}

/**
 * Runs `action` while holding the lock of `path`, whose folder must exist. Waiters go in no
 * certain order. Throws `internal`, retryable, when the lock is not free within `timeoutMs`.
 */
export async function withFileLock<T>(
  path: string,
  effects: LockEffects,
  action: () => Promise<T>,
  timeoutMs = 20_000,
): Promise<T> {
  const { clock, ids } = effects;
  const folder = `${path}.lock`;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const scope = await scopeOf(clock);
  const start = await startTime(process.pid);
  const at = String(clock.now()).padStart(15, "0");
  const claim = `${at}-${scope}-${process.pid}-${start ?? 0}-${ids.token()}`;
  const deadline = clock.monotonic() + timeoutMs;
  let claimed = false;
  try {
    for (;;) {
      let rivals = await liveRivals(folder, claim, scope, clock.now());
      if (rivals.length === 0 && !claimed) {
        await (await open(join(folder, claim), "wx", 0o600)).close();
        claimed = true;
        rivals = await liveRivals(folder, claim, scope, clock.now());
      }
      if (claimed && rivals.length === 0) break;
      if (claimed && rivals.some((rival) => rival < claim)) {
        await unlink(join(folder, claim));
        claimed = false;
      }
      if (clock.monotonic() > deadline) throw lockError(path, rivals);
      await clock.sleep(2 + ids.fraction() * 10);
    }
    return await action();
  } finally {
    if (claimed) await unlink(join(folder, claim)).catch(() => {});
  }
}

async function liveRivals(folder: string, own: string, scope: string, now: number) {
  const rivals: string[] = [];
  for (const name of await readdir(folder)) {
    if (name === own || !CLAIM.test(name)) continue;
    if (await isLive(name, scope, now)) rivals.push(name);
    else await unlink(join(folder, name)).catch(() => {});
  }
  return rivals;
}

async function isLive(name: string, scope: string, now: number): Promise<boolean> {
  const claim = CLAIM.exec(name)?.groups ?? {};
  if (claim["scope"] !== scope) return Math.abs(now - Number(claim["at"])) < FOREIGN_MS;
  const pid = Number(claim["pid"]);
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives, as another user.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
  const start = await startTime(pid);
  return start === undefined || claim["start"] === "0" || claim["start"] === start;
}

/** Process ids mean something only within one boot and one pid namespace. */
async function scopeOf(clock: Clock): Promise<string> {
  const namespace = await readlink("/proc/self/ns/pid").catch(() => "");
  // Without a boot id of the system, the clock names this process: the pid alone must do then.
  const boot = clock.bootId().startsWith("process-") ? "" : clock.bootId();
  return createHash("sha256").update(`${boot} ${namespace}`).digest("hex").slice(0, 8);
}

/** Start time of a process in clock ticks since boot; undefined where the system does not say. */
async function startTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The command name (field 2) may hold blanks and parentheses; start time is field 22.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
}

function lockError(path: string, rivals: readonly string[]): OrchestratorError {
  const pid = CLAIM.exec(rivals.toSorted()[0] ?? "")?.groups?.["pid"] ?? "?";
  return new OrchestratorError("internal", `${path} is being changed by process ${pid}`, {
    retryable: true,
    details: { path, pid },
  });
}
