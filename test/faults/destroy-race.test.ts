import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";
import { OrchestratorError } from "../../src/domain/errors.ts";
import type { EventView, RunDetailView, WorkerView } from "../../src/operations/views.ts";
import { installation, type Installation } from "../support/installation.ts";

const ROUNDS = 24;

/** What happened to each worker, in order: nothing of a run may follow once its destruction was decided and not taken back. */
function usesAfterDestroy(events: readonly EventView[]): string[] {
  const doomed = new Set<string>();
  const found: string[] = [];
  for (const { kind, worker_id: worker, run_id: run, seq } of events) {
    if (worker === null) continue;
    if (kind === "worker.destroying" || kind === "worker.destroyed") doomed.add(worker);
    else if (kind === "worker.unready" || kind === "worker.preparing") doomed.delete(worker);
    else if (doomed.has(worker) && run !== null && kind !== "run.finished")
      found.push(`${seq} ${kind} of ${run} on ${worker}`);
  }
  return found;
}

const onlyWorker = async (installed: Installation) => {
  const workers = await installed.call<WorkerView[]>("worker.list");
  assert.equal(workers.length, 1, JSON.stringify(workers));
  return workers[0]!;
};

async function freeWorker(installed: Installation): Promise<WorkerView> {
  const [worker] = await installed.call<WorkerView[]>("worker.list");
  if (worker?.allocation === "free") return worker;
  if (worker === undefined) return installed.call<WorkerView>("worker.create", { repo: "kite" });
  return installed.call<WorkerView>("worker.setup", { worker: worker.worker });
}

/** Runs the event loop for so long. */
async function spin(ms: number): Promise<void> {
  const end = performance.now() + ms;
  while (performance.now() < end) await turn();
}

test("a worker is claimed or destroyed, never both, whoever comes first", async (t) => {
  await using installed = installation({ repo: { maxWorkers: 1 } });
  const won = { destroy: 0, claim: 0 };
  // How long after the destruction was asked for the dispatch comes: closes in on the moment that decides.
  let [lag, step] = [40, 32];
  for (let round = 0; round < ROUNDS; round += 1) {
    const before = await freeWorker(installed);
    const isWanted = round % 3 === 2;
    const dispatch = () =>
      installed.dispatch("echo done", isWanted ? { worker: before.worker } : {});
    const destroy = () => installed.call<WorkerView>("worker.destroy", { worker: before.worker });
    const [dispatched, destroyed] = await Promise.allSettled([
      spin(Math.max(0, lag)).then(dispatch),
      spin(Math.max(0, -lag)).then(destroy),
    ]);
    const run =
      dispatched.status === "fulfilled" ? await installed.wait(dispatched.value.run_id) : undefined;
    const told = JSON.stringify([round, dispatched, destroyed, run?.state_reason]);
    const used = run === undefined ? [] : await workersOf(installed, run);
    lag += destroyed.status === "fulfilled" ? -step : step;
    step = Math.max(2, step / 2);
    if (destroyed.status === "fulfilled") {
      won.destroy += 1;
      assert.equal(destroyed.value.allocation, "destroyed", told);
      assert.ok(!used.includes(before.worker_id), told);
      // Without a name it gets the next worker; a name that nobody bears any more is said to be gone.
      if (run === undefined) {
        assert.ok(isWanted && dispatched.status === "rejected", told);
        assert.equal(codeOf(dispatched.reason), "not_found", told);
      } else if (isWanted) assert.match(`${run.state} ${run.state_reason}`, /^failed .*gone/, told);
      else assert.equal(run.state, "completed", told);
    } else {
      won.claim += 1;
      assert.equal(codeOf(destroyed.reason), "needs_person", told);
      assert.match(messageOf(destroyed.reason), /^worker kite-1 was not destroyed: /, told);
      assert.equal(run?.state, "completed", told);
      assert.deepEqual(used, [before.worker_id], told);
      assert.equal((await onlyWorker(installed)).worker_id, before.worker_id, told);
    }
  }
  assert.deepEqual(usesAfterDestroy(await installed.events()), []);
  t.diagnostic(`destroyed first: ${won.destroy}, claimed first: ${won.claim}`);
  assert.ok(won.destroy > 0 && won.claim > 0, JSON.stringify(won));
});

test("of two that destroy a worker at once, both learn that it is gone", async () => {
  await using installed = installation();
  for (let round = 0; round < 8; round += 1) {
    const { worker } = await freeWorker(installed);
    const destroy = () => installed.call<WorkerView>("worker.destroy", { worker });
    const both = await Promise.allSettled([destroy(), spin(round * 8).then(destroy)]);
    const codes = both.map((one) =>
      one.status === "fulfilled" ? one.value.allocation : codeOf(one.reason),
    );
    assert.ok(codes.includes("destroyed"), JSON.stringify(both));
    for (const code of codes) {
      assert.ok(["destroyed", "not_found"].includes(code), JSON.stringify(both));
    }
    assert.deepEqual(await installed.call("worker.list"), []);
  }
});

/** Ids of the workers that the run was given. */
async function workersOf(installed: Installation, run: RunDetailView): Promise<string[]> {
  const events = await installed.events(run.run_id);
  return events.flatMap(({ kind, worker_id }) =>
    kind === "run.assigned" && worker_id !== null ? [worker_id] : [],
  );
}

const codeOf = (error: unknown): string =>
  error instanceof OrchestratorError ? error.code : String(error);
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : "");
