import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median, timed } from "./measure.ts";

/** How fast this machine is at the moment. */
export interface Pace {
  /** Start and end of an empty Node script, ms. */
  readonly nodeMs: number;
  /** A 4 KiB write with fdatasync, ms. */
  readonly syncMs: number;
}

export interface Steadiness {
  readonly before: Pace;
  readonly after: Pace;
  /** How often the block was measured. */
  readonly tries: number;
  readonly steady: boolean;
}

const READINGS = 7;
/** A block counts only when neither pace moved by more than this while it ran. */
const MOST_MOVEMENT = 0.3;
const MOST_TRIES = 3;
/** A sync of the page cache of a virtual disk jitters below this by itself, ms. */
const SYNC_FLOOR_MS = 0.5;

export async function pace(): Promise<Pace> {
  const starts: number[] = [];
  const syncs: number[] = [];
  for (let reading = 0; reading < READINGS; reading += 1) {
    starts.push((await timed([process.execPath, "-e", "0"])).wallMs);
    syncs.push(syncOnce());
  }
  return { nodeMs: median(starts), syncMs: median(syncs) };
}

function syncOnce(): number {
  const folder = mkdtempSync(join(tmpdir(), "bench-"));
  const file = openSync(join(folder, "block"), "w");
  try {
    const block = Buffer.alloc(4096, 1);
    writeSync(file, block);
    fdatasyncSync(file);
    const began = performance.now();
    writeSync(file, block);
    fdatasyncSync(file);
    return performance.now() - began;
  } finally {
    closeSync(file);
    rmSync(folder, { recursive: true });
  }
}

/** Measures a block between two readings of the machine's pace; again when the pace moved, at most three times in all. */
export async function whileSteady<T>(
  measure: () => Promise<T>,
  { readPace = pace, once = false }: { readPace?: () => Promise<Pace>; once?: boolean } = {},
): Promise<Steadiness & { readonly value: T }> {
  for (let tries = 1; ; tries += 1) {
    const before = await readPace();
    const value = await measure();
    const after = await readPace();
    const steady = !hasMoved(before, after);
    if (steady || once || tries === MOST_TRIES) return { before, after, tries, steady, value };
  }
}

export function hasMoved(before: Pace, after: Pace): boolean {
  const sync = (ms: number) => Math.max(ms, SYNC_FLOOR_MS);
  return (
    movement(before.nodeMs, after.nodeMs) > MOST_MOVEMENT ||
    movement(sync(before.syncMs), sync(after.syncMs)) > MOST_MOVEMENT
  );
}

const movement = (a: number, b: number): number => Math.max(a, b) / Math.min(a, b) - 1;
