import { OrchestratorError } from "../domain/errors.ts";
import { asRunId } from "../domain/ids.ts";
import { workerName } from "../domain/names.ts";
import { cleanText } from "../domain/text.ts";
import { allocate } from "./allocate.ts";
import type { Connections } from "./connections.ts";
import { providerOf, repoConfig, runtimeOf, type FleetContext } from "./context.ts";
import { ensureCreated } from "./create.ts";
import { whyFull } from "./disk.ts";
import { cleanTail, failureText } from "./failure-text.ts";
import { prepare, type PreparePurpose, type Seeds } from "./prepare.ts";
import { whyInUse } from "./in-use.ts";
import { isUnsaved, rescue } from "./rescue.ts";
import {
  findWorker,
  moveWorker,
  noteWorker,
  poolFacts,
  reserveWorker,
  type Worker,
} from "./workers.ts";
import type { Transport } from "../transport/transport.ts";

/** How long one preparation may take beside the set-up script (ms). */
const READY_TIMEOUT_MS = 60 * 60_000;

/**
 * Reserves the pool's lowest free number for a worker without a run. `nothing_available` at the cap or when the provider is full, and
 * `not_claimable` when that number is not the one that is wanted.
 */
export async function reserveIdleWorker(
  context: FleetContext,
  repo: string,
  facts: { capacity: number | null; foreignNumbers: readonly number[] },
  wanted?: number,
): Promise<Worker> {
  const { provider, maxWorkers } = repoConfig(context, repo);
  const { value } = await context.store.mutate(async (tx) => {
    const workers = await poolFacts(tx.db, repo);
    const plan = allocate(
      {
        repo,
        now: tx.now,
        maxWorkers: maxWorkers ?? null,
        ...facts,
        // Idle workers are of no use here: one more is wanted.
        workers: workers.map((worker) => ({ ...worker, cordoned: true })),
      },
      null,
    );
    if (plan.kind !== "create") {
      throw new OrchestratorError(
        "nothing_available",
        `no worker was created for ${repo}: ${plan.reason}`,
        { retryable: true },
      );
    }
    if (wanted !== undefined && wanted !== plan.number) {
      throw new OrchestratorError(
        "not_claimable",
        `worker ${workerName(repo, wanted)} was not made: the next number of the pool is ${plan.name}`,
        {
          hint: `make ${plan.name} instead: 'orchestrator worker allocate ${repo}' says which is next`,
        },
      );
    }
    return reserveWorker(tx, context.ids, { repo, number: plan.number, provider, runId: null });
  });
  return value;
}

/** What is on a worker that is made ready, and how that is dealt with. */
export type Found = Pick<PreparePurpose, "clone" | "former">;

const NOTHING: Found = { clone: "fresh", former: null };

/**
 * Brings a worker that belongs to no run from `creating` or `preparing` to `free`. A failure leaves it `unready` with the reason; calling
 * again (after `setup`) goes on from the step that failed, since every step knows when it has nothing to do.
 */
export async function makeReady(
  context: FleetContext,
  connections: Connections,
  seeds: Seeds,
  worker: Worker,
  signal: AbortSignal,
  found: Found = NOTHING,
): Promise<Worker> {
  context.making.add(worker.worker_id);
  try {
    return await make(context, connections, seeds, worker, signal, found);
  } finally {
    context.making.delete(worker.worker_id);
  }
}

async function make(
  context: FleetContext,
  connections: Connections,
  seeds: Seeds,
  worker: Worker,
  signal: AbortSignal,
  found: Found,
): Promise<Worker> {
  let current = worker;
  if (current.allocation === "creating") {
    const created = await ensureCreated(context, current);
    if (created.kind === "not-created") {
      throw new OrchestratorError(
        "nothing_available",
        `worker ${worker.name} was not created: ${created.reason}`,
      );
    }
    current = created.worker;
  }
  const repo = repoConfig(context, worker.repo);
  const runtime = runtimeOf(context, repo.runtime);
  const provider = providerOf(context, worker.provider);
  try {
    const transport = await connections.reach(worker.worker_id);
    const outcome = await prepare(
      context,
      seeds,
      current,
      {
        job: `${worker.worker_id}-${context.ids.next("j")}`,
        epoch: current.epoch,
        runtime,
        mode: repo.permissionMode ?? runtime.defaultMode(provider.capabilities.sharesMachine),
        runBranch: "",
        ...found,
        timeoutMs: READY_TIMEOUT_MS,
        signal,
      },
      transport,
      () => {},
    );
    if (outcome.kind !== "ready") {
      const why =
        outcome.kind === "lost"
          ? "the worker restarted while it was being prepared"
          : failureText(outcome);
      throw new OrchestratorError(
        "needs_person",
        `worker ${worker.name} could not be prepared: ${why}`,
        {
          hint: `when the cause is mended, run 'orchestrator worker setup ${worker.name}'`,
          details:
            outcome.kind === "failed"
              ? { step: outcome.step, code: outcome.code, tail: cleanTail(outcome.tail) }
              : {},
        },
      );
    }
    const fingerprint = await context.provisioner.fingerprint(transport, worker.repo);
    await context.store.mutate((tx) =>
      moveWorker(tx, current, "prepared", {
        saved_fingerprint: fingerprint,
        boot_id: outcome.prepared.bootId,
      }),
    );
  } catch (error) {
    // Our own end is no failure of the worker: the next controller goes on from here.
    if (signal.aborted) throw error;
    const shown = await explained(connections, worker, error);
    const reason = cleanText(shown instanceof Error ? shown.message : String(shown), 300);
    await context.store.mutate((tx) => moveWorker(tx, current, "step_failed", { reason }));
    throw shown;
  }
  return findWorker(context.store.db, worker.worker_id);
}

