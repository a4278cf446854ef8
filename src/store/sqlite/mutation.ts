import type { AsyncLocalStorage } from "node:async_hooks";
import { OrchestratorError } from "../../domain/errors.ts";
import type { Clock } from "../../platform/clock.ts";
import { canonicalHash } from "../canonical.ts";
import { type ChainEnd, eventHash } from "../chain.ts";
import type { MutateOptions, MutationResult, Tx } from "../store.ts";
import type { SqliteConnection } from "./connection.ts";
import { MutationScope, type UnplacedEvent } from "./scope.ts";

/** What a mutation finds and leaves behind within the transaction it shares. */
export interface BatchState {
  readonly revision: number;
  readonly end: ChainEnd;
}

export interface MutationSetting {
  readonly connection: SqliteConnection;
  readonly clock: Clock;
  /** Carries the scope of the running mutation, so that one inside another is noticed. */
  readonly inside: AsyncLocalStorage<MutationScope>;
}

interface Done<T> {
  readonly result: MutationResult<T>;
  readonly state: BatchState;
}

/** Runs one mutation in a savepoint of the open transaction; when it throws, only its own changes are undone. */
export async function runMutation<T>(
  setting: MutationSetting,
  change: (tx: Tx) => Promise<T>,
  options: MutateOptions,
  state: BatchState,
): Promise<Done<T>> {
  const { connection } = setting;
  connection.run("savepoint mutation");
  try {
    const done = await withinSavepoint(setting, change, options, state);
    connection.run("release mutation");
    return done;
  } catch (error) {
    if (connection.isTransaction) {
      connection.run("rollback to mutation");
      connection.run("release mutation");
    }
    throw error;
  }
}

async function withinSavepoint<T>(
  { connection, clock, inside }: MutationSetting,
  change: (tx: Tx) => Promise<T>,
  options: MutateOptions,
  state: BatchState,
): Promise<Done<T>> {
  const { request, expectedRevision } = options;
  const bodyHash = request === undefined ? "" : canonicalHash(request.body);
  if (request !== undefined) {
    const recorded = recordedAnswer(connection, request, bodyHash);
    if (recorded !== undefined) {
      const value = JSON.parse(recorded) as T;
      return { result: { value, revision: state.revision, replayed: true }, state };
    }
  }
  if (expectedRevision !== undefined && expectedRevision !== state.revision) {
    throw new OrchestratorError(
      "stale_revision",
      `the store is at revision ${state.revision}, not ${expectedRevision}`,
      { retryable: true, details: { revision: state.revision, expected: expectedRevision } },
    );
  }
  const scope = new MutationScope(connection, Math.trunc(clock.now()));
  const value = await inside
    .run(scope, async () => change(scope))
    .finally(() => {
      scope.close();
    });
  const end = append(connection, scope.events, state.end);
  if (request !== undefined) {
    connection.run(
      "insert into requests (request_id, operation, body_hash, response, at) values (?, ?, ?, ?, ?)",
      request.id,
      request.operation,
      bodyHash,
      JSON.stringify(value) ?? "null",
      scope.now,
    );
  }
  const revision = options.quiet ? state.revision : state.revision + 1;
  return { result: { value, revision, replayed: false }, state: { revision, end } };
}

/** JSON of the answer that an equal request got before. */
function recordedAnswer(
  connection: SqliteConnection,
  request: { readonly id: string; readonly operation: string },
  bodyHash: string,
): string | undefined {
  const [row] = connection.rows<{ operation: string; body_hash: string; response: string }>(
    "select operation, body_hash, response from requests where request_id = ?",
    request.id,
  );
  if (row === undefined) return undefined;
  if (row.operation === request.operation && row.body_hash === bodyHash) return row.response;
  throw new OrchestratorError(
    "request_mismatch",
    `request id ${request.id} was used before, for ${row.operation} with another content`,
    {
      hint: "use a new request id for a new request",
      details: { request_id: request.id, operation: row.operation },
    },
  );
}

function append(
  connection: SqliteConnection,
  events: readonly UnplacedEvent[],
  before: ChainEnd,
): ChainEnd {
  let end = before;
  for (const unplaced of events) {
    const event = { ...unplaced, seq: end.seq + 1, prev_hash: end.hash };
    end = { seq: event.seq, hash: eventHash(event) };
    connection.run(
      `insert into events (seq, at, kind, repo, task_id, run_id, worker_id, payload, prev_hash, hash)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      event.seq,
      event.at,
      event.kind,
      event.repo,
      event.task_id,
      event.run_id,
      event.worker_id,
      event.payload,
      event.prev_hash,
      end.hash,
    );
  }
  return end;
}
