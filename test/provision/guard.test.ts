import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { killPid } from "../support/local-transport.ts";
import { until } from "../support/wait.ts";
import { finished, linesOf, SESSION, TestWorker, RUN } from "../support/worker.ts";

/** An agent whose registry file changes when the test says so. */
function steps(worker: TestWorker, ...contents: readonly string[]): string[] {
  return contents.flatMap((content, index) => [
    `registry ${content}`,
    `wait ${join(worker.root, `step-${index}`)}`,
  ]);
}

const pulses = (worker: TestWorker) =>
  worker
    .events(RUN)
    .filter(({ event }) => event === "pulse")
    .map(({ payload }) => payload);

async function pulseWith(
  worker: TestWorker,
  wanted: Readonly<Record<string, unknown>>,
): Promise<Readonly<Record<string, unknown>>> {
  const fits = (payload: Readonly<Record<string, unknown>> | undefined) =>
    payload !== undefined && Object.entries(wanted).every(([key, value]) => payload[key] === value);
  return until(() => (fits(pulses(worker).at(-1)) ? pulses(worker).at(-1) : undefined), {
    what: `the pulse ${JSON.stringify(wanted)} after ${JSON.stringify(pulses(worker))}`,
  });
}

test("the guard tells each change of the registry, once more when it has settled, and corrects the window name", async () => {
  using worker = new TestWorker();
  worker.openSession({ guard: true });
  const next = (index: number) => worker.shell(`: >"$1"`, [join(worker.root, `step-${index}`)]);
  const script = steps(
    worker,
    '{"pid":1,"status":"busy","name":"a \\\\"status\\\\":\\\\"idle\\\\""}',
    '{"status": "waiting", "waitingFor": "permission prompt"}',
    '{"status":"busy"}',
    '{"status":"idle","waitingFor":"a\\\\u0022b"}',
    "-",
    '{"status":"new word"}',
  );
  const started = await worker.startAgent(RUN, 1, script);
  const pid = Number(started.stdout.trim().split("\t")[1]);
  const first = await pulseWith(worker, { registry: "busy", settled: true });
  assert.deepEqual(
    { ...first, window_id: "@1" },
    {
      pid,
      alive: true,
      registry: "busy",
      waiting_for: null,
      settled: true,
      window_id: "@1",
      window: "agent:running",
      attached: 0,
    },
  );
  await next(0);
  await pulseWith(worker, {
    registry: "waiting",
    waiting_for: "permission prompt",
    window: "agent:error",
  });
  assert.equal(worker.windowName(), "agent:error");
  await next(1);
  await pulseWith(worker, { registry: "busy", window: "agent:running", settled: false });
  await next(2);
  await pulseWith(worker, { registry: "idle", waiting_for: null, settled: false });
  await next(3);
  await pulseWith(worker, { registry: "absent", alive: true });
  killPid(pid);
  await pulseWith(worker, { alive: false, registry: "absent", window: "agent:error" });
  const after = pulses(worker);
  const settled = after.filter((payload) => payload["settled"] === true).length;
  assert.ok(after.length <= 12 && settled <= 6, `${after.length} pulses, ${settled} settled`);
});

test("a registry that still says busy after the end of a turn does not undo it; one that says so anew does", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const go = [0, 1].map((index) => join(worker.root, `go-${index}`));
  await worker.startAgent(RUN, 1, [
    'registry {"status":"busy"}',
    "hook Stop {}",
    `wait ${go[0]}`,
    'registry {"status":"idle"}',
    `wait ${go[1]}`,
    'registry {"status":"busy"}',
    "wait /nowhere",
  ]);
  await until(() => worker.windowName() === "agent:completed", { what: "the turn's end" });
  worker.openGuard();
  const late = await pulseWith(worker, { registry: "busy", settled: true });
  assert.equal(late["window"], "agent:completed");
  assert.equal(worker.windowName(), "agent:completed");
  await worker.shell(`: >"$1"`, [go[0] ?? ""]);
  await pulseWith(worker, { registry: "idle", settled: true, window: "agent:completed" });
  // A name of the time before the clock went back says nothing about what is written now.
  worker.tmux("set-option", "-w", "-t", `=${SESSION}:1`, "@since", String(Date.now() + 3_600_000));
  await worker.shell(`: >"$1"`, [go[1] ?? ""]);
  await pulseWith(worker, { registry: "busy", settled: true, window: "agent:running" });
});

test("an answered dialog is running again, unless its turn has ended before anybody looked", async () => {
  using worker = new TestWorker();
  worker.openSession({ guard: true });
  const go = [0, 1, 2].map((index) => join(worker.root, `go-${index}`));
  await worker.startAgent(RUN, 1, [
    'registry {"status":"waiting"}',
    `wait ${go[0]}`,
    'registry {"status":"busy"}',
    `wait ${go[1]}`,
    'registry {"status":"waiting"}',
    `wait ${go[2]}`,
    'registry {"status":"busy"}',
    "hook Stop {}",
    "wait /nowhere",
  ]);
  const next = (index: number) => worker.shell(`: >"$1"`, [go[index] ?? ""]);
  await pulseWith(worker, { registry: "waiting", window: "agent:error" });
  await next(0);
  await pulseWith(worker, { registry: "busy", window: "agent:running" });
  await next(1);
  await pulseWith(worker, { registry: "waiting", window: "agent:error" });
  await next(2);
  await pulseWith(worker, { registry: "busy", settled: true });
  assert.equal(worker.windowName(), "agent:completed");
});

