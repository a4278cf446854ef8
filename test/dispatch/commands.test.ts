import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { OrchestratorError } from "../../src/domain/errors.ts";
import type { RunDetailView, RunView } from "../../src/operations/views.ts";
import { installation, type Installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

const refusedWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof OrchestratorError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

/** A task that works until the test lets it go. */
function held(installed: Installation, name = "go"): { task: string; go(): void } {
  const path = join(installed.home, name);
  return {
    task: `until [ -e ${path} ]; do sleep 0.05; done`,
    go: () => writeFileSync(path, ""),
  };
}

const show = (installed: Installation, runId: string) =>
  installed.call<RunDetailView>("run.show", { run_id: runId });

test("a run that takes no message says so, and one that has ended takes it as a new run on its worker", async () => {
  await using installed = installation();
  const { task, go } = held(installed);
  const run = await installed.dispatch(task);
  const send = (text: string, more = {}) =>
    installed.call<RunView>("send", { target: run.run_id, text, ...more });
  await assert.rejects(send("true"), refusedWith("not_claimable", /takes nothing more/));
  await assert.rejects(
    send("true", { live: true }),
    refusedWith("not_claimable", /takes no text in its window/),
  );
  go();
  await installed.wait(run.run_id);
  const followUp = await send("true", { request_id: "again" });
  assert.notEqual(followUp.run_id, run.run_id);
  assert.equal(followUp.worker, "kite-1");
  await installed.wait(followUp.run_id);
  const replayed = await send("true", { request_id: "again" });
  assert.equal(replayed.run_id, followUp.run_id, "sent once, though the run has ended since");
  const messages = (await show(installed, run.run_id)).messages;
  assert.deepEqual(
    messages.map(({ receipt }) => receipt),
    ["accepted"],
  );
});

test("a request id gets its first answer whatever has changed since", async () => {
  await using installed = installation();
  const first = await installed.dispatch("true", { request_id: "one" });
  await installed.wait(first.run_id);
  await installed.call("worker.destroy", { worker: "kite-1" });
  installed.configure({}, { repos: {} });
  const again = await installed.call<{ run: RunView; replayed: boolean }>("dispatch", {
    repo: "kite",
    text: "true",
    request_id: "one",
  });
  assert.deepEqual([again.run.run_id, again.replayed], [first.run_id, true]);
  await assert.rejects(
    installed.dispatch("false", { request_id: "one" }),
    refusedWith("request_mismatch", /was used before/),
  );
});

test("a repo taken out of the configuration ends its live runs, keeps its queue, and holds up no other repo", async () => {
  await using installed = installation({ repo: { maxWorkers: 1, push: "branch" } });
  const { task, go } = held(installed);
  const live = await installed.dispatch(task);
  await installed.wait(live.run_id, "delivered", 60_000);
  const queued = await installed.dispatch("true");
  assert.equal(queued.state, "queued");
  const sonar = { url: installed.remote, runtime: "shell" };
  installed.configure({}, { repos: { sonar } });
  const other = await installed.call<{ run: RunView }>("dispatch", { repo: "sonar", text: "true" });
  go();
  assert.equal((await installed.wait(live.run_id, "ended", 60_000)).state, "completed");
  assert.equal((await installed.wait(other.run.run_id, "ended", 60_000)).state, "completed");
  const why = await until(
    async () => {
      const { reason } = await show(installed, queued.run_id);
      return /no repo kite/.test(reason ?? "") ? reason : undefined;
    },
    { what: "the reason why it waits" },
  );
  assert.match(why, /no repo kite in the configuration/);
  installed.configure({}, { repos: { sonar, kite: { ...sonar, maxWorkers: 1 } } });
  await installed.call("dispatch", { repo: "sonar", text: "true" });
  assert.equal((await installed.wait(queued.run_id, "ended", 60_000)).state, "completed");
});

test("a run is cancelled in the middle of a long set-up, and the pool serves the next task", async () => {
  await using installed = installation({
    repo: { maxWorkers: 1 },
    files: {
      "scripts/dev-setup.sh": `#!/bin/sh
cd; [ -e begun ] || { touch begun; exec sleep 600; }
`,
    },
  });
  const run = await installed.dispatch("true");
  await until(() => existsSync(join(installed.homeOf("kite-1"), "begun")), {
    what: "the set-up",
    timeoutMs: 20_000,
  });
  await installed.call("run.cancel", { run_id: run.run_id });
  const ended = await installed.wait(run.run_id, "ended", 60_000);
  assert.equal(ended.state, "cancelled");
  const next = await installed.dispatch("true");
  assert.equal((await installed.wait(next.run_id, "ended", 60_000)).state, "completed");
  assert.equal((await show(installed, next.run_id)).worker, "kite-1");
});
