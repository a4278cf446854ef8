import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { asRunId, asTaskId, asWorkerId } from "../../src/domain/ids.ts";
import {
  RUN_TRANSITIONS,
  isTerminal,
  type RunState,
  TERMINAL_RUN_STATES,
} from "../../src/domain/run.ts";
import { TASK_TRANSITIONS, type TaskState } from "../../src/domain/task.ts";
import { type Allocation, WORKER_TRANSITIONS } from "../../src/domain/worker.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { markPath, readMark } from "../../src/store/mark.ts";
import { sql } from "../../src/store/sql.ts";
import type { Store } from "../../src/store/store.ts";
import { exerciseStore } from "../conformance/store.ts";
import { addTask, open, tempFolder } from "./rig.ts";
import { messageRow, runRow, stepRow, taskRow, workerRow } from "./rows.ts";

exerciseStore("one SQLite file", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  const handles: Store[] = [];
  t.after(() => Promise.all(handles.map((handle) => handle.close())));
  return {
    open: async () => {
      const store = await open(path);
      handles.push(store);
      return store;
    },
  };
});

test("a new store lies in a folder made for it, readable by its owner only", async (t) => {
  const path = join(tempFolder(t), "a", "b", "coordination.db");
  const store = await open(path);
  await addTask(store, "t-1");
  for (const file of [path, `${path}-wal`, markPath(path)]) {
    assert.equal(statSync(file).mode & 0o777, 0o600, file);
  }
  assert.equal(statSync(join(path, "..")).mode & 0o777, 0o700);
  await store.close();
  assert.equal(existsSync(`${path}-wal`), false, "the last to close leaves one whole file");
});

test("the mark has reached what a mutation wrote when it resolves", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  const [one, two] = [await open(path), await open(path)];
  t.after(() => Promise.all([one.close(), two.close()]));
  for (let n = 0; n < 20; n += 1) {
    await addTask(n % 2 ? one : two, `t-${n}`);
    const mark = readMark(path);
    assert.equal(mark?.seq, n + 1);
    assert.equal(mark?.fleet_id, one.fleetId);
  }
  await Promise.all(Array.from({ length: 60 }, (_, n) => addTask(n % 2 ? one : two, `u-${n}`)));
  assert.equal(readMark(path)?.seq, 80);
});

test("a commit of this process wakes without a look at the clock", async (t) => {
  const asleep = (signal?: AbortSignal) =>
    new Promise<never>((_, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason));
    });
  const clock = { ...systemClock(), sleep: (_ms: number, signal?: AbortSignal) => asleep(signal) };
  const store = await open(join(tempFolder(t), "coordination.db"), { clock });
  t.after(() => store.close());
  const woken = store.waitForEvents(0, AbortSignal.timeout(30_000));
  await addTask(store, "t-1");
  await woken;
});

test("the tables have the columns that the schema declares", async (t) => {
  const store = await open(join(tempFolder(t), "coordination.db"));
  t.after(() => store.close());
  const declared = {
    tasks: taskRow("t-1"),
    workers: workerRow(1),
    runs: runRow("r-1"),
    steps: stepRow(),
    messages: messageRow(),
  };
  for (const [table, row] of Object.entries(declared)) {
    const columns = await sql<{
      name: string;
    }>`select name from pragma_table_info(${table})`.execute(store.db);
    assert.deepEqual(columns.rows.map(({ name }) => name).sort(), Object.keys(row).sort(), table);
  }
});

test("the tables take every state that the domain knows, and no other", async (t) => {
  const store = await open(join(tempFolder(t), "coordination.db"));
  t.after(() => store.close());
  await store.mutate(async (tx) => {
    for (const state of Object.keys(TASK_TRANSITIONS) as TaskState[]) {
      await tx.db
        .insertInto("tasks")
        .values(taskRow(`t-${state}`, { state }))
        .execute();
    }
    for (const [index, allocation] of (Object.keys(WORKER_TRANSITIONS) as Allocation[]).entries()) {
      await tx.db
        .insertInto("workers")
        .values(workerRow(index + 1, { allocation }))
        .execute();
    }
    const task_id = asTaskId("t-open");
    for (const state of Object.keys(RUN_TRANSITIONS) as RunState[]) {
      await tx.db
        .insertInto("runs")
        .values(runRow(`r-${state}`, { state, task_id }))
        .execute();
    }
    const outcomes = [...TERMINAL_RUN_STATES].filter(isTerminal);
    for (const outcome of outcomes) {
      await tx.db.updateTable("runs").set({ outcome }).execute();
    }
    for (const provider_state of ["running", "warm", "cold", "unreachable", "gone"] as const) {
      await tx.db.updateTable("workers").set({ provider_state }).execute();
    }
    const run_id = asRunId("r-queued");
    for (const state of ["running", "done", "skipped", "failed"] as const) {
      await tx.db
        .insertInto("steps")
        .values(stepRow({ run_id, step: state, state }))
        .execute();
    }
    const receipts = ["accepted", "queued", "blocked", "typed_only", "refused", "unknown"] as const;
    for (const [index, receipt] of receipts.entries()) {
      const row = messageRow({ run_id, seq: index + 1, receipt });
      await tx.db.insertInto("messages").values(row).execute();
    }
    for (const form of ["exact", "prefixed", "file"] as const) {
      await tx.db.updateTable("messages").set({ form }).execute();
    }
  });
  const unknown = "asleep" as RunState;
  await assert.rejects(
    store.mutate((tx) => tx.db.updateTable("runs").set({ state: unknown }).execute()),
    /CHECK/,
  );
  const fractional = store.mutate((tx) =>
    tx.db
      .updateTable("runs")
      .set({ not_before: 1.5, worker_id: asWorkerId("w-1") })
      .execute(),
  );
  await assert.rejects(fractional, /REAL value in INTEGER/);
});
