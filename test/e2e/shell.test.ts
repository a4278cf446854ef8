import assert from "node:assert/strict";
import { test } from "node:test";
import { controllerLog, installation } from "../support/installation.ts";

test("a task given to an empty pool creates kite-1, runs there, and its work is in the mirror", async (t) => {
  await using installed = installation();
  t.after(() => {
    if (process.env["SHOW_LOG"]) console.log(controllerLog(installed));
  });
  const run = await installed.dispatch(
    "echo changed >> README.md && echo new > fresh.txt && git add -A && git commit -qm work && echo done",
  );
  assert.equal(run.worker, "kite-1");
  const ended = await installed.wait(run.run_id);
  assert.equal(ended.state, "completed", JSON.stringify(ended, null, 1));
  assert.equal(ended.receipt, "accepted");
  assert.equal(ended.report?.commits.length, 1);
  const { diff } = await installed.call<{ diff: string }>("run.diff", { run_id: run.run_id });
  assert.match(diff, /^\+changed$/m);
});

test("a second task reuses the warm worker from a clean base, a failing one fails with its code, and a third still works", async () => {
  await using installed = installation();
  const first = await installed.dispatch("echo one > one.txt; sleep 0.1; exit 0");
  await installed.wait(first.run_id);
  const second = await installed.dispatch("test ! -e one.txt && echo clean; exit 7");
  assert.equal(second.worker, "kite-1");
  assert.match(second.reason ?? "", /kite-1 is the only idle worker/);
  const failed = await installed.wait(second.run_id);
  assert.equal(failed.state, "failed", JSON.stringify(failed, null, 1));
  assert.match(failed.state_reason ?? "", /7/);
  assert.match(failed.report?.summary ?? "", /clean/);
  const third = await installed.wait((await installed.dispatch("true")).run_id);
  assert.equal(third.state, "completed", JSON.stringify(third, null, 1));
  const { diff } = await installed.call<{ diff: string }>("run.diff", { run_id: first.run_id });
  assert.match(diff, /^\+one$/m);
});

test("the steps of a run are shown in the order in which they were done", async () => {
  await using installed = installation();
  const run = await installed.dispatch("true");
  const shown = await installed.wait(run.run_id);
  const names = shown.steps.map(({ step }) => step);
  const order = ["create", "connect", "owner", "keys", "saved", "clone", "branch", "setup"];
  assert.deepEqual(names, [...order, "agent", "session"]);
});
