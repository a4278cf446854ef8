import type { Logger } from "../../platform/logger.ts";
import type { ChainEnd } from "../chain.ts";
import { readEvents } from "../events.ts";
import { storageFailure } from "../failure.ts";
import type { HighWaterMark } from "../mark.ts";
import type {
  Db,
  EventFilter,
  MutateOptions,
  MutationResult,
  Store,
  StoredEvent,
  Tx,
} from "../store.ts";
import { EventWatch } from "../watch.ts";
import { isBusy, type Turns, whenFree } from "./busy.ts";
import type { SqliteConnection } from "./connection.ts";
import { dataVersion, metaValue, newestEvent } from "./facts.ts";
import { readerOver } from "./reader.ts";
import { Writer } from "./writer.ts";

export interface SqliteStoreParts {
  readonly path: string;
  readonly fleetId: string;
  readonly schemaVersion: number;
  /** Owned from here on, like the mark. */
  readonly reading: SqliteConnection;
  readonly writing: SqliteConnection;
  readonly highWater: HighWaterMark;
  readonly turns: Turns;
  readonly logger: Logger;
}

/** The store on one SQLite file: a connection that writes, one that only reads, and the mark. */
export class SqliteStore implements Store {
  readonly path: string;
  readonly fleetId: string;
  readonly db: Db;
  readonly #parts: SqliteStoreParts;
  readonly #reading: SqliteConnection;
  readonly #writer: Writer;
  readonly #watch: EventWatch;
  #closing: Promise<void> | undefined;

  constructor(parts: SqliteStoreParts) {
    const { path, fleetId, schemaVersion, reading, writing, turns } = parts;
    this.path = path;
    this.fleetId = fleetId;
    this.#parts = parts;
    this.#reading = reading;
    this.db = readerOver(reading, turns, path);
    this.#watch = new EventWatch(turns.clock, {
      lastSeq: () => unlessBusy(() => newestEvent(reading).seq),
      version: () => dataVersion(reading),
    });
    const committed = (end: ChainEnd) => this.#committed(end);
    this.#writer = new Writer(writing, { path, schemaVersion, turns, committed });
  }

  mutate<T>(
    change: (tx: Tx) => Promise<T>,
    options: MutateOptions = {},
  ): Promise<MutationResult<T>> {
    return this.#writer.mutate(change, options);
  }

  async revision(): Promise<number> {
    return Number(await this.#read(() => metaValue(this.#reading, "revision")));
  }

  async readEvents(
    after: number,
    options?: { limit?: number; filter?: EventFilter },
  ): Promise<StoredEvent[]> {
    return readEvents(this.db, after, options);
  }

  async lastSeq(): Promise<number> {
    return this.#read(() => newestEvent(this.#reading).seq);
  }

  waitForEvents(after: number, signal: AbortSignal): Promise<void> {
    return this.#watch.wait(after, signal);
  }

  /** Commits what was asked for before, then frees the file. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#watch.close();
    await this.#writer.drain();
    await this.db.destroy();
    // The writing side last: only that one can fold the write-ahead log into the file.
    this.#parts.reading.close();
    this.#parts.writing.close();
    this.#parts.highWater.close();
  }

  #read<T>(query: () => T): Promise<T> {
    const { turns, path } = this.#parts;
    return whenFree(query, turns, path);
  }

  #committed(end: ChainEnd): void {
    const { highWater, logger, path } = this.#parts;
    try {
      highWater.raise(end, () => this.#writer.newest());
    } catch (error) {
      // The events are durable; a mark that lags behind only vouches for less.
      const failure = storageFailure(error, path);
      logger.warn("store mark not raised", { path, seq: end.seq, error: String(failure) });
    }
    this.#watch.wake(end.seq);
  }
}

/** Undefined while a rival has the file to itself, as it does for a moment when it recovers or closes it. */
function unlessBusy<T>(query: () => T): T | undefined {
  try {
    return query();
  } catch (error) {
    if (isBusy(error)) return undefined;
    throw error;
  }
}
