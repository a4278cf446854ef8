import { chmodSync, closeSync, fsyncSync, openSync } from "node:fs";
import type { Logger } from "../../platform/logger.ts";
import { unhealthy } from "../failure.ts";
import type { Migration } from "../migrations/migrations.ts";
import { type Turns, whenFree } from "./busy.ts";
import { SqliteConnection } from "./connection.ts";

/** The number of the newest migration applied; 0 for a file without tables. A file that is no store is refused. */
export function schemaVersion(connection: SqliteConnection, path: string): number {
  const [tables] = connection.rows<{ tables: number; meta: number }>(
    "select count(*) as tables, count(*) filter (where name = 'meta') as meta from sqlite_schema where type = 'table'",
  );
  if (tables === undefined || tables.tables === 0) return 0;
  if (tables.meta === 0) {
    throw unhealthy(path, `${path} is a database of another program, not a store`);
  }
  const [row] = connection.rows<{ value: string }>(
    "select value from meta where key = 'schema_version'",
  );
  if (row === undefined) throw unhealthy(path, `the store ${path} does not say its schema version`);
  return Number(row.value);
}

export function refuseNewer(path: string, found: number, known: number): void {
  if (found <= known) return;
  throw unhealthy(
    path,
    `the store ${path} has schema ${found}, and this version knows schemas up to ${known}`,
    {
      hint: "use the newer version that made it",
      details: { schema_version: found, known_version: known },
    },
  );
}

export interface MigrationPlan {
  readonly path: string;
  readonly migrations: readonly Migration[];
  readonly turns: Turns;
  readonly logger: Logger;
  /** Used when the store is made now. */
  readonly fleetId: string;
}

/**
 * Brings the schema up to date in one transaction, after a backup if there was an older one. Of two processes that
 * open at once, one migrates and the other finds it done. Idempotent.
 */
export async function migrate(connection: SqliteConnection, plan: MigrationPlan): Promise<void> {
  const { path, migrations, turns, logger } = plan;
  const known = migrations.at(-1)?.number ?? 0;
  if (schemaVersion(connection, path) === known) return;
  await whenFree(() => connection.exec("begin immediate"), turns, path);
  try {
    const found = schemaVersion(connection, path);
    refuseNewer(path, found, known);
    if (found > 0 && found < known) {
      const backup = `${path}.backup-v${found}-${turns.clock.now()}`;
      copyTo(path, backup);
      logger.info("store backed up", { path: backup, schema_version: found });
    }
    if (found === 0) createMeta(connection, plan.fleetId);
    for (const migration of migrations.filter(({ number }) => number > found)) {
      connection.exec(migration.sqlite);
      logger.info("store migrated", { path, schema_version: migration.number });
    }
    connection.run("update meta set value = ? where key = 'schema_version'", String(known));
    connection.exec("commit");
  } catch (error) {
    if (connection.isTransaction) connection.exec("rollback");
    throw error;
  }
}

function createMeta(connection: SqliteConnection, fleetId: string): void {
  connection.exec("create table meta (key text primary key, value text not null) strict");
  const insert = "insert into meta (key, value) values (?, ?)";
  connection.run(insert, "schema_version", "0");
  connection.run(insert, "fleet_id", fleetId);
  connection.run(insert, "generation", "1");
  connection.run(insert, "revision", "0");
}

/** Copies what is committed, while the caller may hold the write lock; durable when it returns. */
export function copyTo(path: string, target: string): void {
  const source = new SqliteConnection(path, "read");
  try {
    source.run("vacuum into ?", target);
  } finally {
    source.close();
  }
  chmodSync(target, 0o600);
  const fd = openSync(target, "r+");
  fsyncSync(fd);
  closeSync(fd);
}
