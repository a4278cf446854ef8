import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { folderAt } from "../../src/providers/local/folder.ts";
import type { Installation } from "./installation.ts";

/** The sshd of a local worker with the sessions it serves, and nothing that runs in them. */
export function sshdsOf(installed: Installation, worker: string): number[] {
  const { sshdPid } = folderAt(join(installed.paths.local, worker));
  const first = Number(readFileSync(sshdPid, "utf8").trim());
  const all = readdirSync("/proc").flatMap((name) => {
    const stat = /^\d+$/.test(name) ? readProc(name) : undefined;
    const parts = stat === undefined ? null : /^(\d+) \((sshd[^)]*)\) \S (\d+)/.exec(stat);
    return parts === null ? [] : [{ pid: Number(parts[1]), parent: Number(parts[3]) }];
  });
  const found = [first];
  for (const pid of found) {
    found.push(...all.filter(({ parent }) => parent === pid).map((child) => child.pid));
  }
  return found;
}

function readProc(pid: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
}

export function signalIfThere(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It ended meanwhile, which heals as well.
  }
}

/** All processes of a local worker end at once, as when its machine loses power. */
export function powerCut(installed: Installation, worker: string): void {
  const file = join(installed.paths.local, worker, "worker.json");
  const { id } = JSON.parse(readFileSync(file, "utf8")) as { id: string };
  for (const pid of sshdsOf(installed, worker)) signalIfThere(pid, "SIGKILL");
  // Twice: what is within an exec shows no environment.
  for (const name of [...readdirSync("/proc"), ...readdirSync("/proc")]) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const environment = readFileSync(`/proc/${name}/environ`, "utf8").split("\0");
      if (environment.includes(`ORCHESTRATOR_WORKER=${id}`)) signalIfThere(Number(name), "SIGKILL");
    } catch {
      // It ended meanwhile.
    }
  }
}
