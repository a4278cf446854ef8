import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { installation, type Installation } from "../support/installation.ts";
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
