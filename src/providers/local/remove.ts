import { execFile } from "node:child_process";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import type { Clock } from "../../platform/clock.ts";
import { BUILDING, type Entry, REMOVING, folderAt, namesIn, readLabels } from "./folder.ts";
import { isMissing } from "./folder.ts";
import type { Labels } from "./labels.ts";
import { tryLock } from "./lock.ts";
import { endProcesses, findSshdHolding } from "./processes.ts";
import { findSshd } from "./sshd.ts";

const run = promisify(execFile);

/**
 * Ends everything that runs in the worker and removes its folder. Call it with the worker's lock held and the id just
 * checked. A crash before the rename leaves a worker that `list` shows; after it, rubbish that `sweep` removes.
 */
export async function removeWorker(
  root: string,
  { folder }: Entry,
  labels: Labels,
  graceMs: number,
  clock: Clock,
): Promise<void> {
  const listener = await findSshd(folder, clock);
  const roots = await findSshdHolding(folder.sshdLog);
  if (listener !== undefined) roots.push(listener.process);
  await endProcesses(labels.id, roots, graceMs, clock);
  const condemned = join(root, `${REMOVING}${labels.id}`);
  await rename(folder.path, condemned);
  await removeFolder(condemned, labels);
}

/** Removes what crashed creations and removals left behind. Building folders whose builder lives are not touched. */
export async function sweep(root: string, clock: Clock): Promise<void> {
  for (const name of await namesIn(root)) {
    if (name.startsWith(REMOVING)) await removeCondemned(join(root, name), clock);
    if (!name.startsWith(BUILDING)) continue;
    await using orphaned = await tryLock(root, name);
    if (orphaned !== undefined) await removeCondemned(join(root, name), clock);
  }
}

async function removeCondemned(path: string, clock: Clock): Promise<void> {
  const labels = await readLabels(folderAt(path)).catch(() => undefined);
  if (labels !== undefined) await endProcesses(labels.id, [], 0, clock);
  await removeFolder(path, labels);
}

async function removeFolder(path: string, labels: Labels | undefined): Promise<void> {
  const outside = labels?.outsideTmuxDir;
  if (typeof outside === "string") await removeTree(outside);
  await removeTree(path);
}

/** Also removes trees with read-only folders in them, as package caches have. */
async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (isMissing(error)) return;
    await run("chmod", ["-R", "u+rwX", "--", path]).catch(() => {});
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  }
}
