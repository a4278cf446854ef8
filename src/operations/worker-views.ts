import { OrchestratorError } from "../domain/errors.ts";
import type { RunId } from "../domain/ids.ts";
import { isName } from "../domain/names.ts";
import { TERMINAL_RUN_STATES } from "../domain/run.ts";
import { statusOf } from "../dispatch/status.ts";
import { findRun } from "../dispatch/runs.ts";
import { whyNotIdle } from "../fleet/allocate.ts";
import { findWorkerByName, toFacts, type Worker } from "../fleet/workers.ts";
import type { Db } from "../store/store.ts";
import { viewRun } from "./run-views.ts";
import type { Services } from "./services.ts";
import type { RunView, WorkerView } from "./views.ts";

export async function listWorkers(
  { store, clock }: Services,
  input: { repo?: string | undefined; all: boolean },
): Promise<WorkerView[]> {
  let query = store.db.selectFrom("workers").selectAll();
  if (input.repo !== undefined) query = query.where("repo", "=", input.repo);
  if (!input.all) query = query.where("allocation", "!=", "destroyed");
  const workers = await query.orderBy("repo").orderBy("number").orderBy("created_at").execute();
  return Promise.all(workers.map((worker) => viewWorker(store.db, worker, clock.now())));
}

export async function showWorker(
  { store, clock }: Services,
  input: { worker: string },
): Promise<WorkerView> {
  return viewWorker(store.db, await findWorkerByName(store.db, input.worker), clock.now());
}

/** Status of everything, a pool, one worker or one run; derived now from what is stored. */
export async function fleetStatus(
  services: Services,
  input: { target?: string | undefined },
): Promise<{ workers: WorkerView[]; runs: RunView[] }> {
  const { store, clock, config } = services;
  const { target } = input;
  if (target === undefined) {
    return {
      workers: await listWorkers(services, { all: false }),
      runs: await liveRunViews(services, undefined),
    };
  }
  const run = await store.db
    .selectFrom("runs")
    .select("run_id")
    .where("run_id", "=", target as RunId)
    .executeTakeFirst();
  if (run !== undefined) {
    const row = await findRun(store.db, run.run_id);
    const workers = await store.db
      .selectFrom("workers")
      .selectAll()
      .where("worker_id", "=", row.worker_id)
      .execute();
    return {
      workers: await Promise.all(
        workers.map((worker) => viewWorker(store.db, worker, clock.now())),
      ),
      runs: [await viewRun(store.db, row, clock.now())],
    };
  }
  const worker = await store.db
    .selectFrom("workers")
    .selectAll()
    .where("name", "=", target)
    .where("allocation", "!=", "destroyed")
    .executeTakeFirst();
  if (worker !== undefined) {
    const runs = worker.last_run_id === null ? [] : [await findRun(store.db, worker.last_run_id)];
    return {
      workers: [await viewWorker(store.db, worker, clock.now())],
      runs: await Promise.all(runs.map((row) => viewRun(store.db, row, clock.now()))),
    };
  }
  if (config.repos[target] !== undefined) {
    return {
      workers: await listWorkers(services, { repo: target, all: false }),
      runs: await liveRunViews(services, target),
    };
  }
  const shown = isName(target) ? target : JSON.stringify(target.slice(0, 60));
  throw new OrchestratorError("not_found", `there is no repo, worker or run named ${shown}`, {
    hint: "'orchestrator status' shows all",
  });
}

async function liveRunViews(
  { store, clock }: Services,
  repo: string | undefined,
): Promise<RunView[]> {
  let query = store.db
    .selectFrom("runs")
    .selectAll()
    .where("state", "not in", [...TERMINAL_RUN_STATES]);
  if (repo !== undefined) query = query.where("repo", "=", repo);
  const runs = await query.orderBy("created_at").orderBy("run_id").execute();
  return Promise.all(runs.map((run) => viewRun(store.db, run, clock.now())));
}

export async function viewWorker(db: Db, worker: Worker, now: number): Promise<WorkerView> {
  const live = await db
    .selectFrom("runs")
    .selectAll()
    .where("worker_id", "=", worker.worker_id)
    .where("state", "not in", [...TERMINAL_RUN_STATES])
    .executeTakeFirst();
  const shown =
    live ?? (worker.last_run_id === null ? undefined : await findRun(db, worker.last_run_id));
  const verdict =
    shown === undefined ? null : statusOf(shown, { now, provider: worker.provider_state });
  const why = whyNotIdle(toFacts(worker, live?.run_id ?? null), now);
  return {
    worker: worker.name,
    worker_id: worker.worker_id,
    repo: worker.repo,
    provider: worker.provider,
    provider_state: worker.provider_state,
    provider_state_age_ms:
      worker.provider_state_at === null ? null : Math.max(0, now - worker.provider_state_at),
    allocation: worker.allocation,
    reason: worker.reason,
    idle: why === null,
    not_idle_because: why,
    cordoned: worker.cordoned === 1,
    draining: worker.draining === 1,
    epoch: worker.epoch,
    run_id: shown?.run_id ?? null,
    status:
      verdict === null
        ? null
        : {
            status: verdict.status,
            reason: verdict.reason,
            source: verdict.source,
            age_ms: verdict.ageMs,
            since: verdict.sinceMs,
            explain: [...verdict.explain],
          },
    attach: `orchestrator attach ${worker.name}`,
    created_at: worker.created_at,
  };
}
