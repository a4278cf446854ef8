import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { FleetContext } from "../../src/fleet/context.ts";
import { Mirror } from "../../src/fleet/mirror.ts";
import { forgetOutdated } from "../../src/fleet/retention.ts";
import { groupSnapshots, outdatedSnapshots, type Snapshot } from "../../src/fleet/snapshots.ts";
import type { EventView } from "../../src/operations/views.ts";
import { installation } from "../support/installation.ts";

const DAY = 86_400_000;
const NOW = 1_763_640_000_000;
const SHA = "0".repeat(39);

const snapshot = (run: string, number: number): Snapshot => ({ run, epoch: 1, number, refs: [] });
const ages = (run: string, ...days: number[]) => days.map((age) => snapshot(run, NOW - age * DAY));

const cases: readonly (readonly [
  string,
  readonly Snapshot[],
  { keepDays: number; keepCount: number; only?: boolean },
  readonly number[],
])[] = [
  ["young ones stay", ages("a", 3, 2, 1), { keepDays: 5, keepCount: 9 }, []],
  ["old ones go", ages("a", 9, 6, 1), { keepDays: 5, keepCount: 9 }, [9, 6]],
  ["too many go, oldest first", ages("a", 3, 2, 1), { keepDays: 5, keepCount: 1 }, [3, 2]],
  ["all of a run that has ended may go", ages("a", 9, 8), { keepDays: 5, keepCount: 9 }, [9, 8]],
  ["never the only copy", ages("a", 9, 8), { keepDays: 5, keepCount: 9, only: true }, [9]],
  ["not even with no time at all", ages("a", 9, 8), { keepDays: 0, keepCount: 1, only: true }, [9]],
  ["each run by itself", [...ages("a", 9), ...ages("b", 1)], { keepDays: 5, keepCount: 1 }, [9]],
  ["in any order", ages("a", 1, 9, 3), { keepDays: 5, keepCount: 1, only: true }, [9, 3]],
];

for (const [name, snapshots, { keepDays, keepCount, only = false }, gone] of cases) {
  test(`retention: ${name}`, () => {
    const rules = { now: NOW, keepDays, keepCount, isOnlyCopy: () => only };
    const days = outdatedSnapshots(snapshots, rules).map(({ number }) => (NOW - number) / DAY);
    assert.deepEqual(days, gone);
  });
}

test("refs are grouped by run, epoch and number, and what is none of ours is left alone", () => {
  const lines = [
    `${SHA}1 refs/orchestrator/run-a/1/20/head`,
    `${SHA}2 refs/orchestrator/run-a/1/20/heads/a/b`,
    `${SHA}3 refs/orchestrator/run-a/2/10/work`,
    `${SHA}4 refs/heads/main`,
    `${SHA}5 refs/orchestrator/run-a/x/10/work`,
    "",
  ];
  assert.deepEqual(groupSnapshots(lines), [
    { run: "run-a", epoch: 2, number: 10, refs: [{ name: "work", sha: `${SHA}3` }] },
    {
      run: "run-a",
      epoch: 1,
      number: 20,
      refs: [
        { name: "head", sha: `${SHA}1` },
        { name: "heads/a/b", sha: `${SHA}2` },
      ],
    },
  ]);
});

test("what is forgotten is gone from the mirror, all of it and nothing else", async () => {
  const folder = mkdtempSync(join(tmpdir(), "mirror-"));
  try {
    const mirror = new Mirror(folder, "kite");
    await mirror.ensure();
    const git = (...args: string[]) =>
      execFileSync("git", ["--git-dir", mirror.path, ...args], {
        encoding: "utf8",
        env: {
          ...process.env,
          GIT_AUTHOR_NAME: "A",
          GIT_AUTHOR_EMAIL: "a@b",
          GIT_COMMITTER_NAME: "A",
          GIT_COMMITTER_EMAIL: "a@b",
        },
      }).trim();
    const tree = git("hash-object", "-t", "tree", "-w", "/dev/null");
    const commit = git("commit-tree", "-m", "x", tree);
    for (const number of [1, 2])
      for (const name of ["work", "heads/main"])
        git("update-ref", `refs/orchestrator/run-a/1/${number}/${name}`, commit);
    const [first] = await mirror.snapshots("run-a");
    assert.ok(first);
    await mirror.forget([first]);
    assert.deepEqual(
      (await mirror.snapshots()).map(({ number, refs }) => [number, refs.length]),
      [[2, 2]],
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a mirror keeps the last snapshot of what may be nowhere else: a live run, an unsaved end, a clone that stands", async () => {
  const rules = { everyMinutes: 0, keepDays: 0, keepCount: 1 };
  await using installed = installation({ repo: { snapshots: rules, maxWorkers: 1 } });
  const first = await installed.dispatch("echo one > one.txt");
  await installed.wait(first.run_id);
  const second = await installed.dispatch("echo two > two.txt");
  await installed.wait(second.run_id);
  const { services } = await installed.controller();
  const mirror = new Mirror(installed.paths.mirrors, "kite");
  const context = (days = 0) =>
    ({
      store: services.store,
      clock: { ...services.clock, now: () => services.clock.now() + 1 + days * DAY },
      config: () => services.config,
      mirrors: installed.paths.mirrors,
    }) as FleetContext;
  const runs = async () => [...new Set((await mirror.snapshots()).map(({ run }) => run))].sort();
  const events = async () =>
    (await installed.call<EventView[]>("events.read", { kinds: ["mirror.pruned"] })).length;

  assert.deepEqual(await runs(), [first.run_id, second.run_id].sort());
  assert.equal(await forgetOutdated(context(), "kite"), 1);
  assert.deepEqual(await runs(), [second.run_id], "its clone stands on the worker");
  assert.equal(await events(), 1);
  assert.equal(await forgetOutdated(context(), "kite"), 0);
  assert.equal(await events(), 1, "nothing happened, nothing is said");
  await services.store.mutate((tx) => tx.db.updateTable("runs").set({ unrescued: 1 }).execute());
  await installed.call("worker.destroy", { worker: "kite-1" });
  assert.equal(await forgetOutdated(context(), "kite"), 0, "its end was not saved");
  await services.store.mutate((tx) => tx.db.updateTable("runs").set({ unrescued: 0 }).execute());
  assert.equal(await forgetOutdated(context(), "kite"), 1);
  assert.deepEqual(await runs(), []);
});
