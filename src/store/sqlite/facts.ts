import { type ChainEnd, GENESIS } from "../chain.ts";
import type { SqliteConnection } from "./connection.ts";

/** The newest event that this connection sees. */
export function newestEvent(connection: SqliteConnection): ChainEnd {
  const [newest] = connection.rows<ChainEnd>(
    "select seq, hash from events order by seq desc limit 1",
  );
  return newest === undefined ? GENESIS : { seq: newest.seq, hash: newest.hash };
}

/** A number that changes whenever another connection commits; takes no lock. */
export function dataVersion(connection: SqliteConnection): number {
  const [row] = connection.rows<{ data_version: number }>("pragma data_version");
  return row?.data_version ?? 0;
}

export function metaValue(connection: SqliteConnection, key: string): string {
  const [row] = connection.rows<{ value: string }>("select value from meta where key = ?", key);
  return row?.value ?? "";
}
