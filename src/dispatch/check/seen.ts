import { readFile, rename, unlink, writeFile } from "node:fs/promises";
import { z } from "zod";
import type { Checked } from "./judge.ts";

/**
 * What the log was told last, worker by worker, so that only changes are written although the controller comes and goes between sweeps.
 * No fact rests on it: when it is lost, each worker is told once more.
 */
const shape = z.object({
  /** By worker id. */
  workers: z.record(z.string(), z.object({ name: z.string(), told: z.string() })),
  refused: z.string().nullable(),
});

export type Seen = z.output<typeof shape>;

const NOTHING: Seen = { workers: {}, refused: null };

export async function readSeen(path: string): Promise<Seen> {
  const text = await readFile(path, "utf8").catch(() => "");
  try {
    return shape.parse(JSON.parse(text));
  } catch {
    return NOTHING;
  }
}

/** Whole or not at all; a disk that is full costs repeated lines, no more. */
export async function writeSeen(path: string, seen: Seen): Promise<void> {
  const temporary = `${path}.${process.pid}`;
  try {
    await writeFile(temporary, JSON.stringify(seen), { mode: 0o600 });
    await rename(temporary, path);
  } catch {
    await unlink(temporary).catch(() => {});
  }
}

/** What counts as a change when it differs: never mere age, nor what a sweep did about it. */
export function toldOf({ machine, window, status, reason, run, found }: Checked): string {
  const lasting = found.filter((word) => word !== "corrected" && word !== "guard_restarted");
  return JSON.stringify([machine, window, status, reason, run?.run_id ?? null, lasting]);
}
