import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { OrchestratorError } from "../../src/domain/errors.ts";
import type { RunId } from "../../src/domain/ids.ts";
import type { RecoveredView, SnapshotView } from "../../src/operations/views.ts";
import { installation, type Installation } from "../support/installation.ts";
import { powerCut } from "../support/sshds.ts";
import { until } from "../support/wait.ts";

/** A second: as often as the guard looks. */
const OFTEN = { everyMinutes: 1 / 60 };

const kindsOf = async (installed: Installation, runId: string, prefix: string) =>
  (await installed.events(runId)).filter(({ kind }) => kind.startsWith(prefix));

const mirrorGit = (installed: Installation, ...args: string[]) =>
  execFileSync("git", ["--git-dir", join(installed.paths.mirrors, "kite.git"), ...args], {
    encoding: "utf8",
  });

/** A task that works in steps: writes each file when the test says so. */
function stepwise(installed: Installation): { task: string; step(name: string): void } {
  const wait = (name: string) => `until [ -e ${join(installed.home, name)} ]; do sleep 0.05; done`;
  return {
    task: `echo one > work.txt; ${wait("two")}; echo two > work.txt; ${wait("end")}`,
    step: (name) => writeFileSync(join(installed.home, name), ""),
  };
}

test("the work of a live run reaches the mirror while the agent works, and outlives the worker", async () => {
  await using installed = installation({ repo: { snapshots: OFTEN } });
  const { task, step } = stepwise(installed);
  const run = await installed.dispatch(task);
  await installed.wait(run.run_id, "delivered");
  const kept = (count: number) =>
    until(
      async () => {
        const events = await kindsOf(installed, run.run_id, "run.snapshot_kept");
        return events.length >= count ? events : undefined;
      },
      { what: `${count} snapshots in the mirror`, timeoutMs: 60_000 },
    );
  const [first] = await kept(1);
  step("two");
  const second = (await kept(2)).at(-1);
  for (const [event, text] of [
    [first, "one\n"],
    [second, "two\n"],
  ] as const) {
    assert.equal(
      mirrorGit(installed, "show", `${String(event?.payload["commit"])}:work.txt`),
      text,
    );
  }
  const taken = await kindsOf(installed, run.run_id, "run.snapshot_taken");
  assert.deepEqual(
    taken.map(({ payload }) => payload["number"]),
    (await kept(2)).map(({ payload }) => payload["number"]),
  );
  await installed.stopController();
  powerCut(installed, "kite-1");
  rmSync(join(installed.paths.local, "kite-1"), { recursive: true, force: true });
  const ended = await installed.wait(run.run_id);
  assert.deepEqual([ended.state, ended.unrescued], ["failed", true]);
  assert.equal(
    mirrorGit(installed, "show", `${String(second?.payload["commit"])}:work.txt`),
    "two\n",
  );
});

test("a snapshot that was taken while no controller ran is fetched by the next one", async () => {
  await using installed = installation({ repo: { snapshots: OFTEN } });
  const { task, step } = stepwise(installed);
  const run = await installed.dispatch(task);
  await installed.wait(run.run_id, "delivered");
  await installed.stopController();
  const store = join(installed.homeOf("kite-1"), ".orchestrator/objects/kite.git");
  const refs = () =>
    execFileSync("sh", ["-c", 'git --git-dir "$1" for-each-ref 2>/dev/null || :', "sh", store], {
      encoding: "utf8",
    });
  await until(() => refs().includes("/work"), { what: "a snapshot", timeoutMs: 60_000 });
  const event = await until(
    async () => (await kindsOf(installed, run.run_id, "run.snapshot_kept")).at(-1),
    { what: "the snapshot in the mirror", timeoutMs: 60_000 },
  );
  assert.equal(
    mirrorGit(installed, "show", `${String(event.payload["commit"])}:work.txt`),
    "one\n",
  );
  step("two");
  step("end");
  const ended = await installed.wait(run.run_id);
  assert.equal(ended.state, "completed");
  const prefix = `refs/orchestrator/${run.run_id}/`;
  const numbers = mirrorGit(installed, "for-each-ref", "--format=%(refname)", prefix)
    .trim()
    .split("\n")
    .map((ref) => Number(ref.split("/")[4]));
  const last = Math.max(...numbers);
  assert.equal(
    mirrorGit(installed, "rev-parse", `${prefix}1/${last}/work`).trim(),
    ended.report?.snapshot,
    "the end of the run is its latest snapshot",
  );
});

