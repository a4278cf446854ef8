import { hash } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import type { ChainEnd } from "./chain.ts";
import { isErrno, unhealthy } from "./failure.ts";

/*
 * The high-water mark: `<database>.hwm` says up to which event the log is known to have come. It is raised after a
 * commit, so it is never ahead of the database, and read before the database is, so that a shorter log is a loss.
 *
 * Two slots of one JSON line each, with a checksum, are written in place and in turn: a cut in the middle of a write
 * leaves the other slot, so a mark costs microseconds and no sync. The higher valid slot counts.
 */

export interface Mark extends ChainEnd {
  readonly fleet_id: string;
}

const SLOT_BYTES = 512;

export function markPath(path: string): string {
  return `${path}.hwm`;
}

/** The mark beside the database at `path`; undefined when there is none, `unhealthy` when it cannot be read. */
export function readMark(path: string): Mark | undefined {
  let content: Buffer;
  try {
    content = readFileSync(markPath(path));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
  const mark = highest(content);
  if (mark !== undefined) return mark;
  throw unhealthy(
    path,
    `the high-water mark ${markPath(path)} is damaged, so it cannot be told whether the store is complete`,
    { hint: "restore a backup, or move the mark aside once you know that nothing is missing" },
  );
}

/** Makes the mark if there is none; of two processes that do, one wins and both go on. */
export function createMark(path: string, mark: Mark, token: string): void {
  const draft = `${markPath(path)}.${token}`;
  const fd = openSync(draft, "wx", 0o600);
  try {
    const line = slotOf(mark);
    writeSync(fd, Buffer.concat([line, line]));
    fsyncSync(fd);
    linkSync(draft, markPath(path));
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
  } finally {
    closeSync(fd);
    rmSync(draft, { force: true });
  }
}

/** The mark of an open store; keeps its file open. */
export class HighWaterMark {
  readonly #fd: number;
  readonly #fleetId: string;
  readonly #content = Buffer.alloc(2 * SLOT_BYTES);

  constructor(path: string, fleetId: string) {
    this.#fd = openSync(markPath(path), "r+");
    this.#fleetId = fleetId;
  }

  /**
   * Raises the mark to `committed`, and on to `newest()` if a rival committed meanwhile: whoever writes last looks
   * again after writing, so that a race of two processes cannot leave the mark below what both have committed.
   */
  raise(committed: ChainEnd, newest: () => ChainEnd): void {
    for (let target = committed; ; target = newest()) {
      readSync(this.#fd, this.#content, 0, this.#content.length, 0);
      const [first, second] = slots(this.#content);
      if (target.seq <= Math.max(first?.seq ?? -1, second?.seq ?? -1)) return;
      const slot = (first?.seq ?? -1) <= (second?.seq ?? -1) ? 0 : 1;
      const line = slotOf({ seq: target.seq, hash: target.hash, fleet_id: this.#fleetId });
      writeSync(this.#fd, line, 0, SLOT_BYTES, slot * SLOT_BYTES);
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}

function slotOf(mark: Mark): Buffer {
  const { seq, hash, fleet_id } = mark;
  const line = JSON.stringify({ seq, hash, fleet_id, sum: sumOf(mark) });
  return Buffer.from(`${line.padEnd(SLOT_BYTES - 1)}\n`, "latin1");
}

function slots(content: Buffer): [Mark | undefined, Mark | undefined] {
  const text = content.toString("latin1");
  return [parseSlot(text.slice(0, SLOT_BYTES)), parseSlot(text.slice(SLOT_BYTES))];
}

function highest(content: Buffer): Mark | undefined {
  const [first, second] = slots(content);
  if (first === undefined || second === undefined) return first ?? second;
  return first.seq >= second.seq ? first : second;
}

function parseSlot(text: string): Mark | undefined {
  try {
    const slot = JSON.parse(text) as Mark & { sum: string };
    return slot.sum === sumOf(slot) ? slot : undefined;
  } catch {
    return undefined;
  }
}

function sumOf(mark: Mark): string {
  return hash("sha256", `${mark.seq} ${mark.hash} ${mark.fleet_id}`, "hex").slice(0, 16);
}
