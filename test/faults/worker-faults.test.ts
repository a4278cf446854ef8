import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { OrchestratorError } from "../../src/domain/errors.ts";
import type { RunDetailView, RunView, WorkerView } from "../../src/operations/views.ts";
import { installation, type Installation } from "../support/installation.ts";
import { signalIfThere, sshdsOf } from "../support/sshds.ts";
import { until } from "../support/wait.ts";

const workersOf = (installed: Installation) => installed.call<WorkerView[]>("worker.list");
const show = (installed: Installation, runId: string) =>
  installed.call<RunDetailView>("run.show", { run_id: runId });
const exec = (installed: Installation, ...argv: string[]) =>
  installed.call<{ code: number; stdout: string; stderr: string }>("worker.exec", {
    worker: "kite-1",
    argv,
  });

/** A task that works until the test lets it go, and marks that it ran. */
function held(installed: Installation): { task: string; go(): void; marks(): string } {
  const [go, marks] = [join(installed.home, "go"), join(installed.home, "marks")];
  return {
    task: `echo ran >> ${marks}; until [ -e ${go} ]; do sleep 0.05; done`,
    go: () => writeFileSync(go, ""),
    marks: () => readFileSync(marks, "utf8"),
  };
}

const refusedWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof OrchestratorError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

test("sshd is killed in the middle of a run: the agent works on, and the run is found again", async () => {
  await using installed = installation();
  const { task, go, marks } = held(installed);
  const run = await installed.dispatch(task);
  await installed.wait(run.run_id, "delivered");
  for (const pid of sshdsOf(installed, "kite-1").reverse()) process.kill(pid, "SIGKILL");
  go();
  const ended = await installed.wait(run.run_id);
  assert.equal(ended.state, "completed", JSON.stringify(ended));
  assert.equal(ended.launch, 1);
  assert.equal(marks(), "ran\n");
});