test("the guard notices a dead agent within about a second", async () => {
  using worker = new TestWorker();
  worker.openSession({ guard: true });
  const started = await worker.startAgent(RUN, 1, ["hook Stop {}", "wait /nowhere"]);
  await until(() => pulses(worker).length > 0 && worker.windowName() === "agent:completed", {
    what: "the turn's end",
  });
  killPid(Number(started.stdout.trim().split("\t")[1]));
  const before = performance.now();
  await pulseWith(worker, { alive: false });
  // Seen by looking, not by the pulse that comes every 15 s anyway; a turn lasts one second on a quiet machine.
  assert.ok(performance.now() - before < 12_000);
  assert.equal(
    worker.windowName(),
    "agent:completed",
    "an end after the end of the turn is no error",
  );
});

test("there is one guard a session, whoever starts more, and it goes with the session", async () => {
  using worker = new TestWorker();
  worker.openSession({ guard: true });
  await worker.startAgent(RUN, 1, ["wait /nowhere"]);
  await until(() => pulses(worker).length > 0, { what: "the first pulse" });
  const others = await Promise.all(Array.from({ length: 5 }, () => worker.run("guard", [SESSION])));
  assert.deepEqual(
    others.map(({ code }) => code),
    [0, 0, 0, 0, 0],
  );
  const guard = Number(worker.tmux("display-message", "-p", "-t", `=${SESSION}:2`, "#{pane_pid}"));
  worker.tmux("kill-server");
  await until(() => !worker.processes().includes(guard), { what: "the end of the guard" });
});

test("a guard outside tmux ends when its session is gone", async () => {
  using worker = new TestWorker();
  worker.openSession();
  await worker.startAgent(RUN, 1, ["wait /nowhere"]);
  const guard = worker.spawn("guard", [SESSION]);
  const ended = finished(guard);
  await until(() => pulses(worker).length > 0, { what: "a pulse" });
  worker.tmux("kill-server");
  assert.equal((await ended).code, 0);
});

test("the guard becomes that of a newer bundle, in the same process", async () => {
  using worker = new TestWorker();
  worker.openSession({ guard: true });
  await worker.startAgent(RUN, 1, ["wait /nowhere"]);
  await until(() => pulses(worker).length > 0, { what: "a pulse" });
  const pid = worker.tmux("display-message", "-p", "-t", `=${SESSION}:2`, "#{pane_pid}").trim();
  worker.install("newer", { guard: '#!/bin/sh\necho "$$ $*" >"$HOME/newer"\nexec sleep 1000\n' });
  const newer = await until(() => linesOf(join(worker.home, "newer"))[0], {
    what: "the newer guard",
  });
  assert.equal(newer, `${pid} ${SESSION}`);
});

test("the guard takes snapshots while the agent works, one more after its end, and none of another run's", async () => {
  using worker = new TestWorker();
  worker.openSession({ guard: true });
  await worker.shell(
    `cd kite && git init -q && git config user.name A && git config user.email a@b && echo a >a && git add a && git commit -qm A
     mkdir -p ../.orchestrator/runs/"$1" && echo "1 kite 1 0 none" >../.orchestrator/runs/"$1"/watch`,
    [RUN],
  );
  const started = await worker.startAgent(RUN, 1, ["wait /nowhere"]);
  const snapshots = () => worker.events(RUN).filter(({ event }) => event === "snapshot");
  await until(() => snapshots().length === 1, { what: "the first snapshot", timeoutMs: 30_000 });
  await worker.shell("echo work >kite/work");
  await until(() => snapshots().length === 2, { what: "the second snapshot", timeoutMs: 30_000 });
  await worker.shell("echo more >kite/work");
  killPid(Number(started.stdout.trim().split("\t")[1]));
  await until(() => snapshots().length === 3, { what: "the last snapshot", timeoutMs: 30_000 });
  await worker.shell("echo late >kite/work");
  const before = pulses(worker).length;
  // One tells that the end has settled, the next comes by time alone: a snapshot would have come before it.
  await until(() => pulses(worker).length >= before + 2, { what: "a pulse", timeoutMs: 60_000 });
  assert.equal(snapshots().length, 3, "the agent is over");
  const shown = await worker.shell(
    'git --git-dir .orchestrator/objects/kite.git show "refs/orchestrator/$1/1/$2/work:work"',
    [RUN, String(snapshots()[2]?.payload["number"])],
  );
  assert.equal(shown.stdout, "more\n");
});
