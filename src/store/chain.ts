import { hash } from "node:crypto";
import type { Selectable } from "kysely";
import type { EventsTable } from "./schema.ts";
import type { Db } from "./store.ts";

/** An event as stored; `payload` is the canonical JSON text that the hash covers. */
export type EventRow = Readonly<Selectable<EventsTable>>;

/** A place in the log: the newest event and its hash. */
export interface ChainEnd {
  readonly seq: number;
  readonly hash: string;
}

/** What the first event names as the hash before it. */
export const GENESIS: ChainEnd = { seq: 0, hash: "0".repeat(64) };

export type ChainReport =
  | { readonly kind: "whole"; readonly end: ChainEnd }
  | { readonly kind: "broken"; readonly seq: number; readonly reason: string };

/** SHA-256 over the hash of the event before and the canonical JSON of this one, in hex. */
export function eventHash(event: Omit<EventRow, "hash">): string {
  // The members stand in sorted order and the payload is canonical already, so this text is the canonical JSON.
  const text =
    `{"at":${event.at},"kind":${JSON.stringify(event.kind)},"payload":${event.payload}` +
    `,"repo":${JSON.stringify(event.repo)},"run_id":${JSON.stringify(event.run_id)},"seq":${event.seq}` +
    `,"task_id":${JSON.stringify(event.task_id)},"worker_id":${JSON.stringify(event.worker_id)}}`;
  return hash("sha256", event.prev_hash + text, "hex");
}

/**
 * Checks that the rows follow on from `before`, without a gap and each with its true hash. Without `before` (a tail of
 * the log) the first row is believed as to what came before it.
 */
export function followChain(rows: readonly EventRow[], before?: ChainEnd): ChainReport {
  const first = rows[0];
  let end = before ?? (first ? { seq: first.seq - 1, hash: first.prev_hash } : GENESIS);
  for (const row of rows) {
    const reason = flaw(row, end);
    if (reason !== undefined) return { kind: "broken", seq: row.seq, reason };
    end = { seq: row.seq, hash: row.hash };
  }
  return { kind: "whole", end };
}

function flaw(row: EventRow, before: ChainEnd): string | undefined {
  if (row.seq !== before.seq + 1) return `events ${before.seq + 1} to ${row.seq - 1} are missing`;
  if (row.prev_hash !== before.hash) return `event ${row.seq} does not follow event ${before.seq}`;
  if (eventHash(row) !== row.hash) return `event ${row.seq} was altered`;
  return undefined;
}

const CHUNK = 1_000;

/** Checks the whole log, in chunks, reading one after the other; about 100,000 events a second. */
export async function verifyChain(db: Db): Promise<ChainReport> {
  let end = GENESIS;
  for (;;) {
    const rows = await db
      .selectFrom("events")
      .selectAll()
      .where("seq", ">", end.seq)
      .orderBy("seq")
      .limit(CHUNK)
      .execute();
    const report = followChain(rows, end);
    if (report.kind === "broken" || rows.length < CHUNK) return report;
    end = report.end;
  }
}
