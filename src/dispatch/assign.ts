import type { FleetContext } from "../fleet/context.ts";
import { repoConfig } from "../fleet/context.ts";
import { allocate, type Plan, type PoolSnapshot, type WorkerFacts } from "../fleet/allocate.ts";
import { findWorker, moveWorker, poolFacts, reserveWorker } from "../fleet/workers.ts";
import { asWorkerId, type RunId, type WorkerId } from "../domain/ids.ts";
import { workerName } from "../domain/names.ts";
import type { Db, Store, Tx } from "../store/store.ts";
import { moveRun, type Run } from "./runs.ts";

/** What must be read from the provider before the transaction, since a transaction awaits nothing else. */
export interface PoolFacts {
  readonly capacity: number | null;
  readonly foreignNumbers: readonly number[];
}

/**
 * Gives workers to the queued runs of a pool, oldest first, in this one transaction: the claim is atomic whoever races. A run that waits
 * for one named worker does not hold up the others. A follow-up comes first on the worker that holds its conversation, since another run
 * would take that away; one whose conversation, or whose worker, is lost fails. Returns the runs that were moved.
 */
export async function assignQueued(
  tx: Tx,
  context: Pick<FleetContext, "config" | "ids">,
  repo: string,
  facts: PoolFacts,
): Promise<Run[]> {
  const queued = await tx.db
    .selectFrom("runs")
    .selectAll()
    .where("repo", "=", repo)
    .where("state", "=", "queued")
    .where((where) =>
      where.or([where("not_before", "is", null), where("not_before", "<=", tx.now)]),
    )
    .orderBy("created_at")
    .orderBy("run_id")
    .execute();
  if (queued.length === 0) return [];

  let pool = await snapshotPool(tx, context, repo, facts);
  const assigned: Run[] = [];
  const followUps = queued.filter((run) => run.resumes !== null);
  const others = queued.filter((run) => run.resumes === null);
  for (const run of [...followUps, ...others]) {
    const lost = await whyLost(tx, run);
    if (lost !== null) {
      assigned.push(await failQueued(tx, run, lost));
      continue;
    }
    const plan = allocate(pool, run.wanted_worker);
    const given = await applyPlan(tx, context, pool, run, plan);
    if (given === undefined) continue;
    assigned.push(given.run);
    pool = withWorker(pool, given.worker, plan.kind === "create");
  }
  return assigned;
}

/** Why a queued run can never be given the worker it waits for: nobody bears that name, or it has lost the conversation; else null. */
async function whyLost(tx: Tx, run: Run): Promise<string | null> {
  if (run.wanted_worker === null) return null;
  const worker = await tx.db
    .selectFrom("workers")
    .leftJoin("runs", "runs.run_id", "workers.last_run_id")
    .select(["workers.allocation", "runs.runtime_session_id"])
    .where("workers.name", "=", run.wanted_worker)
    .where("workers.allocation", "!=", "destroyed")
    .executeTakeFirst();
  if (run.resumes === null) {
    // A destruction that has begun may still be refused.
    return worker === undefined
      ? `worker ${run.wanted_worker}, which was asked for, is gone`
      : null;
  }
  const isThere = worker !== undefined && worker.allocation !== "destroying";
  if (isThere && worker.runtime_session_id === run.runtime_session_id) return null;
  const where = `the conversation of ${run.resumes} was on ${run.wanted_worker}`;
  return `${where}, which ${isThere ? "was given to another run" : "is gone"}`;
}

function failQueued(tx: Tx, run: Run, reason: string): Promise<Run> {
  return moveRun(tx, run, "failed", {
    patch: { outcome: "failed", reason },
    payload: { outcome: "failed", reason },
  });
}

