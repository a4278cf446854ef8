import { OrchestratorError } from "../domain/errors.ts";
import type { Store, Tx } from "../store/store.ts";
import type { FleetContext } from "./context.ts";
import { liveRunOf } from "./in-use.ts";
import { findWorker, noteWorker, type Worker } from "./workers.ts";

/** Flags beside a worker's allocation: `cordoned` and `draining` workers get no run. Setting what is set changes and says nothing. */

const LOOK_EVERY_MS = 1_000;

/** No new run, until uncordoned. The one that it has goes on. */
export async function cordonWorker(store: Store, worker: Worker): Promise<void> {
  await store.mutate((tx) => setFlags(tx, worker, { cordoned: 1 }, "worker.cordoned"));
}

/** Takes back a cordon and a drain. */
export async function uncordonWorker(store: Store, worker: Worker): Promise<void> {
  await store.mutate((tx) =>
    setFlags(tx, worker, { cordoned: 0, draining: 0 }, "worker.uncordoned"),
  );
}

/** No new run from now on, for a worker that is to be taken away. */
export async function drainWorker(store: Store, worker: Worker): Promise<void> {
  await store.mutate((tx) => setFlags(tx, worker, { draining: 1 }, "worker.draining"));
}

async function setFlags(
  tx: Tx,
  worker: Worker,
  flags: Partial<Pick<Worker, "cordoned" | "draining">>,
  kind: string,
): Promise<void> {
  const now = await findWorker(tx.db, worker.worker_id);
  if (now.allocation === "destroying" || now.allocation === "destroyed") {
    throw new OrchestratorError("not_claimable", `worker ${worker.name} is ${now.allocation}`);
  }
  const changes =
    (flags.cordoned ?? now.cordoned) !== now.cordoned ||
    (flags.draining ?? now.draining) !== now.draining;
  if (!changes) return;
  await noteWorker(tx, worker.worker_id, flags);
  tx.event({
    kind,
    repo: worker.repo,
    worker_id: worker.worker_id,
    payload: { worker: worker.name },
  });
}

/**
 * Resolves when the worker's run has ended and let go of it. `needs_person` as soon as the run is blocked: it would wait for ever;
 * `nothing_available` when the time is over.
 */
export async function untilDrained(
  context: FleetContext,
  worker: Worker,
  timeoutMs: number | null,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock } = context;
  const deadline = timeoutMs === null ? Infinity : clock.monotonic() + timeoutMs;
  for (;;) {
    const seq = await store.lastSeq();
    const live = await liveRunOf(store.db, worker);
    const { allocation } = await findWorker(store.db, worker.worker_id);
    const isHeld = ["creating", "preparing", "claimed"].includes(allocation);
    if (live === undefined && !isHeld) return;
    if (live?.state === "blocked") {
      throw new OrchestratorError(
        "needs_person",
        `worker ${worker.name} is draining, but ${live.run_id} on it is blocked`,
        { hint: `'orchestrator run show ${live.run_id}' says why` },
      );
    }
    if (clock.monotonic() >= deadline) {
      throw new OrchestratorError(
        "nothing_available",
        `worker ${worker.name} is still draining: ${live?.run_id ?? allocation}`,
        { retryable: true },
      );
    }
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    await Promise.race([
      store.waitForEvents(seq, either).catch(() => {}),
      clock.sleep(LOOK_EVERY_MS, either).catch(() => {}),
    ]);
    stop.abort();
    signal.throwIfAborted();
  }
}
