import { closeSync, fsyncSync, openSync, renameSync, rmSync } from "node:fs";
import { basename, dirname } from "node:path";
import type { Clock } from "../platform/clock.ts";
import { type EventRow, followChain, GENESIS } from "./chain.ts";
import { isErrno, storageFailure, unhealthy } from "./failure.ts";
import { markPath } from "./mark.ts";
import { MIGRATIONS } from "./migrations/migrations.ts";
import { type OpenOptions, openStore } from "./open.ts";
import { SqliteConnection } from "./sqlite/connection.ts";
import { copyTo, refuseNewer, schemaVersion } from "./sqlite/migrate.ts";
import type { Store } from "./store.ts";

/** Copies what is committed to a file beside the database, and returns its path. Readers and writers go on meanwhile. */
export function backupStore(path: string, clock: Clock): string {
  const backup = `${path}.backup-v${MIGRATIONS.length}-${clock.now()}`;
  copyTo(path, backup);
  return backup;
}

/**
 * Puts a checked backup in the place of the store and opens it: its generation rises by one and a `store.restored`
 * event says from what. What was there is kept beside it as `<database>.aside-<milliseconds>`. Cut short, it leaves a
 * store that is refused at open, and may be called again. Processes that have the old file open are refused from then on.
 */
export async function restoreStore(options: OpenOptions & { backup: string }): Promise<Store> {
  const { path, backup, clock } = options;
  const draft = `${path}.restoring`;
  try {
    assertWhole(backup);
    rmSync(draft, { force: true });
    copyTo(backup, draft);
  } catch (error) {
    throw storageFailure(error, backup);
  }
  const aside = `${path}.aside-${clock.now()}`;
  for (const end of ["-wal", "-shm", ""]) moveAside(`${path}${end}`, `${aside}${end}`);
  renameSync(draft, path);
  // The mark goes last: until then it speaks of the store that was lost, and nothing opens by mistake.
  moveAside(markPath(path), markPath(aside));
  syncFolder(dirname(path));
  const store = await openStore(options);
  await store.mutate(async (tx) => {
    const stored = await tx.db
      .selectFrom("meta")
      .select("value")
      .where("key", "=", "generation")
      .executeTakeFirstOrThrow();
    const generation = Number(stored.value) + 1;
    const value = String(generation);
    await tx.db.updateTable("meta").set({ value }).where("key", "=", "generation").execute();
    tx.event({ kind: "store.restored", payload: { backup: basename(backup), generation } });
  });
  return store;
}

function assertWhole(backup: string): void {
  const connection = new SqliteConnection(backup, "read");
  try {
    const version = schemaVersion(connection, backup);
    refuseNewer(backup, version, MIGRATIONS.length);
    if (version === 0) throw unhealthy(backup, `the backup ${backup} is empty`);
    const rows = connection.rows<EventRow>("select * from events order by seq");
    const report = followChain(rows, GENESIS);
    if (report.kind === "broken") {
      throw unhealthy(backup, `the event log of the backup ${backup} is broken: ${report.reason}`);
    }
  } finally {
    connection.close();
  }
}

function moveAside(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, "r");
  fsyncSync(fd);
  closeSync(fd);
}