// Each waits until silence counts: at the same time.
describe("silence", { concurrency: true }, () => {
  test("sshd falls silent in the middle of a run: nothing is claimed meanwhile, and it heals", async () => {
    await using installed = installation();
    const { task, go, marks } = held(installed);
    const run = await installed.dispatch(task);
    await installed.wait(run.run_id, "delivered");
    const stopped = sshdsOf(installed, "kite-1");
    for (const pid of stopped) process.kill(pid, "SIGSTOP");
    try {
      go();
      await until(async () => (await show(installed, run.run_id)).status?.status !== "running", {
        what: "the status to grow stale",
        timeoutMs: 90_000,
      });
      const silent = await show(installed, run.run_id);
      assert.match(silent.status?.status ?? "", /stale|unknown/);
      assert.notEqual(silent.state, "completed");
    } finally {
      for (const pid of stopped) signalIfThere(pid, "SIGCONT");
    }
    const ended = await installed.wait(run.run_id, "ended", 90_000);
    assert.equal(ended.state, "completed");
    assert.equal(marks(), "ran\n");
  });

  test("the tmux server is killed in the middle of a run: the run says so truly, ends when its agent does, and the worker serves the next", async () => {
    await using installed = installation({ repo: { maxWorkers: 1 } });
    const { task, go, marks } = held(installed);
    const run = await installed.dispatch(task);
    await installed.wait(run.run_id, "delivered");
    await exec(installed, "tmux", "kill-server");
    const settled = await installed.wait(run.run_id, "settled", 90_000);
    assert.equal(settled.state, "blocked", JSON.stringify(settled));
    assert.match(settled.state_reason ?? "", /no pulse .* the agent's process lives/);
    go();
    assert.equal((await installed.wait(run.run_id)).state, "completed");
    assert.equal(marks(), "ran\n");
    const next = await installed.dispatch("true");
    assert.equal((await installed.wait(next.run_id)).state, "completed");
  });
});

test("while somebody is attached, a worker is neither used nor destroyed; afterwards it is idle", async () => {
  await using installed = installation({ repo: { maxWorkers: 1 } });
  const first = await installed.dispatch("true");
  await installed.wait(first.run_id);
  const { command } = await installed.call<{ command: string }>("worker.attach", {
    worker: "kite-1",
  });
  const terminal = spawn("script", ["-qfec", command, "/dev/null"], {
    stdio: ["pipe", "ignore", "ignore"],
    env: { ...process.env, TERM: "xterm" },
  });
  const left = new Promise((resolve) => terminal.once("exit", resolve));
  try {
    await until(async () => (await exec(installed, "tmux", "list-clients")).stdout !== "", {
      what: "the client",
    });
    const waiting = await installed.dispatch("true");
    const why = await until(
      async () => {
        const { state, reason } = await show(installed, waiting.run_id);
        return state === "queued" && reason?.includes("attached") === true ? reason : undefined;
      },
      { what: "the run to wait" },
    );
    assert.match(why, /cap of 1|attached/);
    await installed.call("run.cancel", { run_id: waiting.run_id });
    await assert.rejects(
      installed.call("worker.destroy", { worker: "kite-1" }),
      refusedWith("needs_person", /an operator is attached/),
    );
    assert.equal((await workersOf(installed))[0]?.allocation, "free", "it is as it was");
  } finally {
    terminal.kill();
    await left;
  }
  await until(async () => (await exec(installed, "tmux", "list-clients")).stdout === "", {
    what: "the client to leave",
  });
  const busy = await installed.call<{ busy: boolean }>("worker.busy", { worker: "kite-1" });
  assert.equal(busy.busy, false);
});

test("work that cannot be saved keeps its worker: not destroyed, not set up again, not used", async () => {
  await using installed = installation();
  const run = await installed.dispatch("true");
  await installed.wait(run.run_id);
  await exec(
    installed,
    "sh",
    "-c",
    "cd kite && echo precious > work.txt && git add work.txt && git commit -qm work && find .git/objects -type f -newer .git/HEAD -delete",
  );
  const before = (await workersOf(installed))[0];
  await assert.rejects(
    installed.call("worker.destroy", { worker: "kite-1" }),
    refusedWith("needs_person", /not destroyed: its work is not saved/),
  );
  const elsewhere = await installed.dispatch("true");
  assert.equal((await installed.wait(elsewhere.run_id)).worker, "kite-2");
  await assert.rejects(
    installed.call("worker.setup", { worker: "kite-1" }),
    refusedWith("needs_person", /its work is not saved/),
  );
  const [after] = await workersOf(installed);
  assert.equal(after?.worker_id, before?.worker_id);
  assert.equal(after?.allocation, "unready");
  assert.equal((await exec(installed, "cat", "kite/work.txt")).stdout, "precious\n");
});

test("a worker with another host key is never talked to: it is set aside with the reason, and the task is done elsewhere", async () => {
  await using installed = installation();
  const first = await installed.dispatch("true");
  await installed.wait(first.run_id);
  await installed.stopController();
  const { store } = (await installed.controller()).services;
  await store.mutate((tx) =>
    tx.db
      .updateTable("workers")
      .set({ host_key: `SHA256:${"A".repeat(43)}` })
      .execute(),
  );
  const next = await installed.call<{ run: RunView }>("dispatch", { repo: "kite", text: "true" });
  const ended = await installed.wait(next.run.run_id);
  assert.deepEqual([ended.state, ended.worker], ["completed", "kite-2"]);
  const aside = (await workersOf(installed)).find(({ worker }) => worker === "kite-1");
  assert.equal(aside?.allocation, "unready");
  assert.match(aside.reason ?? "", /host key/);
});

test("a full disk refuses with one clear error, loses nothing, and works again when there is room", async (t) => {
  await using installed = installation();
  const mounted = spawnSync(
    "mount",
    ["-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", installed.home],
    {
      encoding: "utf8",
    },
  );
  if (mounted.status !== 0) {
    t.skip(`no small disk can be mounted here: ${mounted.stderr.trim()}`);
    return;
  }
  try {
    installed.configure({});
    const before = await installed.dispatch("true");
    assert.equal((await installed.wait(before.run_id)).state, "completed");
    const ballast = join(installed.home, "ballast");
    fill(ballast);
    const refused = await installed.dispatch(": " + "x".repeat(60_000)).then(
      (run) => installed.wait(run.run_id, "settled", 20_000),
      (error: unknown) => error,
    );
    assert.ok(refused instanceof OrchestratorError, JSON.stringify(refused));
    assert.match(refused.message, /no room/);
    assert.equal((await show(installed, before.run_id)).state, "completed", "it can still be read");
    rmSync(ballast);
    const after = await installed.dispatch("true");
    assert.equal((await installed.wait(after.run_id)).state, "completed");
    await installed.stopController();
    assert.equal(
      (await show(installed, before.run_id)).state,
      "completed",
      "the store opens again",
    );
  } finally {
    await installed.stopController();
    const workers = await import("../../src/providers/local/local.ts");
    const { systemClock } = await import("../../src/platform/clock.ts");
    const { randomIds } = await import("../../src/platform/ids.ts");
    const provider = workers.localProvider({
      root: installed.paths.local,
      clock: systemClock(),
      ids: randomIds(),
    });
    for (const { id } of await provider.list("")) await provider.destroy(id);
    spawnSync("umount", ["-l", installed.home]);
  }
});

/** Writes until nothing more fits. */
function fill(path: string): void {
  for (const size of [1 << 20, 1 << 14, 1 << 12]) {
    try {
      for (;;) writeFileSync(path, Buffer.alloc(size), { flag: "a" });
    } catch {
      // Full for this size.
    }
  }
}
