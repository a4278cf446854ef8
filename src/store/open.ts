import type { Clock } from "../platform/clock.ts";
import type { Ids } from "../platform/ids.ts";
import { type Logger, silentLogger } from "../platform/logger.ts";
import { storageFailure, unhealthy } from "./failure.ts";
import { createMark, HighWaterMark, readMark } from "./mark.ts";
import { MIGRATIONS, type Migration } from "./migrations/migrations.ts";
import { whenFree } from "./sqlite/busy.ts";
import { SqliteConnection } from "./sqlite/connection.ts";
import { metaValue, newestEvent } from "./sqlite/facts.ts";
import { inspect, prepareFile } from "./sqlite/inspect.ts";
import { migrate } from "./sqlite/migrate.ts";
import { SqliteStore } from "./sqlite/sqlite-store.ts";
import type { Store } from "./store.ts";

export interface OpenOptions {
  readonly path: string;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly logger?: Logger;
  /** For tests of upgrades; the product's own otherwise. */
  readonly migrations?: readonly Migration[];
}

/**
 * Opens the store at `path`, and makes it when there has never been one. Checks the tail of the log against the
 * high-water mark first and changes nothing when it refuses (`unhealthy`): a missing, emptied, replaced, cut, damaged
 * or newer store. Migrates an older one after a backup beside it.
 */
export async function openStore(options: OpenOptions): Promise<Store> {
  try {
    return await open(options);
  } catch (error) {
    throw storageFailure(error, options.path);
  }
}

async function open(options: OpenOptions): Promise<Store> {
  const { path, ids, clock, logger = silentLogger, migrations = MIGRATIONS } = options;
  const turns = { clock, ids };
  const schemaVersion = migrations.at(-1)?.number ?? 0;
  // The mark first: the database only grows, so what is read after it must reach it.
  const mark = readMark(path);
  prepareFile(path, mark);
  const opened: Array<{ close(): void }> = [];
  const owned = <Resource extends { close(): void }>(resource: Resource) => {
    opened.push(resource);
    return resource;
  };
  try {
    const reading = owned(new SqliteConnection(path, "read"));
    await inspect(reading, path, mark, schemaVersion, turns);
    const writing = owned(new SqliteConnection(path, "write"));
    await whenFree(() => configure(writing, path), turns, path);
    await migrate(writing, { path, migrations, turns, logger, fleetId: ids.next("fleet") });
    const fleetId = metaValue(writing, "fleet_id");
    const newest = newestEvent(writing);
    if (mark === undefined) {
      if (newest.seq > 0) logger.warn("store mark was missing", { path, seq: newest.seq });
      createMark(path, { ...newest, fleet_id: fleetId }, ids.token());
    }
    const highWater = owned(new HighWaterMark(path, fleetId));
    highWater.raise(newest, () => newestEvent(writing));
    return new SqliteStore({
      path,
      fleetId,
      schemaVersion,
      reading,
      writing,
      highWater,
      turns,
      logger,
    });
  } catch (error) {
    for (const resource of opened.reverse()) resource.close();
    throw error;
  }
}

function configure(connection: SqliteConnection, path: string): void {
  const [mode] = connection.rows<{ journal_mode: string }>("pragma journal_mode = wal");
  if (mode?.journal_mode !== "wal")
    throw unhealthy(path, `the store ${path} cannot keep a write-ahead log here`);
  connection.exec("pragma synchronous = full");
  connection.exec("pragma foreign_keys = on");
  connection.exec("pragma journal_size_limit = 16777216");
}
