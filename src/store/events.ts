import type { Expression, ExpressionBuilder, SqlBool } from "kysely";
import type { EventRow } from "./chain.ts";
import type { Schema } from "./schema.ts";
import type { Db, EventFilter, StoredEvent } from "./store.ts";

const DEFAULT_LIMIT = 500;

/** See `Store.readEvents`. */
export async function readEvents(
  db: Db,
  after: number,
  options: { limit?: number; filter?: EventFilter } = {},
): Promise<StoredEvent[]> {
  const filter = options.filter ?? {};
  let query = db.selectFrom("events").selectAll().where("seq", ">", after);
  if (filter.run_id !== undefined) query = query.where("run_id", "=", filter.run_id);
  if (filter.worker_id !== undefined) query = query.where("worker_id", "=", filter.worker_id);
  if (filter.task_id !== undefined) query = query.where("task_id", "=", filter.task_id);
  if (filter.repo !== undefined) query = query.where("repo", "=", filter.repo);
  const { kinds } = filter;
  if (kinds !== undefined) query = query.where((column) => anyKind(column, kinds));
  const rows = await query
    .orderBy("seq")
    .limit(options.limit ?? DEFAULT_LIMIT)
    .execute();
  return rows.map(toStored);
}

function anyKind(
  column: ExpressionBuilder<Schema, "events">,
  kinds: readonly string[],
): Expression<SqlBool> {
  return column.or(
    kinds.map((kind) =>
      kind.endsWith(".")
        ? // "/" is the character after ".": a range, because LIKE would take "_" for any character.
          column.and([column("kind", ">=", kind), column("kind", "<", `${kind.slice(0, -1)}/`)])
        : column("kind", "=", kind),
    ),
  );
}

function toStored(row: EventRow): StoredEvent {
  return {
    seq: row.seq,
    at: row.at,
    kind: row.kind,
    repo: row.repo,
    task_id: row.task_id,
    run_id: row.run_id,
    worker_id: row.worker_id,
    payload: JSON.parse(row.payload) as StoredEvent["payload"],
  };
}
