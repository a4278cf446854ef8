import {
  type DatabaseConnection,
  DefaultQueryExecutor,
  DummyDriver,
  SqliteAdapter,
  SqliteQueryCompiler,
  Transaction,
} from "kysely";
import { OrchestratorError } from "../../domain/errors.ts";
import { canonicalJson } from "../canonical.ts";
import type { EventRow } from "../chain.ts";
import type { Schema } from "../schema.ts";
import type { NewEvent, Tx } from "../store.ts";
import { dialectWith } from "./reader.ts";

/** An event without its place in the log. */
export type UnplacedEvent = Omit<EventRow, "seq" | "prev_hash" | "hash">;

const driver = new DummyDriver();
const dialect = dialectWith(driver);
const compiler = new SqliteQueryCompiler();
const adapter = new SqliteAdapter();

/**
 * What one mutation may touch, for as long as it runs: its queries go straight to the connection that holds the lock,
 * and a query or an event that comes after its end is refused rather than slipped into somebody else's transaction.
 */
export class MutationScope implements Tx {
  readonly now: number;
  readonly db: Transaction<Schema>;
  readonly events: UnplacedEvent[] = [];
  #open = true;

  constructor(connection: DatabaseConnection, now: number) {
    this.now = now;
    const provideConnection = async <T>(
      use: (connection: DatabaseConnection) => Promise<T>,
    ): Promise<T> => {
      this.#assertOpen();
      return use(connection);
    };
    const executor = new DefaultQueryExecutor(compiler, adapter, { provideConnection });
    this.db = new Transaction<Schema>({ config: { dialect }, dialect, driver, executor });
  }

  get isOpen(): boolean {
    return this.#open;
  }

  event(event: NewEvent): void {
    this.#assertOpen();
    this.events.push({
      at: this.now,
      kind: plain(event.kind),
      repo: plainOrNull(event.repo),
      task_id: plainOrNull(event.task_id),
      run_id: plainOrNull(event.run_id),
      worker_id: plainOrNull(event.worker_id),
      payload: canonicalJson(event.payload ?? {}),
    });
  }

  close(): void {
    this.#open = false;
  }

  #assertOpen(): void {
    if (this.#open) return;
    throw new OrchestratorError("internal", "a mutation was used after its callback had returned");
  }
}

const PRINTABLE = /^[\x21-\x7e]{1,200}$/;

/** Names in an event are plain, so that what is hashed is what SQLite gives back. */
function plain<Name extends string>(name: Name): Name {
  if (PRINTABLE.test(name)) return name;
  throw new OrchestratorError(
    "invalid_input",
    `an event cannot carry the name ${JSON.stringify(name)}`,
  );
}

function plainOrNull<Name extends string>(name: Name | undefined): Name | null {
  return name === undefined ? null : plain(name);
}
