import { COUNTS_AGAINST_CAP, type Allocation, type ProviderState } from "../domain/worker.ts";
import { workerName } from "../domain/names.ts";

/** What the allocator knows of one worker. */
export interface WorkerFacts {
  readonly workerId: string;
  readonly name: string;
  readonly number: number;
  readonly allocation: Allocation;
  readonly reason: string | null;
  readonly cordoned: boolean;
  readonly draining: boolean;
  readonly providerState: ProviderState | null;
  /** Wall ms until which the worker counts as busy, and why: an operator attached, a turn that is not ours. */
  readonly busyUntil: number | null;
  readonly busyReason: string | null;
  readonly liveRun: string | null;
}

/** One pool at one moment. */
export interface PoolSnapshot {
  readonly repo: string;
  readonly now: number;
  /** Null: unlimited. */
  readonly maxWorkers: number | null;
  /** How many more workers the provider can take; null: no limit known. */
  readonly capacity: number | null;
  /** Numbers whose names belong to somebody else at the provider. */
  readonly foreignNumbers: readonly number[];
  /** Destroyed workers excepted. */
  readonly workers: readonly WorkerFacts[];
}

export interface Considered {
  readonly worker: string;
  readonly verdict: string;
}

export type Plan = { readonly considered: readonly Considered[]; readonly reason: string } & (
  | { readonly kind: "use"; readonly workerId: string; readonly name: string }
  | { readonly kind: "create"; readonly number: number; readonly name: string }
  | { readonly kind: "queue" }
  | { readonly kind: "refuse" }
);

const AWAKE_RANK: Readonly<Record<ProviderState, number>> = {
  running: 0,
  warm: 1,
  cold: 2,
  unreachable: 9,
  gone: 9,
};

/** Why a worker is not idle; null when it is. The one definition of idle (DESIGN 1). */
export function whyNotIdle(worker: WorkerFacts, now: number): string | null {
  if (worker.allocation === "claimed") {
    return worker.liveRun === null ? "claimed" : `working on ${worker.liveRun}`;
  }
  if (worker.allocation === "unready") return `unready: ${worker.reason ?? "unknown"}`;
  if (worker.allocation !== "free") return worker.allocation;
  if (worker.cordoned) return "cordoned";
  if (worker.draining) return "draining";
  if (worker.busyUntil !== null && worker.busyUntil > now) return worker.busyReason ?? "busy";
  if (worker.providerState === null) return "never seen";
  if (worker.providerState === "unreachable") return "unreachable";
  if (worker.providerState === "gone") return "gone";
  return null;
}

/**
 * Chooses a worker: awake before warm before cold, then the lowest number; else the lowest free number is created; else
 * the run queues. Pure: the same snapshot gives the same plan. With `wanted`, that worker or none.
 */
export function allocate(pool: PoolSnapshot, wanted: string | null): Plan {
  const considered = [...pool.workers]
    .sort((a, b) => a.number - b.number)
    .map((worker) => ({ worker, why: whyNotIdle(worker, pool.now) }));
  const shown = considered.map(({ worker, why }) => ({
    worker: worker.name,
    verdict: why ?? `idle (${worker.providerState ?? "unknown"})`,
  }));
  if (wanted !== null) return allocateWanted(considered, shown, wanted);

  const idle = considered
    .filter(({ why }) => why === null)
    .map(({ worker }) => worker)
    .sort((a, b) => rank(a) - rank(b) || a.number - b.number);
  const best = idle[0];
  if (best !== undefined) {
    const how = idle.length === 1 ? "the only idle worker" : `first of ${idle.length} idle workers`;
    return {
      kind: "use",
      workerId: best.workerId,
      name: best.name,
      reason: `${best.name} is ${how} (${best.providerState ?? "unknown"})`,
      considered: shown,
    };
  }
  return allocateNew(pool, shown);
}

const rank = (worker: WorkerFacts): number => AWAKE_RANK[worker.providerState ?? "gone"];

function allocateWanted(
  considered: readonly { worker: WorkerFacts; why: string | null }[],
  shown: readonly Considered[],
  wanted: string,
): Plan {
  const found = considered.find(({ worker }) => worker.name === wanted);
  if (found === undefined) {
    return { kind: "refuse", reason: `there is no worker ${wanted}`, considered: shown };
  }
  if (found.why !== null) {
    return { kind: "queue", reason: `${wanted} is not idle: ${found.why}`, considered: shown };
  }
  return {
    kind: "use",
    workerId: found.worker.workerId,
    name: wanted,
    reason: `${wanted} was asked for and is idle`,
    considered: shown,
  };
}

function allocateNew(pool: PoolSnapshot, shown: readonly Considered[]): Plan {
  const counted = pool.workers.filter((worker) => COUNTS_AGAINST_CAP.has(worker.allocation));
  if (pool.maxWorkers !== null && counted.length >= pool.maxWorkers) {
    return {
      kind: "queue",
      reason: `${noneIdle(shown)}, and the pool is at its cap of ${pool.maxWorkers}`,
      considered: shown,
    };
  }
  if (pool.capacity !== null && pool.capacity <= 0) {
    return {
      kind: "queue",
      reason: `${noneIdle(shown)}, and the provider is full`,
      considered: shown,
    };
  }
  const number = lowestFree(pool);
  const name = workerName(pool.repo, number);
  const reason =
    shown.length === 0
      ? `the pool has no worker yet: creating ${name}`
      : `none of ${shown.length} workers is idle: creating ${name}`;
  return { kind: "create", number, name, reason, considered: shown };
}

/** In a small pool, what each worker does instead. */
function noneIdle(shown: readonly Considered[]): string {
  if (shown.length === 0 || shown.length > 3) return "no idle worker";
  return `no idle worker (${shown.map(({ worker, verdict }) => `${worker}: ${verdict}`).join("; ")})`;
}

function lowestFree(pool: PoolSnapshot): number {
  const taken = new Set([...pool.workers.map((worker) => worker.number), ...pool.foreignNumbers]);
  let number = 1;
  while (taken.has(number)) number += 1;
  return number;
}
