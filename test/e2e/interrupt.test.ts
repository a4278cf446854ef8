import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { InterruptView } from "../../src/operations/person.ts";
import { installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

test("an interrupted command ends by the signal with all it started, its run says so, and the event says who", async () => {
  await using installed = installation();
  const run = await installed.dispatch(
    "sh -c 'touch began; sleep 600; touch never' & wait; exit $?",
  );
  const began = () => existsSync(join(installed.homeOf("kite-1"), "kite", "began"));
  await until(began, { what: "the command", timeoutMs: 30_000 });
  const stopped = await installed.call<InterruptView>("run.interrupt", {
    target: "kite-1",
    by: "ann@desk",
  });
  assert.deepEqual([stopped.keys, stopped.evidence], [["SIGINT"], "the process has ended"]);
  const ended = await installed.wait(run.run_id);
  assert.equal(ended.state, "failed", JSON.stringify(ended.state_reason));
  assert.match(ended.state_reason ?? "", /exit 130/);
  const events = await installed.events(run.run_id);
  const told = events.find(({ kind }) => kind === "run.interrupted");
  assert.deepEqual(told?.payload, {
    by: "ann@desk",
    keys: ["SIGINT"],
    confirmed: true,
    evidence: "the process has ended",
  });
  await assert.rejects(
    installed.call("run.interrupt", { target: run.run_id }),
    /no agent works on it/,
  );
  await assert.rejects(
    installed.call("run.answer", { run_id: run.run_id }),
    /no agent works on it/,
  );
});

test("a command that asks nothing cannot be answered", async () => {
  await using installed = installation();
  const run = await installed.dispatch("touch began; sleep 600");
  const began = () => existsSync(join(installed.homeOf("kite-1"), "kite", "began"));
  await until(began, { what: "the command", timeoutMs: 30_000 });
  await assert.rejects(
    installed.call("run.answer", { run_id: run.run_id, choice: "allow" }),
    (error: Error & { code?: string }) =>
      error.code === "needs_person" && /asks nothing/.test(error.message),
  );
  await installed.call("run.cancel", { run_id: run.run_id });
  await installed.wait(run.run_id);
});
