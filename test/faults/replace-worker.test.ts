import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { asRunId } from "../../src/domain/ids.ts";
import type { RunDetailView, RunView, WorkerView } from "../../src/operations/views.ts";
import { installation, type Installation } from "../support/installation.ts";
import { signalIfThere, sshdsOf } from "../support/sshds.ts";
import { until } from "../support/wait.ts";

const show = (installed: Installation, runId: string) =>
  installed.call<RunDetailView>("run.show", { run_id: runId });

test("a lost worker is replaced where that is wanted; when it comes back its agent is stopped and its work is saved", async () => {
  await using installed = installation({ repo: { onLost: "replace", lostMinutes: 0.01 } });
  const mark = join(installed.home, "first");
  const pid = join(installed.home, "pid");
  // Who comes first works for ever; the second finds the mark and ends.
  const task = `echo "of $PWD" > work.txt; if mkdir ${mark}; then echo $$ > ${pid}; exec sleep 1000; fi`;
  const run = await installed.dispatch(task);
  await installed.wait(run.run_id, "delivered");
  const before = await installed.call<WorkerView>("worker.show", { worker: "kite-1" });
  const stopped = sshdsOf(installed, "kite-1");
  for (const one of stopped) process.kill(one, "SIGSTOP");
  let replacement: RunView | undefined;
  try {
    await until(async () => (await show(installed, run.run_id)).state === "abandoned", {
      what: "the lost run to be given up",
      timeoutMs: 150_000,
    });
    const by = await until(
      async () => (await installed.events(run.run_id)).find(({ kind }) => kind === "run.replaced"),
      { what: "the replacement" },
    );
    replacement = await installed.wait(String(by.payload["by"]));
    assert.deepEqual([replacement.state, replacement.worker], ["completed", "kite-2"]);
    const old = await show(installed, run.run_id);
    assert.notEqual(replacement.branch, old.branch);
    assert.equal(old.unrescued, true);
    const held = await installed.call<WorkerView>("worker.show", { worker: "kite-1" });
    assert.equal(held.allocation, "claimed", "nobody else gets it");
    assert.ok(held.epoch > before.epoch);
  } finally {
    for (const one of stopped) signalIfThere(one, "SIGCONT");
  }
  const back = await until(
    async () => {
      const worker = await installed.call<WorkerView>("worker.show", { worker: "kite-1" });
      return worker.allocation === "free" ? worker : undefined;
    },
    { what: "the worker to be taken back", timeoutMs: 90_000 },
  );
  assert.equal(back.idle, true);
  assert.throws(() => process.kill(Number(readFileSync(pid, "utf8")), 0), /ESRCH/);
  assert.equal((await show(installed, run.run_id)).unrescued, false);
  const folder = join(installed.home, "back");
  await installed.call("run.recover", { run_id: run.run_id, folder });
  assert.match(readFileSync(join(folder, "work.txt"), "utf8"), /kite-1/);
  const kinds = (await installed.events(run.run_id)).map(({ kind }) => kind);
  for (const kind of ["run.blocked", "run.abandoned", "run.replaced", "run.rescued"])
    assert.equal(kinds.filter((one) => one === kind).length, 1, kind);
});

test("a replacement that was decided, and not yet requested when the controller died, is requested by the next one, once", async () => {
  await using installed = installation({ repo: { onLost: "replace" } });
  const run = await installed.dispatch("true");
  await installed.wait(run.run_id);
  const { store } = (await installed.controller()).services;
  const run_id = asRunId(run.run_id);
  await store.mutate(async (tx) => {
    await tx.db.updateTable("runs").set({ state: "abandoned" }).execute();
    tx.event({ kind: "run.abandoned", run_id, payload: { because: "lost" } });
  });
  await installed.stopController();
  const replaced = () =>
    installed.events(run.run_id).then((all) => all.filter(({ kind }) => kind === "run.replaced"));
  const [event] = await until(
    async () => {
      const found = await replaced();
      return found.length > 0 ? found : undefined;
    },
    { what: "the replacement" },
  );
  assert.equal((await installed.wait(String(event?.payload["by"]))).state, "completed");
  await installed.stopController();
  const again = await installed.dispatch("true");
  await installed.wait(again.run_id);
  assert.equal((await replaced()).length, 1);
});