/** Says on the queued runs of a pool why none of them can be given a worker now; writes only when that is new. */
export async function noteWhyQueued(store: Store, repo: string, reason: string): Promise<void> {
  const stale = await store.db
    .selectFrom("runs")
    .select(["run_id", "allocation_reason"])
    .where("repo", "=", repo)
    .where("state", "=", "queued")
    .execute();
  if (stale.every((run) => run.allocation_reason === reason)) return;
  await store.mutate(
    (tx) =>
      tx.db
        .updateTable("runs")
        .set({ allocation_reason: reason })
        .where("repo", "=", repo)
        .where("state", "=", "queued")
        .execute(),
    { quiet: true },
  );
}

/** The pool as this transaction sees it. */
export async function snapshotPool(
  at: { readonly db: Db; readonly now: number },
  context: Pick<FleetContext, "config">,
  repo: string,
  facts: PoolFacts,
): Promise<PoolSnapshot> {
  return {
    repo,
    now: at.now,
    maxWorkers: repoConfig(context, repo).maxWorkers ?? null,
    capacity: facts.capacity,
    foreignNumbers: facts.foreignNumbers,
    workers: await poolFacts(at.db, repo),
  };
}

async function applyPlan(
  tx: Tx,
  context: Pick<FleetContext, "config" | "ids">,
  pool: PoolSnapshot,
  run: Run,
  plan: Plan,
): Promise<{ run: Run; worker: WorkerFacts } | undefined> {
  switch (plan.kind) {
    case "use": {
      const worker = await findWorker(tx.db, asWorkerId(plan.workerId));
      const epoch = worker.epoch + 1;
      await moveWorker(tx, worker, "claim", { epoch, last_run_id: run.run_id });
      return {
        run: await assign(tx, run, worker.worker_id, worker.name, epoch, plan.reason, false),
        worker: { ...workerIn(pool, plan.workerId), allocation: "claimed", liveRun: run.run_id },
      };
    }
    case "create": {
      const { provider } = repoConfig(context, pool.repo);
      const worker = await reserveWorker(tx, context.ids, {
        repo: pool.repo,
        number: plan.number,
        provider,
        runId: run.run_id,
      });
      return {
        run: await assign(tx, run, worker.worker_id, worker.name, worker.epoch, plan.reason, true),
        worker: newWorkerFacts(worker.worker_id, pool.repo, plan.number, run.run_id),
      };
    }
    case "queue":
    case "refuse": {
      if (run.allocation_reason !== plan.reason) {
        await tx.db
          .updateTable("runs")
          .set({ allocation_reason: plan.reason })
          .where("run_id", "=", run.run_id)
          .execute();
      }
      return undefined;
    }
  }
}

function assign(
  tx: Tx,
  run: Run,
  workerId: WorkerId,
  worker: string,
  epoch: number,
  reason: string,
  created: boolean,
): Promise<Run> {
  return moveRun(tx, run, "assigned", {
    patch: {
      worker_id: workerId,
      epoch,
      allocation_reason: reason,
      reason: null,
      not_before: null,
      started_at: run.started_at ?? tx.now,
    },
    kind: "run.assigned",
    payload: { worker, reason, epoch, created },
  });
}

function workerIn(pool: PoolSnapshot, workerId: string): WorkerFacts {
  const worker = pool.workers.find((candidate) => candidate.workerId === workerId);
  if (worker === undefined) throw new Error(`worker ${workerId} is not in its own pool`);
  return worker;
}

function newWorkerFacts(workerId: string, repo: string, number: number, runId: RunId): WorkerFacts {
  return {
    workerId,
    name: workerName(repo, number),
    number,
    allocation: "creating",
    reason: null,
    cordoned: false,
    draining: false,
    providerState: null,
    busyUntil: null,
    busyReason: null,
    liveRun: runId,
  };
}

function withWorker(pool: PoolSnapshot, worker: WorkerFacts, created: boolean): PoolSnapshot {
  return {
    ...pool,
    capacity: created && pool.capacity !== null ? pool.capacity - 1 : pool.capacity,
    workers: [...pool.workers.filter((other) => other.workerId !== worker.workerId), worker],
  };
}
