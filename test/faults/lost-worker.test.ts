import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { OrchestratorError } from "../../src/domain/errors.ts";
import type { RunView, WorkerView } from "../../src/operations/views.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import type { Provider } from "../../src/providers/provider.ts";
import { localProvider } from "../../src/providers/local/local.ts";
import { misbehaving, type Misbehaving } from "../fakes/fake-provider.ts";
import { installation, type Installation } from "../support/installation.ts";
import { powerCut } from "../support/sshds.ts";
import { until } from "../support/wait.ts";

/** An installation whose local provider can be told to fail. */
function faulty(repo: Readonly<Record<string, unknown>> = {}): Installation & Misbehaving {
  const overrides: { providers?: ReadonlyMap<string, Provider> } = {};
  const installed = installation({ repo, overrides });
  const inner = localProvider({
    root: installed.paths.local,
    clock: systemClock(),
    ids: randomIds(),
    path: process.env["PATH"] ?? "",
  });
  const provider = misbehaving(inner);
  overrides.providers = new Map([["local", provider.provider]]);
  return Object.assign(installed, provider);
}

const workersOf = (installed: Installation) =>
  installed.call<WorkerView[]>("worker.list", { all: true });
const waiting = (installed: Installation) =>
  `until [ -e ${join(installed.home, "go")} ]; do sleep 0.05; done`;
const go = (installed: Installation) => writeFileSync(join(installed.home, "go"), "");

test("a create whose answer was lost is adopted, not repeated", async () => {
  await using installed = faulty();
  installed.script("create", { kind: "answer_lost" });
  const run = await installed.dispatch("true");
  assert.equal((await installed.wait(run.run_id)).state, "completed");
  assert.deepEqual(
    installed.calls.filter((call) => call.startsWith("create")),
    ["create kite-1"],
  );
  assert.equal((await workersOf(installed)).length, 1);
});

test("too many requests and no capacity: the task waits with the reason, and is done when there is room", async () => {
  await using installed = faulty();
  installed.script(
    "create",
    { kind: "too_many_requests", retryAfterMs: 20 },
    { kind: "no_capacity" },
  );
  const run = await installed.dispatch("true");
  assert.equal((await installed.wait(run.run_id)).state, "completed");
  const requeued = (await installed.events(run.run_id)).filter(
    ({ kind }) => kind === "run.requeued",
  );
  assert.match(String(requeued[0]?.payload["reason"]), /kite-1 was not created: .*no room/);
});

test("a name that belongs to another fleet is left alone, and the next number is used", async () => {
  await using installed = faulty();
  const { provider } = misbehaving(
    localProvider({ root: installed.paths.local, clock: systemClock(), ids: randomIds() }),
  );
  const foreign = await provider.create({
    name: "kite-1",
    fleetId: "somebody-else",
    nonce: "theirs",
    authorizedKey:
      "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGy3nN3Hl4cTfVw0pXl8VQm3rJm4v0X3kE6hS1b2c3d4",
  });
  const run = await installed.dispatch("true");
  assert.equal((await installed.wait(run.run_id)).worker, "kite-2");
  assert.equal((await provider.get(foreign.id))?.fleetId, "somebody-else");
  await assert.rejects(
    installed.dispatch("true", { worker: "kite-1" }),
    (error) => error instanceof OrchestratorError && error.code === "not_found",
  );
});

test("a run cancelled while nobody knows whether its worker was made leaves no half-made worker", async () => {
  await using installed = faulty();
  installed.script(
    "create",
    ...Array.from({ length: 3 }, () => ({ kind: "request_lost" as const })),
  );
  const run = await installed.dispatch("true");
  await until(() => installed.calls.some((call) => call.startsWith("create")), {
    what: "a create",
  });
  await installed.call("run.cancel", { run_id: run.run_id });
  assert.equal((await installed.wait(run.run_id)).state, "cancelled");
  await until(
    async () => (await workersOf(installed)).every(({ allocation }) => allocation === "free"),
    {
      what: "a worker that is ready or none",
      timeoutMs: 60_000,
    },
  );
});

test("the worker's folder is deleted in the middle of a run: the run ends unrescued, is retried, and the worker is gone", async () => {
  await using installed = installation();
  const run = await installed.dispatch(waiting(installed));
  await installed.wait(run.run_id, "delivered");
  await installed.stopController();
  powerCut(installed, "kite-1");
  rmSync(join(installed.paths.local, "kite-1"), { recursive: true, force: true });
  const ended = await installed.wait(run.run_id);
  assert.equal(ended.state, "failed", JSON.stringify(ended));
  assert.equal(ended.unrescued, true);
  assert.match(ended.state_reason ?? "", /gone/);
  go(installed);
  const again = await installed.call<RunView>("run.retry", { run_id: run.run_id });
  assert.equal((await installed.wait(again.run_id)).state, "completed");
  const gone = (await workersOf(installed)).find(({ run_id }) => run_id === run.run_id);
  assert.equal(gone?.allocation, "destroyed");
});

test("an idle worker that is gone is found out, and the next task gets a new one; a follow-up says why it cannot be", async () => {
  await using installed = installation();
  const first = await installed.dispatch("true");
  await installed.wait(first.run_id);
  await installed.stopController();
  powerCut(installed, "kite-1");
  rmSync(join(installed.paths.local, "kite-1"), { recursive: true, force: true });
  await until(
    async () => (await workersOf(installed)).every(({ allocation }) => allocation === "destroyed"),
    {
      what: "the worker to be known as gone",
    },
  );
  await assert.rejects(
    installed.call("send", { target: first.run_id, text: "true" }),
    (error) => error instanceof OrchestratorError && error.code === "not_claimable",
  );
  const next = await installed.dispatch("true");
  assert.equal((await installed.wait(next.run_id)).state, "completed");
});

test("a follow-up that waits comes before others on its worker, and fails when the worker is destroyed", async () => {
  await using installed = installation({ repo: { maxWorkers: 1 } });
  const first = await installed.dispatch("echo work > left.txt");
  await installed.wait(first.run_id);
  const { store } = (await installed.controller()).services;
  const busyFor = (ms: number) =>
    store.mutate((tx) =>
      tx.db
        .updateTable("workers")
        .set({ busy_until: tx.now + ms })
        .execute(),
    );
  await busyFor(600_000);
  const other = await installed.dispatch("test ! -e left.txt");
  const send = () =>
    installed.call<RunView>("send", { target: first.run_id, text: "test -e left.txt" });
  const followUp = await send();
  assert.deepEqual([other.state, followUp.state], ["queued", "queued"]);
  await busyFor(0);
  assert.equal((await installed.wait(followUp.run_id)).state, "completed");
  assert.equal((await installed.wait(other.run_id)).state, "completed");
  await assert.rejects(send(), /no longer holds the conversation/);

  await busyFor(600_000);
  const late = await installed.call<RunView>("send", { target: other.run_id, text: "true" });
  await installed.call("worker.destroy", { worker: "kite-1" });
  const failed = await installed.wait(late.run_id);
  assert.equal(failed.state, "failed");
  assert.match(failed.state_reason ?? "", /was on kite-1, which is gone/);
});
