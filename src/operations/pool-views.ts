import { admissionTo } from "../dispatch/admission.ts";
import { whyNotIdle } from "../fleet/allocate.ts";
import { openPause } from "../fleet/pauses.ts";
import { poolFacts } from "../fleet/workers.ts";
import type { Services, StoreServices } from "./services.ts";
import type { PoolView } from "./views.ts";

/** The configured pools by name. */
export async function listPools(services: Services): Promise<PoolView[]> {
  const names = Object.keys(services.config.repos).sort();
  return Promise.all(names.map((name) => viewPool(services, name)));
}

export async function viewPool(services: StoreServices, repo: string): Promise<PoolView> {
  const { store, clock, config } = services;
  const pause = await openPause(store.db, repo);
  const workers = await poolFacts(store.db, repo);
  const { queued } = await store.db
    .selectFrom("runs")
    .select((select) => select.fn.countAll<number>().as("queued"))
    .where("repo", "=", repo)
    .where("state", "=", "queued")
    .executeTakeFirstOrThrow();
  const runtime = config.repos[repo]?.runtime ?? "";
  const admission = await admissionTo(store.db, { config: () => config }, repo);
  return {
    pool: repo,
    workers: workers.length,
    idle: workers.filter((worker) => whyNotIdle(worker, clock.now()) === null).length,
    queued,
    admits: admission({ repo, runtime, resumes: null }) === null,
    closed_because: admission({ repo, runtime, resumes: null }),
    pause:
      pause === undefined
        ? null
        : {
            pause_id: pause.pause_id,
            cause: pause.cause,
            reason: pause.reason,
            since: pause.created_at,
          },
  };
}