test("a snapshot that cannot be fetched is said, and holds up nothing", async () => {
  await using installed = installation({ repo: { snapshots: OFTEN } });
  const { task, step } = stepwise(installed);
  const run = await installed.dispatch(task);
  await installed.wait(run.run_id, "delivered");
  const mirror = join(installed.paths.mirrors, "kite.git");
  rmSync(mirror, { recursive: true, force: true });
  writeFileSync(mirror, "in the way");
  const event = await until(
    async () => (await kindsOf(installed, run.run_id, "run.snapshot_not_kept")).at(-1),
    { what: "the failure", timeoutMs: 180_000 },
  );
  assert.match(String(event.payload["reason"]), /ENOTDIR|not a directory/i);
  rmSync(mirror);
  step("two");
  await until(async () => (await kindsOf(installed, run.run_id, "run.snapshot_kept")).length > 0, {
    what: "the next snapshot in the mirror",
    timeoutMs: 60_000,
  });
  step("end");
  assert.equal((await installed.wait(run.run_id)).state, "completed");
});

test("a snapshot comes back into a folder and as a branch, also when worker and row are gone; nothing is written over", async () => {
  await using installed = installation({ repo: { snapshots: OFTEN } });
  const { task, step } = stepwise(installed);
  const run = await installed.dispatch(task);
  await installed.wait(run.run_id, "delivered");
  const kept = (count: number) =>
    until(async () => (await kindsOf(installed, run.run_id, "run.snapshot_kept")).length >= count, {
      what: `${count} snapshots in the mirror`,
      timeoutMs: 60_000,
    });
  await kept(1);
  step("two");
  await kept(2);
  step("end");
  await installed.wait(run.run_id);
  await installed.call("worker.destroy", { worker: "kite-1" });
  const { run_id } = run;
  const list = await installed.call<SnapshotView[]>("run.snapshots", { run_id });
  assert.ok(list.length >= 3, JSON.stringify(list));
  const read = (folder: string) => readFileSync(join(folder, "work.txt"), "utf8");
  const [latest, first] = [join(installed.home, "latest"), join(installed.home, "first")];
  await installed.call("run.recover", { run_id, folder: latest });
  await installed.call("run.recover", { run_id, folder: first, snapshot: list[0]?.snapshot });
  assert.deepEqual([read(latest), read(first)], ["two\n", "one\n"]);
  const again = installed.call("run.recover", { run_id, folder: latest });
  await assert.rejects(again, refusedWith("invalid_input", /is there and not empty/));

  const made = await installed.call<RecoveredView>("run.recover", {
    run_id,
    branch: "rescued",
    push: true,
  });
  const pushed = execFileSync("git", ["--git-dir", installed.remote, "show", "rescued:work.txt"]);
  assert.equal(pushed.toString(), "two\n");
  assert.match(made.fetch ?? "", /^git fetch .*kite\.git rescued:rescued$/);
  await assert.rejects(
    installed.call("run.recover", { run_id, branch: "rescued" }),
    refusedWith("branch_changed", /has a branch rescued already/),
  );
  await assert.rejects(
    installed.call("run.recover", { run_id, branch: "main", push: true }),
    refusedWith("unreachable", /was not pushed/),
  );
  await assert.rejects(
    installed.call("run.recover", { run_id, snapshot: 7, branch: "seventh" }),
    refusedWith("not_found", /no snapshot 7/),
  );
  await assert.rejects(
    installed.call("run.recover", { run_id }),
    refusedWith("invalid_input", /a folder or a branch is needed/),
  );
  // As after an older store was restored.
  const { store } = (await installed.controller()).services;
  await store.mutate(async (tx) => {
    for (const table of ["messages", "steps", "runs"] as const)
      await tx.db
        .deleteFrom(table)
        .where("run_id", "=", run_id as RunId)
        .execute();
  });
  const orphan = join(installed.home, "orphan");
  await installed.call("run.recover", { run_id, folder: orphan });
  assert.equal(read(orphan), "two\n");
});

function refusedWith(code: string, message: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof OrchestratorError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  };
}
