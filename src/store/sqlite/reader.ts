import {
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  Kysely,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from "kysely";
import type { Schema } from "../schema.ts";
import type { Db } from "../store.ts";
import { type Turns, whenFree } from "./busy.ts";
import type { SqliteConnection } from "./connection.ts";

/** Kysely over a connection that only reads; a read that meets a rival's recovery or last close is tried again. */
export function readerOver(connection: SqliteConnection, turns: Turns, path: string): Db {
  const patient: DatabaseConnection = {
    executeQuery: <Row>(query: CompiledQuery): Promise<QueryResult<Row>> =>
      whenFree(() => connection.execute<Row>(query), turns, path),
    streamQuery: <Row>(query: CompiledQuery) => connection.streamQuery<Row>(query),
  };
  const driver: Driver = {
    init: async () => {},
    acquireConnection: async () => patient,
    beginTransaction: async () => connection.exec("begin"),
    commitTransaction: async () => connection.exec("commit"),
    rollbackTransaction: async () => connection.exec("rollback"),
    releaseConnection: async () => {},
    destroy: async () => connection.close(),
  };
  return new Kysely<Schema>({ dialect: dialectWith(driver) });
}

export function dialectWith(driver: Driver): Dialect {
  return {
    createDriver: () => driver,
    createQueryCompiler: () => new SqliteQueryCompiler(),
    createAdapter: () => new SqliteAdapter(),
    createIntrospector: (db) => new SqliteIntrospector(db),
  };
}
