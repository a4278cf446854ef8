import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  allocate,
  whyNotIdle,
  type PoolSnapshot,
  type WorkerFacts,
} from "../../src/fleet/allocate.ts";
import {
  COUNTS_AGAINST_CAP,
  type Allocation,
  type ProviderState,
} from "../../src/domain/worker.ts";

function worker(number: number, facts: Partial<WorkerFacts> = {}): WorkerFacts {
  return {
    workerId: `w-${number}`,
    name: `kite-${number}`,
    number,
    allocation: "free",
    reason: null,
    cordoned: false,
    draining: false,
    providerState: "running",
    busyUntil: null,
    busyReason: null,
    liveRun: null,
    ...facts,
  };
}

function pool(workers: WorkerFacts[], facts: Partial<PoolSnapshot> = {}): PoolSnapshot {
  return {
    repo: "kite",
    now: 1_000,
    maxWorkers: null,
    capacity: null,
    foreignNumbers: [],
    workers,
    ...facts,
  };
}

test("the lowest-numbered idle worker is used", () => {
  const plan = allocate(
    pool([worker(3), worker(1, { allocation: "claimed", liveRun: "run-a" }), worker(2)]),
    null,
  );
  assert.equal(plan.kind === "use" && plan.name, "kite-2");
  assert.deepEqual(plan.considered, [
    { worker: "kite-1", verdict: "working on run-a" },
    { worker: "kite-2", verdict: "idle (running)" },
    { worker: "kite-3", verdict: "idle (running)" },
  ]);
});

test("an awake worker goes before a warm one, and a warm one before a cold one", () => {
  const workers = [
    worker(1, { providerState: "cold" }),
    worker(2, { providerState: "warm" }),
    worker(3),
  ];
  assert.equal(nameOf(allocate(pool(workers), null)), "kite-3");
  assert.equal(nameOf(allocate(pool(workers.slice(0, 2)), null)), "kite-2");
});

test("with nobody idle the lowest free number is created, gaps first", () => {
  const busy = { allocation: "claimed" } as const;
  assert.equal(nameOf(allocate(pool([]), null)), "kite-1");
  assert.equal(nameOf(allocate(pool([worker(1, busy), worker(3, busy)]), null)), "kite-2");
  assert.equal(nameOf(allocate(pool([worker(1, busy), worker(2, busy)]), null)), "kite-3");
  assert.equal(nameOf(allocate(pool([], { foreignNumbers: [1, 2] }), null)), "kite-3");
});

test("at the cap, or with a full provider, the run queues and says why", () => {
  const full = allocate(
    pool([worker(1, { allocation: "unready", reason: "setup failed" })], { maxWorkers: 1 }),
    null,
  );
  assert.equal(full.kind, "queue");
  assert.match(full.reason, /cap of 1/);
  assert.equal(allocate(pool([], { capacity: 0 }), null).kind, "queue");
});

test("a named worker is used, waited for, or refused, and never replaced", () => {
  const workers = [worker(1), worker(2, { cordoned: true })];
  assert.equal(nameOf(allocate(pool(workers), "kite-1")), "kite-1");
  assert.equal(allocate(pool(workers), "kite-2").kind, "queue");
  assert.equal(allocate(pool(workers), "kite-9").kind, "refuse");
});

const facts: fc.Arbitrary<WorkerFacts> = fc
  .record({
    number: fc.integer({ min: 1, max: 12 }),
    allocation: fc.constantFrom<Allocation>(
      "creating",
      "preparing",
      "unready",
      "free",
      "claimed",
      "destroying",
    ),
    cordoned: fc.boolean(),
    draining: fc.boolean(),
    providerState: fc.constantFrom<ProviderState | null>(
      "running",
      "warm",
      "cold",
      "unreachable",
      "gone",
      null,
    ),
    busyUntil: fc.constantFrom(null, 500, 5_000),
  })
  .map((some) => worker(some.number, some));

const pools: fc.Arbitrary<PoolSnapshot> = fc
  .record({
    workers: fc.uniqueArray(facts, { selector: ({ number }) => number }),
    maxWorkers: fc.option(fc.integer({ min: 1, max: 12 }), { nil: null }),
    capacity: fc.option(fc.integer({ min: 0, max: 3 }), { nil: null }),
    foreignNumbers: fc.array(fc.integer({ min: 1, max: 12 })),
  })
  .map(({ workers, ...rest }) => pool(workers, rest));

test("whatever the pool: only idle workers are used, nothing is created beyond cap or capacity, nor while one is idle", () => {
  fc.assert(
    fc.property(pools, (snapshot) => {
      const plan = allocate(snapshot, null);
      const idle = snapshot.workers.filter((one) => whyNotIdle(one, snapshot.now) === null);
      const counted = snapshot.workers.filter((one) =>
        COUNTS_AGAINST_CAP.has(one.allocation),
      ).length;
      switch (plan.kind) {
        case "use":
          assert.ok(idle.some((one) => one.workerId === plan.workerId));
          break;
        case "create":
          assert.equal(idle.length, 0);
          assert.ok(snapshot.maxWorkers === null || counted < snapshot.maxWorkers);
          assert.ok(snapshot.capacity === null || snapshot.capacity > 0);
          assert.ok(!snapshot.workers.some((one) => one.number === plan.number));
          assert.ok(!snapshot.foreignNumbers.includes(plan.number));
          break;
        case "queue":
          assert.equal(idle.length, 0);
          break;
        case "refuse":
          assert.fail("only a named worker can be refused");
      }
    }),
    { numRuns: 2_000 },
  );
});

test("the same pool in another order gives the same plan", () => {
  fc.assert(
    fc.property(pools, (snapshot) => {
      const reversed = { ...snapshot, workers: [...snapshot.workers].reverse() };
      assert.deepEqual(allocate(reversed, null), allocate(snapshot, null));
    }),
  );
});

function nameOf(plan: ReturnType<typeof allocate>): string | undefined {
  return plan.kind === "use" || plan.kind === "create" ? plan.name : undefined;
}
