import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { asRunId } from "../../src/domain/ids.ts";
import { settleClock } from "../../src/dispatch/clock-step.ts";
import type { Clock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { localProvider } from "../../src/providers/local/local.ts";
import { ProviderError } from "../../src/providers/provider-error.ts";
import type { Provider } from "../../src/providers/provider.ts";
import type { RunDetailView, RunView, StatusView, WorkerView } from "../../src/operations/views.ts";
import { NO_EVIDENCE } from "../../src/runtimes/evidence.ts";
import { open, tempFolder } from "../store/rig.ts";
import { messageRow, runRow, taskRow, workerRow } from "../store/rows.ts";
import { isAlive } from "../support/agent-window.ts";
import { installation, type Installation } from "../support/installation.ts";
import { MovedClock } from "../support/moved-clock.ts";
import { until } from "../support/wait.ts";

const HOUR = 3_600_000;
const STEPS = { "an hour": HOUR, "a day": 24 * HOUR };

function held(installed: Installation): { task: string; go(): void } {
  const go = join(installed.home, "go");
  return {
    task: `until [ -e ${go} ]; do sleep 0.05; done; echo done`,
    go: () => writeFileSync(go, ""),
  };
}

const show = (installed: Installation, runId: string) =>
  installed.call<RunDetailView>("run.show", { run_id: runId });

const wentBack = (installed: Installation) =>
  until(async () => (await installed.events()).find(({ kind }) => kind === "clock.went_back"), {
    what: "the word about the clock",
    timeoutMs: 60_000,
  });

/** No age below 0 or above what has really passed, no time after now. */
function assertSane(shown: { status: StatusView | null }, now: number, begun: number): void {
  const { status } = shown;
  if (status === null) return;
  const most = performance.now() - begun + 1_000;
  const told = JSON.stringify(status);
  assert.ok(status.age_ms >= 0 && status.age_ms <= most, `age of at most ${most}: ${told}`);
  assert.ok(status.since <= now, told);
  assert.doesNotMatch(status.explain.join("\n"), /-\d/, told);
  for (const [, seconds] of status.explain.join("\n").matchAll(/([\d.]+) s ago/g)) {
    assert.ok(Number(seconds) * 1_000 <= most, told);
  }
}

async function assertAllSane(installed: Installation, clock: Clock, begun: number): Promise<void> {
  const seen = await installed.call<{ workers: WorkerView[]; runs: RunView[] }>("status");
  for (const run of seen.runs) {
    assertSane(run, clock.now(), begun);
    const detail = await show(installed, run.run_id);
    for (const { step, ms } of detail.steps) assert.ok(ms === null || ms >= 0, `${step}: ${ms}`);
  }
  for (const worker of seen.workers) {
    assertSane(worker, clock.now(), begun);
    const age = worker.provider_state_age_ms ?? 0;
    assert.ok(age >= 0 && age <= performance.now() - begun + 1_000, `age ${age}`);
  }
}

for (const [name, step] of Object.entries(STEPS)) {
  describe(`the clock goes back by ${name}`, () => {
    test("while a run works: its status stays sane at every moment, and it ends as ever", async () => {
      const begun = performance.now();
      const clock = new MovedClock();
      await using installed = installation({ overrides: { clock } });
      const { task, go } = held(installed);
      const run = await installed.dispatch(task);
      await installed.wait(run.run_id, "delivered");
      clock.offset -= step;
      await assertAllSane(installed, clock, begun);
      const told = await wentBack(installed);
      const by = Number(told.payload["by_ms"]);
      assert.ok(by > step - 60_000 && by <= step, `said: ${by}`);
      await assertAllSane(installed, clock, begun);
      assert.equal((await show(installed, run.run_id)).status?.status, "running");
      go();
      const ended = await installed.wait(run.run_id);
      assert.equal(ended.state, "completed", JSON.stringify(ended));
      const { duration_ms: duration } = ended.report ?? {};
      assert.ok(duration != null && duration >= 0 && duration < 120_000, `took ${duration}`);
      const { runs } = await installed.call<{ runs: RunView[] }>("status", { target: run.run_id });
      assertSane(runs[0]!, clock.now(), begun);
      const next = await installed.dispatch("true");
      assert.equal(next.worker, "kite-1", "its worker is idle");
      assert.equal((await installed.wait(next.run_id)).state, "completed");
      assert.equal((await show(installed, "latest")).run_id, next.run_id);
    });

    test("while an agent falls silent: silence counts from then on, not from when the clock has caught up", async () => {
      const clock = new MovedClock();
      await using installed = installation({ overrides: { clock } });
      const { task, go } = held(installed);
      const run = await installed.dispatch(task);
      await installed.wait(run.run_id, "delivered");
      const guard = await guardOf(installed);
      process.kill(guard, "SIGSTOP");
      try {
        clock.offset -= step;
        await wentBack(installed);
        assert.equal((await show(installed, run.run_id)).status?.status, "running");
        clock.offset += 46_000;
        await until(async () => (await show(installed, run.run_id)).status?.status === "stale", {
          what: "the silence to count",
        });
      } finally {
        process.kill(guard, "SIGCONT");
      }
      await until(async () => (await show(installed, run.run_id)).status?.status === "running", {
        what: "the next pulse",
        timeoutMs: 30_000,
      });
      go();
      assert.equal((await installed.wait(run.run_id)).state, "completed");
    });

    test("while runs wait for a worker, one of them for a time: they go in their order, and soon", async () => {
      const clock = new MovedClock();
      let refusals = 0;
      const holder: { installed?: Installation } = {};
      const overrides = {
        clock,
        get providers(): ReadonlyMap<string, Provider> {
          const root = holder.installed?.paths.local ?? "";
          const real = localProvider({
            root,
            clock,
            ids: randomIds(),
            path: process.env["PATH"] ?? "",
          });
          const create: Provider["create"] = async (spec) => {
            refusals += 1;
            if (refusals > 1) return real.create(spec);
            throw new ProviderError("no_capacity", "the provider is full");
          };
          return new Map([["local", { ...real, create }]]);
        },
      };
      await using installed = installation({ overrides, repo: { maxWorkers: 1 } });
      holder.installed = installed;
      const marks = join(installed.home, "marks");
      const { task, go } = held(installed);
      const runs: RunView[] = [];
      for (const mark of ["a", "b", "c"]) {
        runs.push(
          await installed.dispatch(`echo ${mark} >> ${marks}; ${mark === "b" ? task : ""}`),
        );
        if (mark === "a") {
          await until(
            async () => refusals > 0 && (await show(installed, runs[0]!.run_id)).state === "queued",
            {
              what: "the refused create",
            },
          );
        }
      }
      clock.offset -= step;
      runs.push(await installed.dispatch(`echo d >> ${marks}`));
      await wentBack(installed);
      go();
      for (const run of runs) {
        const ended = await installed.wait(run.run_id, "ended", 30_000);
        assert.equal(ended.state, "completed", JSON.stringify(ended));
      }
      // While the first waits after the refused create, the second may have the worker.
      assert.equal(readFileSync(marks, "utf8").replace("a\n", ""), "b\nc\nd\n");
    });

    test("while the controller is down: the next one goes on where it was", async () => {
      const begun = performance.now();
      const clock = new MovedClock();
      await using installed = installation({ overrides: { clock }, repo: { maxWorkers: 1 } });
      const { task, go } = held(installed);
      const run = await installed.dispatch(task);
      await installed.wait(run.run_id, "delivered");
      const queued = await installed.dispatch("true");
      await installed.stopController();
      clock.offset -= step;
      await wentBack(installed);
      await assertAllSane(installed, clock, begun);
      go();
      assert.equal((await installed.wait(run.run_id)).state, "completed");
      assert.equal((await installed.wait(queued.run_id)).state, "completed");
    });
  });
}

test("an agent that ended while nobody listened for a minute has ended as it did: neither blocked nor failed", async () => {
  const clock = new MovedClock();
  await using installed = installation({ overrides: { clock } });
  const { task, go } = held(installed);
  const run = await installed.dispatch(task);
  await installed.wait(run.run_id, "delivered");
  await installed.stopController();
  const gate = join(installed.homeOf("kite-1"), ".orchestrator/runs", run.run_id, "launch-1");
  const pid = Number(readFileSync(gate, "utf8").split(" ")[0]);
  go();
  await until(() => !isAlive(pid), { what: "the agent's end" });
  clock.offset += 60_000;
  const ended = await installed.wait(run.run_id);
  assert.equal(ended.state, "completed", JSON.stringify(ended));
  const kinds = (await installed.events(run.run_id)).map(({ kind }) => kind);
  assert.ok(!kinds.includes("run.blocked"), kinds.join(" "));
});

test("a worker that was busy with a person is idle again when it should be, not when the clock has caught up", async () => {
  const clock = new MovedClock();
  await using installed = installation({ overrides: { clock }, repo: { maxWorkers: 1 } });
  await installed.wait((await installed.dispatch("true")).run_id);
  const { store } = (await installed.controller()).services;
  await store.mutate((tx) =>
    tx.db
      .updateTable("workers")
      .set({ busy_until: tx.now + 60_000, busy_reason: "somebody is attached" })
      .execute(),
  );
  clock.offset -= HOUR;
  const run = await installed.dispatch("true");
  assert.equal((await installed.wait(run.run_id, "ended", 30_000)).state, "completed");
});

test("every stored time that a decision rests on is brought back; others and their order stay", async (t) => {
  const clock = new MovedClock();
  const store = await open(join(tempFolder(t), "coordination.db"), { clock });
  t.after(() => store.close());
  const now = 10 * HOUR;
  clock.now = () => now;
  const ahead = now + HOUR;
  const reading = {
    value: { alive: true, pid: 1, exitCode: null, signal: null },
    at: ahead,
    up: 5,
    since: ahead - 1,
  };
  const evidence = { ...NO_EVIDENCE, startedAt: ahead, lastAt: ahead, process: reading };
  const times = { updated_at: ahead, started_at: ahead, launched_at: ahead, not_before: ahead };
  await store.mutate(async (tx) => {
    const { db } = tx;
    await db.insertInto("tasks").values(taskRow("t-1")).execute();
    const rows = [
      runRow("r-old", { created_at: 5, state: "active" }),
      runRow("r-b", {
        created_at: ahead,
        ...times,
        evidence: JSON.stringify(evidence),
        state: "launched",
      }),
      runRow("r-a", { created_at: ahead + 1, ...times, not_before: now + 4_000 }),
      runRow("r-done", { created_at: ahead - 1, finished_at: ahead, state: "completed" }),
      runRow("r-new", { created_at: now - 20 }),
    ];
    for (const row of rows) await db.insertInto("runs").values(row).execute();
    await db
      .insertInto("messages")
      .values(messageRow({ run_id: asRunId("r-b"), created_at: ahead }))
      .execute();
    const late = { updated_at: ahead, provider_state_at: ahead };
    await db
      .insertInto("workers")
      .values(workerRow(1, { ...late, busy_until: ahead }))
      .execute();
    await db
      .insertInto("workers")
      .values(workerRow(2, { busy_until: now + 59_000 }))
      .execute();
  });
  const settle = async () => (await store.mutate((tx) => settleClock(tx, 100))).value;
  assert.equal(await settle(), HOUR + 1);
  const order = await store.db.selectFrom("runs").select("run_id").orderBy("created_at").execute();
  assert.deepEqual(
    order.map(({ run_id }) => run_id),
    ["r-old", "r-done", "r-b", "r-a", "r-new"],
  );
  const run = await store.db
    .selectFrom("runs")
    .selectAll()
    .where("run_id", "=", asRunId("r-b"))
    .executeTakeFirstOrThrow();
  assert.deepEqual(
    [run.updated_at, run.started_at, run.launched_at, run.not_before],
    [now, now, now, now],
  );
  const brought = { ...reading, at: now, since: now };
  assert.deepEqual(JSON.parse(run.evidence ?? ""), {
    ...evidence,
    startedAt: now,
    lastAt: now,
    process: brought,
  });
  const waits = await store.db
    .selectFrom("runs")
    .select("not_before")
    .where("run_id", "=", asRunId("r-a"))
    .executeTakeFirst();
  assert.equal(waits?.not_before, now + 4_000, "a wait that may be meant");
  const message = await store.db.selectFrom("messages").select("created_at").executeTakeFirst();
  assert.equal(message?.created_at, now);
  const workers = await store.db.selectFrom("workers").selectAll().orderBy("number").execute();
  assert.deepEqual(
    workers.map((worker) => [worker.updated_at, worker.provider_state_at, worker.busy_until]),
    [
      [now, now, now],
      [1, null, now + 59_000],
    ],
  );
  const seq = await store.lastSeq();
  assert.equal(await settle(), 0);
  assert.equal(await store.lastSeq(), seq, "nothing to say twice");
});

/** The guard's process in the worker's third window. */
async function guardOf(installed: Installation): Promise<number> {
  const argv = ["tmux", "display-message", "-p", "-t", "=kite-dev:2", "#{pane_pid}"];
  const { stdout } = await installed.call<{ stdout: string }>("worker.exec", {
    worker: "kite-1",
    argv,
  });
  const pid = Number(stdout);
  assert.ok(existsSync(`/proc/${pid}`), stdout);
  return pid;
}
