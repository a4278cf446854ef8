import { mkdirSync, openSync, closeSync, statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { type EventRow, followChain } from "../chain.ts";
import { isErrno, unhealthy } from "../failure.ts";
import { type Mark, markPath } from "../mark.ts";
import { type Turns, whenFree } from "./busy.ts";
import type { SqliteConnection } from "./connection.ts";
import { metaValue, newestEvent } from "./facts.ts";
import { refuseNewer, schemaVersion } from "./migrate.ts";

/** How much of the log's tail is checked at each open. */
const TAIL = 1_000;

/** NFS, SMB and CIFS: locks there are not to be trusted, and the log in shared memory does not work at all. */
const NETWORK_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x6969, 0x517b, 0xff534d42, 0xfe534d42]);

/**
 * Makes the folder and an empty private file when there is neither database nor mark; anything that hints at a lost
 * database is refused. `mark` was read before, and a mark is made after its database: so it never runs ahead.
 */
export function prepareFile(path: string, mark: Mark | undefined): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  if (NETWORK_FILE_SYSTEMS.has(statfsSync(dirname(path)).type)) {
    throw unhealthy(path, `the store ${path} lies on a network file system`, {
      hint: "keep it on a local disk",
    });
  }
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  if (size !== undefined && size > 0) return;
  const state = size === undefined ? "is missing" : "is empty";
  if (mark !== undefined) {
    throw unhealthy(
      path,
      `the store ${path} ${state}, and had ${mark.seq} events by ${markPath(path)}`,
      { details: { lost_after: 0, expected: mark.seq } },
    );
  }
  if ((statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0) {
    throw unhealthy(path, `the store ${path} ${state}, and its write-ahead log is still there`);
  }
  try {
    // Only ever created here: closing an existing file would drop the locks this process holds on it.
    if (size === undefined) closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
  }
}

/** Reads the file without changing it, and refuses what is newer, damaged, cut or not the store that the mark knows. */
export async function inspect(
  reading: SqliteConnection,
  path: string,
  mark: Mark | undefined,
  known: number,
  turns: Turns,
): Promise<void> {
  const look = () => {
    reading.exec("begin");
    try {
      refuseLosses(reading, path, mark, known);
    } finally {
      if (reading.isTransaction) reading.exec("rollback");
    }
  };
  await whenFree(look, turns, path);
}

function refuseLosses(
  connection: SqliteConnection,
  path: string,
  mark: Mark | undefined,
  known: number,
): void {
  const version = schemaVersion(connection, path);
  refuseNewer(path, version, known);
  if (version === 0) {
    if (mark === undefined) return;
    throw unhealthy(
      path,
      `the store ${path} has no tables, and had ${mark.seq} events by ${markPath(path)}`,
      { details: { lost_after: 0, expected: mark.seq } },
    );
  }
  if (mark !== undefined) refuseBelow(connection, path, mark);
  const rows = connection.rows<EventRow>(
    "select * from (select * from events order by seq desc limit ?) order by seq",
    TAIL,
  );
  const report = followChain(rows);
  if (report.kind === "whole") return;
  throw unhealthy(path, `the event log of the store ${path} is broken: ${report.reason}`, {
    details: { seq: report.seq },
  });
}

function refuseBelow(connection: SqliteConnection, path: string, mark: Mark): void {
  const fleetId = metaValue(connection, "fleet_id");
  if (fleetId !== mark.fleet_id) {
    throw unhealthy(
      path,
      `the store ${path} belongs to fleet ${fleetId}, and ${markPath(path)} to fleet ${mark.fleet_id}`,
    );
  }
  const end = newestEvent(connection);
  if (end.seq < mark.seq) {
    throw unhealthy(
      path,
      `the store ${path} lost its events ${end.seq + 1} to ${mark.seq}, and what was stored with them`,
      { details: { lost_after: end.seq, expected: mark.seq } },
    );
  }
  const [marked] = connection.rows<{ hash: string }>(
    "select hash from events where seq = ?",
    mark.seq,
  );
  if (mark.seq > 0 && marked?.hash !== mark.hash) {
    throw unhealthy(path, `event ${mark.seq} of the store ${path} is not the one that was there`, {
      details: { seq: mark.seq },
    });
  }
}
