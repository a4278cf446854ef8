import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";
import { asRunId, asTaskId, asWorkerId } from "../../src/domain/ids.ts";
import { verifyChain } from "../../src/store/chain.ts";
import { sql } from "../../src/store/sql.ts";
import type { MutateOptions, Store, Tx } from "../../src/store/store.ts";
import { addTask, failure } from "../store/rig.ts";
import { messageRow, runRow, taskRow, workerRow } from "../store/rows.ts";

/** One store that can be opened several times, as several processes would; all handles are closed by the rig. */
export interface StoreRig {
  open(): Promise<Store>;
}

const LONG = AbortSignal.timeout(60_000);

/** Every guarantee of `store/store.ts` that does not need a broken disk or a killed process. */
export function exerciseStore(name: string, makeRig: (t: TestContext) => Promise<StoreRig>): void {
  const caseOf = (title: string, run: (store: Store, rig: StoreRig) => Promise<void>) => {
    test(title, async (t) => {
      const rig = await makeRig(t);
      await run(await rig.open(), rig);
    });
  };

  describe(`${name}: mutations`, () => {
    caseOf("rows, events and the revision commit together", async (store, rig) => {
      const { value, revision, replayed } = await store.mutate(async (tx) => {
        await tx.db.insertInto("tasks").values(taskRow("t-1")).execute();
        tx.event({ kind: "task.opened", task_id: asTaskId("t-1"), payload: { a: 1 } });
        tx.event({ kind: "task.noted", payload: { at: tx.now } });
        return "done";
      });
      assert.deepEqual(
        { value, revision, replayed },
        { value: "done", revision: 1, replayed: false },
      );
      for (const reader of [store, await rig.open()]) {
        assert.equal(await reader.revision(), 1);
        assert.equal(await taskCount(reader), 1);
        const kinds = (await reader.readEvents(0)).map(({ seq, kind }) => [seq, kind]);
        assert.deepEqual(kinds, [
          [1, "task.opened"],
          [2, "task.noted"],
        ]);
      }
    });

    caseOf("nobody sees a mutation before it is committed", async (store, rig) => {
      const other = await rig.open();
      await store.mutate(async (tx) => {
        await tx.db.insertInto("tasks").values(taskRow("t-1")).execute();
        tx.event({ kind: "task.opened" });
        assert.equal(await taskCount(store), 0);
        assert.equal(await taskCount(other), 0);
        assert.equal(await store.lastSeq(), 0);
        assert.equal(await store.revision(), 0);
      });
      assert.equal(await taskCount(other), 1);
    });

    caseOf("a callback that throws undoes its own changes and no others", async (store) => {
      const outcomes = await Promise.allSettled([
        addTask(store, "t-1"),
        store.mutate(async (tx) => {
          await tx.db.insertInto("tasks").values(taskRow("t-2")).execute();
          tx.event({ kind: "task.opened", payload: { id: "t-2" } });
          throw new Error("changed its mind");
        }),
        store.mutate(async (tx) => {
          await tx.db.deleteFrom("tasks").execute();
          await tx.db
            .insertInto("tasks")
            .values([taskRow("t-5"), taskRow("t-5")])
            .execute();
        }),
        store.mutate(async (tx) => {
          await tx.db.deleteFrom("tasks").execute();
          tx.event({ kind: "task.gone", payload: { amount: Number.NaN } });
        }),
        addTask(store, "t-3"),
      ]);
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        ["fulfilled", "rejected", "rejected", "rejected", "fulfilled"],
      );
      assert.deepEqual(await taskIds(store), ["t-1", "t-3"]);
      assert.deepEqual(
        (await store.readEvents(0)).map(({ seq, payload }) => [seq, payload["id"]]),
        [
          [1, "t-1"],
          [2, "t-3"],
        ],
      );
      assert.equal(await store.revision(), 2);
      assert.equal((await verifyChain(store.db)).kind, "whole");
    });

    caseOf(
      "a statement that fails and is caught leaves the rest of its mutation",
      async (store) => {
        await store.mutate(async (tx) => {
          await tx.db.insertInto("tasks").values(taskRow("t-1")).execute();
          const again = tx.db.insertInto("tasks").values(taskRow("t-1")).execute();
          await assert.rejects(again);
          await tx.db.insertInto("tasks").values(taskRow("t-2")).execute();
        });
        assert.deepEqual(await taskIds(store), ["t-1", "t-2"]);
      },
    );

    caseOf("mutations run in the order they were asked for", async (store) => {
      const order: number[] = [];
      const change = (index: number) => async (tx: Tx) => {
        await tx.db
          .insertInto("tasks")
          .values(taskRow(`t-${index}`))
          .execute();
        order.push(index);
        return index;
      };
      const asked = Array.from({ length: 450 }, (_, index) => index);
      const results = await Promise.all(asked.map((index) => store.mutate(change(index))));
      assert.deepEqual(order, asked);
      assert.deepEqual(
        results.map(({ value, revision }) => [value, revision]),
        asked.map((index) => [index, index + 1]),
      );
    });

    caseOf("the revision rises by one for each mutation, and not for quiet ones", async (store) => {
      await addTask(store, "t-1");
      const quiet = await store.mutate(
        async (tx) => {
          const cursor = { name: "dashboard", seq: 1, updated_at: tx.now };
          await tx.db.insertInto("cursors").values(cursor).execute();
          tx.event({ kind: "cursor.moved" });
        },
        { quiet: true },
      );
      assert.equal(quiet.revision, 1);
      assert.equal(await store.revision(), 1);
      assert.equal(await store.lastSeq(), 2);
      await store.readEvents(0);
      await taskCount(store);
      assert.equal(await store.revision(), 1);
    });

    caseOf("an expected revision that does not hold changes nothing", async (store) => {
      await addTask(store, "t-1");
      let called = false;
      const stale = store.mutate(async () => void (called = true), { expectedRevision: 0 });
      await assert.rejects(stale, failure("stale_revision", /at revision 1, not 0/));
      assert.equal(called, false);
      const holds = await store.mutate(async () => "yes", { expectedRevision: 1 });
      assert.equal(holds.revision, 2);
    });

    caseOf(
      "of many that expect the same revision, in any process, one wins",
      async (store, rig) => {
        const other = await rig.open();
        const outcomes = await Promise.allSettled(
          Array.from({ length: 20 }, (_, index) =>
            (index % 2 ? store : other).mutate(async () => index, { expectedRevision: 0 }),
          ),
        );
        assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
        assert.equal(await store.revision(), 1);
      },
    );

    caseOf("a mutation cannot be used after its callback has returned", async (store) => {
      let kept: Tx | undefined;
      await store.mutate(async (tx) => void (kept = tx));
      assert.ok(kept);
      const late = kept;
      await assert.rejects(
        late.db.insertInto("tasks").values(taskRow("t-9")).execute(),
        failure("internal", /after its callback/),
      );
      assert.throws(() => late.event({ kind: "task.opened" }), failure("internal"));
      assert.equal(await taskCount(store), 0);
    });

    caseOf("a mutation inside a mutation is refused, not waited for", async (store) => {
      const outer = store.mutate(async () => addTask(store, "t-1"));
      await assert.rejects(outer, failure("internal", /inside a mutation/));
      await addTask(store, "t-2");
      assert.deepEqual(await taskIds(store), ["t-2"]);
    });

    caseOf("closing finishes what was asked for, then refuses", async (store, rig) => {
      const asked = [addTask(store, "t-1"), addTask(store, "t-2")];
      await Promise.all([store.close(), store.close()]);
      await Promise.all(asked);
      await assert.rejects(addTask(store, "t-3"), failure("unreachable", /closed/));
      assert.deepEqual(await taskIds(await rig.open()), ["t-1", "t-2"]);
    });
  });

  describe(`${name}: request ids`, () => {
    const asking = (body: unknown, operation = "task.add"): MutateOptions => ({
      request: { id: "req-1", operation, body },
    });

    caseOf("the same request acts once and gets the recorded answer", async (store, rig) => {
      const act = async (at: Store, body: unknown) =>
        at.mutate(async (tx) => {
          await tx.db.insertInto("tasks").values(taskRow("t-1")).execute();
          tx.event({ kind: "task.opened" });
          return { task_id: "t-1" };
        }, asking(body));
      const first = await act(store, { title: "x", labels: { a: 1, b: 2 } });
      assert.equal(first.replayed, false);
      const again = await act(await rig.open(), { labels: { b: 2, a: 1 }, title: "x" });
      assert.deepEqual(again, { value: { task_id: "t-1" }, revision: 1, replayed: true });
      assert.equal(await store.lastSeq(), 1);
    });

    caseOf("equal requests of one turn act once", async (store) => {
      let acted = 0;
      const act = () => store.mutate(async () => ({ acted: ++acted }), asking({}));
      const results = await Promise.all([act(), act(), act()]);
      assert.deepEqual(
        results.map(({ value, replayed }) => [value.acted, replayed]),
        [
          [1, false],
          [1, true],
          [1, true],
        ],
      );
    });

    caseOf("the same id with another body or operation is a mismatch", async (store) => {
      await store.mutate(async () => 1, asking({ title: "x" }));
      const otherBody = store.mutate(async () => 2, asking({ title: "y" }));
      await assert.rejects(otherBody, failure("request_mismatch", /req-1/));
      const otherOperation = store.mutate(async () => 2, asking({ title: "x" }, "task.remove"));
      await assert.rejects(otherOperation, failure("request_mismatch"));
      assert.equal(await store.revision(), 1);
    });

    caseOf("a request that failed may be asked again", async (store) => {
      const fails = store.mutate(async () => Promise.reject(new Error("no room")), asking({}));
      await assert.rejects(fails, /no room/);
      const again = await store.mutate(async () => "done", asking({}));
      assert.deepEqual(again, { value: "done", revision: 1, replayed: false });
    });

    caseOf(
      "an answer that was lost is given again, though the revision has moved on",
      async (store) => {
        const act = () => store.mutate(async () => "done", { ...asking({}), expectedRevision: 0 });
        await act();
        await addTask(store, "t-1");
        assert.deepEqual(await act(), { value: "done", revision: 2, replayed: true });
      },
    );
  });

  describe(`${name}: events`, () => {
    caseOf("seq is gapless and the chain whole, whoever writes", async (store, rig) => {
      const handles = [store, await rig.open(), await rig.open()];
      await Promise.all(
        handles.flatMap((handle, index) =>
          Array.from({ length: 40 }, (_, n) => addTask(handle, `t-${index}-${n}`)),
        ),
      );
      const events = await store.readEvents(0);
      assert.deepEqual(
        events.map(({ seq }) => seq),
        Array.from({ length: 120 }, (_, index) => index + 1),
      );
      for (const index of handles.keys()) {
        const own = events
          .map(({ payload }) => String(payload["id"]))
          .filter((id) => id.startsWith(`t-${index}-`));
        assert.deepEqual(
          own,
          Array.from({ length: 40 }, (_, n) => `t-${index}-${n}`),
        );
      }
      const report = await verifyChain(store.db);
      assert.equal(report.kind === "whole" && report.end.seq, 120);
      assert.equal(await store.revision(), 120);
    });

    caseOf("a cursor reads on from where it stands, filtered and bounded", async (store) => {
      const run_id = asRunId("r-1");
      await store.mutate(async (tx) => {
        tx.event({ kind: "run.queued", repo: "kite", run_id, payload: { text: "žluť\u0000\n" } });
        tx.event({ kind: "run.driving", repo: "kite", run_id, worker_id: asWorkerId("w-1") });
        tx.event({ kind: "run_note.added", repo: "lark", task_id: asTaskId("t-1") });
        tx.event({ kind: "runs.counted", repo: "lark" });
        tx.event({ kind: "worker.free", worker_id: asWorkerId("w-1") });
      });
      const seqs = async (...args: Parameters<Store["readEvents"]>) =>
        (await store.readEvents(...args)).map(({ seq }) => seq);
      assert.deepEqual(await seqs(0), [1, 2, 3, 4, 5]);
      assert.deepEqual(await seqs(2), [3, 4, 5]);
      assert.deepEqual(await seqs(1, { limit: 2 }), [2, 3]);
      assert.deepEqual(await seqs(5), []);
      assert.deepEqual(await seqs(0, { filter: { run_id } }), [1, 2]);
      assert.deepEqual(await seqs(0, { filter: { worker_id: asWorkerId("w-1") } }), [2, 5]);
      assert.deepEqual(await seqs(0, { filter: { task_id: asTaskId("t-1") } }), [3]);
      assert.deepEqual(await seqs(0, { filter: { repo: "lark" } }), [3, 4]);
      assert.deepEqual(await seqs(0, { filter: { kinds: ["run."] } }), [1, 2]);
      assert.deepEqual(await seqs(0, { filter: { kinds: ["run.queued", "worker."] } }), [1, 5]);
      assert.deepEqual(await seqs(0, { filter: { kinds: [] } }), []);
      assert.deepEqual(await seqs(0, { filter: { kinds: ["worker."], run_id } }), []);
      const [first] = await store.readEvents(0, { limit: 1 });
      assert.deepEqual(
        { ...first, at: 0 },
        {
          seq: 1,
          at: 0,
          kind: "run.queued",
          repo: "kite",
          task_id: null,
          run_id,
          worker_id: null,
          payload: { text: "žluť\u0000\n" },
        },
      );
    });

    caseOf("names that could come back changed are kept out of the log", async (store) => {
      for (const kind of ["", "run queued", "run\u0000", "run.\ud800"]) {
        await assert.rejects(
          store.mutate(async (tx) => tx.event({ kind })),
          failure("invalid_input"),
        );
      }
      assert.equal(await store.lastSeq(), 0);
    });

    caseOf("who waits for events is woken by a commit of this process", async (store) => {
      const before = store.waitForEvents(0, LONG);
      const later = store.waitForEvents(1, LONG);
      await addTask(store, "t-1");
      await before;
      await addTask(store, "t-2");
      await later;
      const waiting = new AbortController();
      const pending = assert.rejects(store.waitForEvents(99, waiting.signal), /enough/);
      await store.waitForEvents(1, LONG);
      waiting.abort(new Error("enough"));
      await pending;
    });

    caseOf("who waits for events is woken by a commit of another process", async (store, rig) => {
      const other = await rig.open();
      for (let seq = 0; seq < 5; seq += 1) {
        const woken = store.waitForEvents(seq, LONG).then(() => performance.now());
        await addTask(other, `t-${seq}`);
        const committedAt = performance.now();
        // The contract says 100 ms; a busy machine runs timers late.
        assert.ok((await woken) - committedAt < 1_000);
      }
    });

    caseOf("quiet and eventless commits wake nobody", async (store) => {
      const waiting = new AbortController();
      const woken = store.waitForEvents(0, waiting.signal).then(() => "woken");
      await store.mutate(async (tx) => {
        await tx.db.insertInto("tasks").values(taskRow("t-1")).execute();
      });
      waiting.abort(new Error("enough"));
      await assert.rejects(woken, /enough/);
    });

    caseOf("waiting ends with its signal, and with the store", async (store) => {
      const gone = AbortSignal.abort(new Error("gone before"));
      await assert.rejects(store.waitForEvents(0, gone), /gone before/);
      const leaving = new AbortController();
      const left = assert.rejects(store.waitForEvents(0, leaving.signal), /left/);
      const closed = assert.rejects(store.waitForEvents(0, LONG), failure("unreachable", /closed/));
      leaving.abort(new Error("left"));
      await left;
      await store.close();
      await closed;
    });
  });

  describe(`${name}: reading and rows`, () => {
    caseOf("the reading side cannot write", async (store) => {
      await assert.rejects(store.db.insertInto("tasks").values(taskRow("t-1")).execute());
      await assert.rejects(sql`delete from events`.execute(store.db));
      assert.equal(await taskCount(store), 0);
    });

    caseOf("reads go on while another process holds the write lock", async (store, rig) => {
      const other = await rig.open();
      await other.mutate(async (tx) => {
        await tx.db.insertInto("tasks").values(taskRow("t-1")).execute();
        assert.equal(await taskCount(store), 0);
        assert.deepEqual(await store.readEvents(0), []);
      });
    });

    caseOf("a read transaction sees one state, and streams work", async (store) => {
      await Promise.all([addTask(store, "t-1"), addTask(store, "t-2")]);
      const added = Promise.withResolvers<unknown>();
      const reading = store.db.transaction().execute(async (reads) => {
        const before = await reads.selectFrom("tasks").select("task_id").execute();
        await addTask(store, "t-3").then(added.resolve, added.reject);
        const after = await reads.selectFrom("tasks").select("task_id").execute();
        return [before.length, after.length];
      });
      await added.promise;
      assert.deepEqual(await reading, [2, 2]);
      const streamed: string[] = [];
      for await (const row of store.db.selectFrom("tasks").selectAll().stream())
        streamed.push(row.task_id);
      assert.deepEqual(streamed.sort(), ["t-1", "t-2", "t-3"]);
    });

    caseOf("a parameter that would be lost without a word is refused", async (store) => {
      const bad: unknown[] = [new Date(), {}, [1], true, undefined, Symbol("x")];
      for (const value of bad) {
        const change = (tx: Tx) =>
          sql`insert into meta (key, value) values (${value}, ${"shifted"})`.execute(tx.db);
        await assert.rejects(store.mutate(change), failure("internal", /SQL parameter 1/));
      }
      const bytes = await sql<{
        size: number;
      }>`select length(${new Uint8Array(3)}) as size`.execute(store.db);
      assert.equal(bytes.rows[0]?.size, 3);
    });

    caseOf("upsert, returning and affected rows work", async (store) => {
      await store.mutate(async (tx) => {
        const put = (seq: number) =>
          tx.db
            .insertInto("cursors")
            .values({ name: "a", seq, updated_at: tx.now })
            .onConflict((conflict) => conflict.column("name").doUpdateSet({ seq }))
            .returning("seq")
            .executeTakeFirstOrThrow();
        assert.equal((await put(1)).seq, 1);
        assert.equal((await put(7)).seq, 7);
        const changed = await tx.db.updateTable("cursors").set({ seq: 8 }).executeTakeFirst();
        assert.equal(changed.numUpdatedRows, 1n);
      });
    });

    caseOf("a worker is never in two live runs", async (store) => {
      const worker_id = asWorkerId("w-1");
      await store.mutate(async (tx) => {
        await tx.db.insertInto("tasks").values(taskRow("t-1")).execute();
        await tx.db.insertInto("workers").values(workerRow(1)).execute();
        await tx.db
          .insertInto("runs")
          .values([
            runRow("r-1", { worker_id, state: "completed" }),
            runRow("r-2", { worker_id, state: "abandoned" }),
            runRow("r-3", { worker_id, state: "driving" }),
          ])
          .execute();
      });
      for (const state of ["queued", "driving", "blocked", "finishing"] as const) {
        await assert.rejects(
          insert(store, (tx) =>
            tx.db.insertInto("runs").values(runRow("r-4", { worker_id, state })),
          ),
        );
      }
      await assert.rejects(
        insert(store, (tx) =>
          tx.db.updateTable("runs").set({ state: "active" }).where("run_id", "=", asRunId("r-1")),
        ),
      );
    });

    caseOf("workers keep number, name and nonce to themselves until destroyed", async (store) => {
      const add = (over: Parameters<typeof workerRow>[1]) =>
        insert(store, (tx) => tx.db.insertInto("workers").values(workerRow(1, over)));
      await add({});
      const second = { worker_id: asWorkerId("w-2"), nonce: "nonce-2" };
      await assert.rejects(add(second));
      await assert.rejects(add({ ...second, number: 2 }));
      await assert.rejects(add({ ...second, repo: "lark" }));
      await assert.rejects(add({ ...second, number: 2, name: "kite-2", nonce: "nonce-1" }));
      await insert(store, (tx) => tx.db.updateTable("workers").set({ allocation: "destroyed" }));
      await add(second);
    });

    caseOf(
      "a run needs its task, a message its run, and no number is used twice",
      async (store) => {
        await assert.rejects(insert(store, (tx) => tx.db.insertInto("runs").values(runRow("r-1"))));
        await insert(store, (tx) => tx.db.insertInto("tasks").values(taskRow("t-1")));
        await insert(store, (tx) => tx.db.insertInto("runs").values(runRow("r-1")));
        const message = (over: Parameters<typeof messageRow>[0]) =>
          insert(store, (tx) => tx.db.insertInto("messages").values(messageRow(over)));
        await message({});
        await assert.rejects(message({}));
        await assert.rejects(message({ run_id: asRunId("r-2") }));
        await message({ seq: 2 });
      },
    );
  });

  describe(`${name}: identity`, () => {
    caseOf("the fleet id is made once", async (store, rig) => {
      assert.match(store.fleetId, /^fleet-[a-z0-9]+$/);
      assert.equal((await rig.open()).fleetId, store.fleetId);
      await store.close();
      assert.equal((await rig.open()).fleetId, store.fleetId);
    });
  });
}

async function taskCount(store: Store): Promise<number> {
  return (await taskIds(store)).length;
}

async function taskIds(store: Store): Promise<string[]> {
  const rows = await store.db.selectFrom("tasks").select("task_id").orderBy("task_id").execute();
  return rows.map(({ task_id }) => task_id);
}

function insert(
  store: Store,
  query: (tx: Tx) => { execute(): Promise<unknown> },
): Promise<unknown> {
  return store.mutate(async (tx) => query(tx).execute());
}
