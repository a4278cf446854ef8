import type { Kysely, Transaction } from "kysely";
import type { RunId, TaskId, WorkerId } from "../domain/ids.ts";
import type { Schema } from "./schema.ts";

/*
 * The store: one database file, one writer at a time, any number of processes.
 *
 * An implementation guarantees:
 * - `mutate` is all or nothing: rows, events and the revision (+1) commit together, durably (FULL), before it resolves.
 *   A callback that throws undoes its own changes only, never those of another mutation committed with it (group commit).
 * - The callback awaits nothing but the transaction. Time enters as `tx.now`.
 * - The same request id with the same operation and body never acts twice: the recorded answer is returned.
 *   With another body: `request_mismatch`. `expectedRevision` that does not hold: `stale_revision`, nothing changed.
 * - `quiet` mutations (heartbeats, cursors, worker facts) append events if asked but do not bump the revision. Reads never do.
 * - Events have gapless rising `seq`, and each carries the hash of the one before it. A high-water mark outside the
 *   database (written after the commit, never ahead of it) makes a lost tail, an emptied or a replaced file an error at open.
 * - Rival writers wait asynchronously in 1-5 ms turns; the event loop is never blocked and nobody starves.
 * - `open` applies migrations after a backup, and refuses a newer schema, a damaged file or a broken chain by name.
 */

export type Db = Kysely<Schema>;

export interface NewEvent {
  /** `noun.past_tense`, e.g. `run.queued`. */
  readonly kind: string;
  readonly repo?: string | undefined;
  readonly task_id?: TaskId | undefined;
  readonly run_id?: RunId | undefined;
  readonly worker_id?: WorkerId | undefined;
  /** JSON-able; no secrets, worker text cleaned and capped. */
  readonly payload?: Readonly<Record<string, unknown>>;
}

export interface StoredEvent {
  readonly seq: number;
  readonly at: number;
  readonly kind: string;
  readonly repo: string | null;
  readonly task_id: TaskId | null;
  readonly run_id: RunId | null;
  readonly worker_id: WorkerId | null;
  readonly payload: Readonly<Record<string, unknown>>;
}

export interface Tx {
  readonly db: Transaction<Schema>;
  /** Wall milliseconds of this mutation. */
  readonly now: number;
  /** Appends an event to the same commit. Events get their `seq` at commit, in the order of the calls. */
  event(event: NewEvent): void;
}

export interface MutateOptions {
  readonly expectedRevision?: number | undefined;
  /** The caller's name for this mutation; `operation` and `body` say what it must be equal to when repeated. */
  readonly request?:
    | { readonly id: string; readonly operation: string; readonly body: unknown }
    | undefined;
  readonly quiet?: boolean;
}

export interface MutationResult<T> {
  readonly value: T;
  readonly revision: number;
  /** True when the answer was recorded by an earlier call with this request id. */
  readonly replayed: boolean;
}

export interface EventFilter {
  readonly run_id?: RunId | undefined;
  readonly worker_id?: WorkerId | undefined;
  readonly task_id?: TaskId | undefined;
  readonly repo?: string | undefined;
  /** Exact kinds, or a prefix ending in `.`. */
  readonly kinds?: readonly string[] | undefined;
}

export interface Store {
  /** The fleet this store belongs to; made at first open. */
  readonly fleetId: string;
  readonly path: string;
  /** Read-only access; never takes the write lock. */
  readonly db: Db;
  /** `value` must be JSON-able when a request id is given. */
  mutate<T>(change: (tx: Tx) => Promise<T>, options?: MutateOptions): Promise<MutationResult<T>>;
  revision(): Promise<number>;
  /** Events with `seq > after`, ascending, at most `limit` (default 500). */
  readEvents(
    after: number,
    options?: { limit?: number; filter?: EventFilter },
  ): Promise<StoredEvent[]>;
  /** Seq of the newest event; 0 when there is none. */
  lastSeq(): Promise<number>;
  /**
   * Resolves as soon as there is an event with `seq > after`: at once for commits of this process, within 100 ms for
   * those of others. Rejects when the signal aborts.
   */
  waitForEvents(after: number, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}