/** What a worker's scripts cannot say when they fail. */
async function explained(
  connections: Connections,
  worker: Worker,
  error: unknown,
): Promise<unknown> {
  const transport = await connections.kept(worker.worker_id);
  const full = transport === undefined ? null : await whyFull(transport, worker.name);
  if (full === null) return error;
  return new OrchestratorError(
    "needs_person",
    `worker ${worker.name} could not be prepared: ${full}`,
    { hint: `when there is, run 'orchestrator worker setup ${worker.name}'`, cause: error },
  );
}

/** Sets up an `unready` worker again. What is on it is saved first; when that fails, nothing is touched. */
export async function setUpAgain(
  context: FleetContext,
  connections: Connections,
  seeds: Seeds,
  worker: Worker,
  signal: AbortSignal,
): Promise<Worker> {
  if (worker.allocation !== "unready") {
    throw new OrchestratorError(
      "not_claimable",
      `worker ${worker.name} is ${worker.allocation}, not unready: it needs no set-up`,
    );
  }
  const transport = await connections.reach(worker.worker_id);
  const { probe, reason } = await whyInUse(context, worker, transport);
  if (reason !== null) {
    throw new OrchestratorError("needs_person", `worker ${worker.name} was not set up: ${reason}`);
  }
  const unsaved = await whyUnsaved(context, worker, transport);
  if (unsaved !== null) {
    throw new OrchestratorError(
      "needs_person",
      `worker ${worker.name} was not set up: its work is not saved: ${unsaved}`,
    );
  }
  await context.store.mutate((tx) => moveWorker(tx, worker, "setup", { epoch: worker.epoch + 1 }));
  return makeReady(
    context,
    connections,
    seeds,
    await findWorker(context.store.db, worker.worker_id),
    signal,
    { clone: "reuse", former: probe.current },
  );
}

/** Goes on with a worker whose maker was killed, or whose run was cancelled before its launch. */
export async function finishMaking(
  context: FleetContext,
  connections: Connections,
  seeds: Seeds,
  worker: Worker,
  signal: AbortSignal,
): Promise<Worker> {
  if (worker.allocation === "preparing") {
    const transport = await connections.reach(worker.worker_id);
    const reason = await whyUnsaved(context, worker, transport);
    if (reason !== null) {
      await context.store.mutate((tx) =>
        moveWorker(tx, worker, "step_failed", { reason: `unrescued: ${reason}` }),
      );
      return findWorker(context.store.db, worker.worker_id);
    }
  }
  // A higher epoch ends what the former maker left at work there.
  await context.store.mutate(
    (tx) => noteWorker(tx, worker.worker_id, { epoch: worker.epoch + 1 }),
    { quiet: true },
  );
  const now = await findWorker(context.store.db, worker.worker_id);
  return makeReady(context, connections, seeds, now, signal);
}

/** Saves what is in a worker's clone, if it is not saved already; why that could not be, else null. */
async function whyUnsaved(
  context: FleetContext,
  worker: Worker,
  transport: Transport,
): Promise<string | null> {
  if (!(await isUnsaved(context, worker, transport))) return null;
  const run = {
    runId: worker.last_run_id ?? asRunId(`worker-${worker.worker_id}`),
    epoch: worker.epoch,
  };
  const saved = await rescue(context, worker, run, transport);
  return saved.kind === "rescued" ? null : saved.reason;
}
