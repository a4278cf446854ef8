import type { Selectable } from "kysely";
import { OrchestratorError } from "../domain/errors.ts";
import { asWorkerId, type WorkerId } from "../domain/ids.ts";
import { workerName } from "../domain/names.ts";
import { TERMINAL_RUN_STATES } from "../domain/run.ts";
import { next } from "../domain/transition.ts";
import { WORKER_TRANSITIONS, type WorkerEvent } from "../domain/worker.ts";
import type { Ids } from "../platform/ids.ts";
import type { WorkersTable } from "../store/schema.ts";
import type { Db, Tx } from "../store/store.ts";
import type { WorkerFacts } from "./allocate.ts";

/** A worker as stored. */
export type Worker = Readonly<Selectable<WorkersTable>>;

export async function findWorker(db: Db, workerId: WorkerId): Promise<Worker> {
  const row = await db
    .selectFrom("workers")
    .selectAll()
    .where("worker_id", "=", workerId)
    .executeTakeFirst();
  if (row === undefined) throw new OrchestratorError("not_found", `there is no worker ${workerId}`);
  return row;
}

/** The worker that bears this name now; destroyed ones do not. */
export async function findWorkerByName(db: Db, name: string): Promise<Worker> {
  const row = await db
    .selectFrom("workers")
    .selectAll()
    .where("name", "=", name)
    .where("allocation", "!=", "destroyed")
    .executeTakeFirst();
  if (row !== undefined) return row;
  throw new OrchestratorError("not_found", `there is no worker ${name}`, {
    hint: "'orchestrator worker list' shows the workers",
  });
}

/** The pool's workers as the allocator sees them. */
export async function poolFacts(db: Db, repo: string): Promise<WorkerFacts[]> {
  const rows = await db
    .selectFrom("workers")
    .selectAll()
    .where("repo", "=", repo)
    .where("allocation", "!=", "destroyed")
    .orderBy("number")
    .execute();
  const live = await db
    .selectFrom("runs")
    .select(["run_id", "worker_id"])
    .where("repo", "=", repo)
    .where("worker_id", "is not", null)
    .where("state", "not in", [...TERMINAL_RUN_STATES])
    .execute();
  const runOf = new Map(live.map((run) => [run.worker_id, run.run_id]));
  return rows.map((row) => toFacts(row, runOf.get(row.worker_id) ?? null));
}

export function toFacts(row: Worker, liveRun: string | null): WorkerFacts {
  return {
    workerId: row.worker_id,
    name: row.name,
    number: row.number,
    allocation: row.allocation,
    reason: row.reason,
    cordoned: row.cordoned === 1,
    draining: row.draining === 1,
    providerState: row.provider_state,
    busyUntil: row.busy_until,
    busyReason: row.busy_reason,
    liveRun,
  };
}

/** Inserts a worker that is about to be created, under the cap that the caller checked in this transaction. */
export async function reserveWorker(
  tx: Tx,
  ids: Ids,
  input: {
    repo: string;
    number: number;
    provider: string;
    runId: Worker["last_run_id"];
    /** The label of a machine that is there already. */
    nonce?: string;
  },
): Promise<Worker> {
  const row: Worker = {
    worker_id: asWorkerId(ids.next("w")),
    repo: input.repo,
    number: input.number,
    name: workerName(input.repo, input.number),
    provider: input.provider,
    provider_id: null,
    nonce: input.nonce ?? ids.token(),
    allocation: "creating",
    reason: null,
    cordoned: 0,
    draining: 0,
    epoch: 1,
    provider_state: null,
    provider_state_at: null,
    address: null,
    host_key: null,
    boot_id: null,
    busy_until: null,
    busy_reason: null,
    saved_fingerprint: null,
    last_run_id: input.runId,
    created_at: tx.now,
    updated_at: tx.now,
  };
  await tx.db.insertInto("workers").values(row).execute();
  tx.event({
    kind: "worker.creating",
    repo: input.repo,
    worker_id: row.worker_id,
    run_id: input.runId ?? undefined,
    payload: { worker: row.name, provider: input.provider },
  });
  return row;
}

/** Moves a worker along its table, with its event; `patch` sets further columns in the same row. */
export async function moveWorker(
  tx: Tx,
  worker: Pick<Worker, "worker_id" | "name" | "repo" | "allocation">,
  event: WorkerEvent,
  patch: Partial<Omit<Worker, "worker_id">> = {},
): Promise<void> {
  const allocation = next("worker", WORKER_TRANSITIONS, worker.allocation, event);
  const changed = await tx.db
    .updateTable("workers")
    .set({ reason: null, ...patch, allocation, updated_at: tx.now })
    .where("worker_id", "=", worker.worker_id)
    .where("allocation", "=", worker.allocation)
    .executeTakeFirst();
  if (changed.numUpdatedRows !== 1n) {
    throw new OrchestratorError(
      "not_claimable",
      `worker ${worker.name} is no longer ${worker.allocation}`,
      {
        retryable: true,
      },
    );
  }
  tx.event({
    kind: `worker.${allocation}`,
    repo: worker.repo,
    worker_id: worker.worker_id,
    run_id: patch.last_run_id ?? undefined,
    payload: {
      worker: worker.name,
      because: event,
      ...(patch.reason ? { reason: patch.reason } : {}),
    },
  });
}

/** Sets columns that are facts, not states. That a worker cannot be reached any more, or can be again, is an event. */
export async function noteWorker(
  tx: Tx,
  workerId: WorkerId,
  facts: Partial<Omit<Worker, "worker_id" | "allocation">>,
): Promise<void> {
  if (facts.provider_state !== undefined) await noteReach(tx, workerId, facts.provider_state);
  await tx.db
    .updateTable("workers")
    .set({ ...facts, updated_at: tx.now })
    .where("worker_id", "=", workerId)
    .execute();
}

async function noteReach(
  tx: Tx,
  workerId: WorkerId,
  state: Worker["provider_state"],
): Promise<void> {
  const before = await tx.db
    .selectFrom("workers")
    .select(["name", "repo", "provider_state"])
    .where("worker_id", "=", workerId)
    .executeTakeFirst();
  if (before === undefined) return;
  const [was, is] = [before.provider_state === "unreachable", state === "unreachable"];
  if (was === is) return;
  tx.event({
    kind: is ? "worker.unreachable" : "worker.reachable",
    repo: before.repo,
    worker_id: workerId,
    payload: { worker: before.name },
  });
}
