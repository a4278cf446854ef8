import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import type { CompiledQuery, DatabaseConnection, QueryResult } from "kysely";
import { OrchestratorError } from "../../domain/errors.ts";

interface Prepared {
  readonly statement: StatementSync;
  readonly returnsRows: boolean;
}

const KEPT_STATEMENTS = 256;

/** One connection to the file, as Kysely wants it. Each statement runs to its end before the call returns. */
export class SqliteConnection implements DatabaseConnection {
  readonly #database: DatabaseSync;
  readonly #prepared = new Map<string, Prepared>();

  constructor(path: string, mode: "read" | "write") {
    this.#database = new DatabaseSync(path, { readOnly: mode === "read", timeout: 0 });
  }

  /** False after SQLite has undone the transaction on its own, as it may when the disk is full. */
  get isTransaction(): boolean {
    return this.#database.isTransaction;
  }

  exec(statements: string): void {
    this.#database.exec(statements);
  }

  /** Runs one statement that returns nothing; prepared once. */
  run(statement: string, ...parameters: SQLInputValue[]): void {
    this.#prepare(statement).statement.run(...parameters);
  }

  /** The rows, with the column types the caller knows the statement to have. */
  rows<Row>(statement: string, ...parameters: SQLInputValue[]): Row[] {
    return this.#prepare(statement).statement.all(...parameters) as Row[];
  }

  async executeQuery<Row>(query: CompiledQuery): Promise<QueryResult<Row>> {
    return this.execute(query);
  }

  execute<Row>(query: CompiledQuery): QueryResult<Row> {
    const parameters = query.parameters.map(bindable);
    const { statement, returnsRows } = this.#prepare(query.sql);
    if (returnsRows) return { rows: statement.all(...parameters) as Row[] };
    const { changes, lastInsertRowid } = statement.run(...parameters);
    return { rows: [], numAffectedRows: BigInt(changes), insertId: BigInt(lastInsertRowid) };
  }

  async *streamQuery<Row>(query: CompiledQuery): AsyncIterableIterator<QueryResult<Row>> {
    // A statement of its own: a kept one could be run again while this one is still being read.
    const statement = this.#database.prepare(query.sql);
    for (const row of statement.iterate(...query.parameters.map(bindable))) {
      yield { rows: [row as Row] };
    }
  }

  close(): void {
    this.#prepared.clear();
    if (this.#database.isOpen) this.#database.close();
  }

  #prepare(sql: string): Prepared {
    const kept = this.#prepared.get(sql);
    if (kept !== undefined) return kept;
    const statement = this.#database.prepare(sql);
    const prepared = { statement, returnsRows: statement.columns().length > 0 };
    if (this.#prepared.size >= KEPT_STATEMENTS) {
      const [oldest = ""] = this.#prepared.keys();
      this.#prepared.delete(oldest);
    }
    this.#prepared.set(sql, prepared);
    return prepared;
  }
}

/** node:sqlite takes an object in first place for named parameters and drops it without a word: so none may pass. */
function bindable(value: unknown, index: number): SQLInputValue {
  if (typeof value === "string" || typeof value === "number" || typeof value === "bigint")
    return value;
  if (value === null || value instanceof Uint8Array) return value;
  throw new OrchestratorError(
    "internal",
    `SQL parameter ${index + 1} is ${describe(value)}; only text, numbers, null and Uint8Array can be stored`,
  );
}

function describe(value: unknown): string {
  return typeof value === "object" ? `an object (${value?.constructor?.name})` : typeof value;
}
