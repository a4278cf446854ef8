import assert from "node:assert/strict";
import { test } from "node:test";
import { controllerLog, installation } from "../support/installation.ts";

test("a task given to an empty pool creates kite-1, runs there, and its work is in the mirror", async (t) => {
  await using installed = installation();
  t.after(() => {
    if (!t.passed) console.log(controllerLog(installed));
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
