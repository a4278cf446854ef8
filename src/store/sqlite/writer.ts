import { AsyncLocalStorage } from "node:async_hooks";
import { statSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { OrchestratorError } from "../../domain/errors.ts";
import { type ChainEnd, GENESIS } from "../chain.ts";
import { storageFailure, unhealthy } from "../failure.ts";
import type { MutateOptions, MutationResult, Tx } from "../store.ts";
import { type Turns, whenFree } from "./busy.ts";
import type { SqliteConnection } from "./connection.ts";
import { dataVersion, newestEvent } from "./facts.ts";
import { refuseNewer } from "./migrate.ts";
import { type BatchState, runMutation } from "./mutation.ts";
import type { MutationScope } from "./scope.ts";

/** A transaction takes no more mutations than this, so that the lock comes round to other processes. */
const MOST_AT_ONCE = 200;

/** After a sign of another writer, batches leave it a gap to take the lock for this long. */
const RIVAL_MEMORY_MS = 1_000;

interface Waiting {
  run(state: BatchState): Promise<BatchState>;
  resolve(): void;
  reject(error: unknown): void;
}

export interface WriterOptions {
  readonly path: string;
  readonly schemaVersion: number;
  readonly turns: Turns;
  /** Told of the newest event once it is durable, before the mutations that wrote it resolve. */
  readonly committed: (end: ChainEnd) => void;
}

/** Takes mutations in the order they come; all that wait in one turn of the event loop share one transaction. */
export class Writer {
  readonly #connection: SqliteConnection;
  readonly #options: WriterOptions;
  readonly #inode: number;
  readonly #inside = new AsyncLocalStorage<MutationScope>();
  readonly #queue: Waiting[] = [];
  #working: Promise<void> | undefined;
  #end: ChainEnd = GENESIS;
  #dataVersion = 0;
  #rivalSeenAt = -Infinity;
  #closed = false;

  constructor(connection: SqliteConnection, options: WriterOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#inode = inodeOf(options.path);
  }

  async mutate<T>(
    change: (tx: Tx) => Promise<T>,
    options: MutateOptions,
  ): Promise<MutationResult<T>> {
    if (this.#closed) throw new OrchestratorError("unreachable", "the store was closed");
    if (this.#inside.getStore()?.isOpen) {
      throw new OrchestratorError(
        "internal",
        "a mutation inside a mutation would wait for itself; pass the transaction on instead",
      );
    }
    const { promise, resolve, reject } = Promise.withResolvers<MutationResult<T>>();
    let result: MutationResult<T> | undefined;
    this.#queue.push({
      run: async (state) => {
        const done = await runMutation(
          { connection: this.#connection, clock: this.#options.turns.clock, inside: this.#inside },
          change,
          options,
          state,
        );
        result = done.result;
        return done.state;
      },
      resolve: () => {
        if (result !== undefined) resolve(result);
      },
      reject,
    });
    this.#working ??= this.#work();
    return promise;
  }

  /** The newest committed event, as this connection sees it between transactions. */
  newest(): ChainEnd {
    return newestEvent(this.#connection);
  }

  /** Finishes what was asked for before, then refuses. */
  async drain(): Promise<void> {
    this.#closed = true;
    await this.#working;
  }

  async #work(): Promise<void> {
    while (true) {
      await nextTurn();
      const batch = this.#queue.splice(0, MOST_AT_ONCE);
      if (batch.length === 0) break;
      await this.#commit(batch);
      if (this.#queue.length > 0) await this.#leaveGap();
    }
    this.#working = undefined;
  }

  async #commit(batch: Waiting[]): Promise<void> {
    const before = await this.#begin().catch((error: unknown) => {
      this.#rollback();
      for (const waiting of batch) waiting.reject(storageFailure(error, this.#options.path));
    });
    if (before === undefined) return;
    const done: Waiting[] = [];
    try {
      const state = await this.#runAll(batch, done, before);
      if (state.revision !== before.revision) {
        const update = "update meta set value = ? where key = 'revision'";
        this.#connection.run(update, String(state.revision));
      }
      this.#connection.run("commit");
      this.#end = state.end;
      if (state.end.seq > before.end.seq) this.#options.committed(state.end);
      for (const waiting of done) waiting.resolve();
    } catch (error) {
      this.#rollback();
      for (const waiting of done) waiting.reject(storageFailure(error, this.#options.path));
    }
  }

  async #runAll(batch: Waiting[], done: Waiting[], before: BatchState): Promise<BatchState> {
    let state = before;
    for (let waiting = batch.shift(); waiting; waiting = batch.shift()) {
      try {
        state = await waiting.run(state);
        done.push(waiting);
      } catch (error) {
        waiting.reject(storageFailure(error, this.#options.path));
        if (this.#connection.isTransaction) continue;
        // SQLite undid the whole transaction, as it may when the disk is full: those not yet run get another one.
        this.#queue.unshift(...batch);
        throw error;
      }
    }
    return state;
  }

  async #begin(): Promise<BatchState> {
    const { path, turns } = this.#options;
    let tries = 0;
    const begin = () => {
      tries += 1;
      this.#connection.run("begin immediate");
    };
    await whenFree(begin, turns, path);
    if (inodeOf(path) !== this.#inode) {
      throw unhealthy(path, `the store ${path} was removed or replaced while it was open`);
    }
    const version = dataVersion(this.#connection);
    if (tries > 1 || version !== this.#dataVersion) this.#rivalSeenAt = turns.clock.monotonic();
    this.#dataVersion = version;
    return this.#readState();
  }

  #readState(): BatchState {
    const { path, schemaVersion } = this.#options;
    const [meta] = this.#connection.rows<{ revision: string; schema_version: string }>(
      `select (select value from meta where key = 'revision') as revision,
        (select value from meta where key = 'schema_version') as schema_version`,
    );
    refuseNewer(path, Number(meta?.schema_version), schemaVersion);
    const end = newestEvent(this.#connection);
    if (end.seq < this.#end.seq) {
      throw unhealthy(
        path,
        `the store ${path} ends at event ${end.seq}, and had event ${this.#end.seq} before`,
      );
    }
    return { revision: Number(meta?.revision), end };
  }

  #rollback(): void {
    if (this.#connection.isTransaction) this.#connection.run("rollback");
  }

  async #leaveGap(): Promise<void> {
    const { clock } = this.#options.turns;
    if (clock.monotonic() - this.#rivalSeenAt < RIVAL_MEMORY_MS) await clock.sleep(1);
  }
}

function inodeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.ino ?? 0;
}
