import { readFileSync } from "node:fs";
import { readFile, readdir, readlink } from "node:fs/promises";

import type { Clock } from "../../platform/clock.ts";
import { ProviderError } from "../provider-error.ts";

/** Name of the variable that every process of a worker carries in the environment it was started with. */
export const WORKER_MARK = "ORCHESTRATOR_WORKER";

/** One process for ever: a pid alone is given to another process after the first one ended. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot. */
  readonly startTime: string;
}

const POLL_MS = 5;
const KILL_MS = 10_000;

/** Parent and start time from the text of /proc/PID/stat (proc(5)); undefined for a zombie, which is over. */
export function parseStat(stat: string): { parent: number; startTime: string } | undefined {
  // The second field is the program's name in brackets and may hold anything, also brackets and blanks.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state, parent] = fields;
  const startTime = fields[19];
  if (state === undefined || startTime === undefined || "ZX".includes(state)) return undefined;
  return { parent: Number(parent), startTime };
}

export function isAlive({ pid, startTime }: ProcessIdentity): boolean {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, "utf8"))?.startTime === startTime;
  } catch {
    return false;
  }
}

/**
 * Processes that belong to a worker: those that carry its mark or are `roots`, and all their descendants. A program that
 * wiped its environment and left its parent is not found. Never this process itself.
 */
export async function findProcesses(
  workerId: string,
  roots: readonly ProcessIdentity[],
): Promise<ProcessIdentity[]> {
  const mark = `${WORKER_MARK}=${workerId}`;
  const all = await Promise.all((await pids()).map((pid) => look(pid, mark)));
  const seen = all.filter((one) => one !== undefined);
  const isRoot = (one: ProcessIdentity) =>
    roots.some(({ pid, startTime }) => pid === one.pid && startTime === one.startTime);
  const found = new Map<number, ProcessIdentity>();
  for (const one of seen) if (one.marked || isRoot(one)) found.set(one.pid, one);
  for (let size = -1; size !== found.size;) {
    size = found.size;
    for (const one of seen) if (found.has(one.parent)) found.set(one.pid, one);
  }
  found.delete(process.pid);
  return [...found.values()].map(({ pid, startTime }) => ({ pid, startTime }));
}

/**
 * The sshd processes that hold `log` open. sshd wipes its environment, and its sessions outlive a listener that died, so
 * neither mark nor parent leads to them. Processes that may not be looked into are left out.
 */
export async function findSshdHolding(log: string): Promise<ProcessIdentity[]> {
  const found = await Promise.all(
    (await pids()).map(async (pid): Promise<ProcessIdentity | undefined> => {
      try {
        const stat = await readFile(`/proc/${pid}/stat`, "utf8");
        const startTime = parseStat(stat)?.startTime;
        if (startTime === undefined || !stat.includes("(sshd")) return undefined;
        const numbers = await readdir(`/proc/${pid}/fd`);
        const open = numbers.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => ""));
        return (await Promise.all(open)).includes(log) ? { pid, startTime } : undefined;
      } catch {
        return undefined;
      }
    }),
  );
  return found.filter((one) => one !== undefined);
}

async function pids(): Promise<number[]> {
  return (await readdir("/proc")).filter((name) => /^[0-9]+$/.test(name)).map(Number);
}

/**
 * Asks the processes of a worker to end, kills what is left after `graceMs`, and returns when none is left. What cannot
 * be killed (another user's, or stuck in the kernel) is `unavailable` after ten seconds more.
 */
export async function endProcesses(
  workerId: string,
  roots: readonly ProcessIdentity[],
  graceMs: number,
  clock: Clock,
): Promise<void> {
  const deadline = clock.monotonic() + graceMs;
  // What was found once is a root of the next search: its children are found by it when their own parent is gone.
  const known = [...roots];
  for (;;) {
    const found = await findProcesses(workerId, known);
    if (found.length === 0) return;
    if (clock.monotonic() > deadline + KILL_MS) throw notEnding(workerId, found);
    known.push(...found);
    for (const one of found) signal(one, clock.monotonic() < deadline ? "SIGTERM" : "SIGKILL");
    while (found.some(isAlive) && clock.monotonic() < deadline) await clock.sleep(POLL_MS);
    if (found.some(isAlive)) await clock.sleep(POLL_MS);
  }
}

function notEnding(workerId: string, left: readonly ProcessIdentity[]): ProviderError {
  const pids = left.map(({ pid }) => pid).join(", ");
  return new ProviderError("unavailable", `processes of local worker ${workerId} do not end`, {
    hint: `look at the processes ${pids}`,
  });
}

export function signal(identity: ProcessIdentity, name: "SIGTERM" | "SIGKILL"): void {
  if (!isAlive(identity)) return;
  try {
    process.kill(identity.pid, name);
  } catch {
    // It ended in between.
  }
}

async function look(
  pid: number,
  mark: string,
): Promise<(ProcessIdentity & { parent: number; marked: boolean }) | undefined> {
  try {
    const stat = parseStat(await readFile(`/proc/${pid}/stat`, "utf8"));
    if (stat === undefined) return undefined;
    return { pid, ...stat, marked: await hasMark(pid, mark) };
  } catch {
    return undefined;
  }
}

async function hasMark(pid: number, mark: string): Promise<boolean> {
  try {
    return (await readFile(`/proc/${pid}/environ`, "utf8")).split("\0").includes(mark);
  } catch {
    // Another user's process, or it ended.
    return false;
  }
}
