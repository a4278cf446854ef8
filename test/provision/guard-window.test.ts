import assert from "node:assert/strict";
import { test } from "node:test";
import { createProvisioner } from "../../src/provisioner/create.ts";
import type { OrchestratorError } from "../../src/domain/errors.ts";
import { localTransport } from "../support/local-transport.ts";
import { until } from "../support/wait.ts";
import { SESSION, TestWorker } from "../support/worker.ts";

const windows = (worker: TestWorker): string[] =>
  worker
    .tmux("list-windows", "-t", `=${SESSION}`, "-F", "#{window_index} #{window_name} #{pane_dead}")
    .trimEnd()
    .split("\n");

const isGuarded = (worker: TestWorker) =>
  windows(worker).filter((line) => line.endsWith(" guard 0"));

test("a guard that runs is left alone, one that has ended runs again, and its window is made when it is gone", async () => {
  using worker = new TestWorker();
  worker.openSession({ guard: true });
  const call = () => worker.run("guard-window", [SESSION]);
  assert.deepEqual(await call(), { code: 0, stdout: "running\n", stderr: "" });

  worker.tmux("set-option", "-w", "-t", `=${SESSION}:2`, "remain-on-exit", "on");
  const pid = Number(worker.tmux("display", "-p", "-t", `=${SESSION}:2`, "#{pane_pid}"));
  process.kill(pid, "SIGKILL");
  await until(() => worker.tmux("display", "-p", "-t", `=${SESSION}:2`, "#{pane_dead}") === "1\n", {
    what: "the guard's end",
  });
  assert.deepEqual(await call(), { code: 0, stdout: "restarted\n", stderr: "" });
  assert.equal(isGuarded(worker).length, 1);

  worker.tmux("kill-window", "-t", `=${SESSION}:2`);
  assert.equal((await call()).stdout, "opened\n");
  assert.deepEqual(isGuarded(worker), ["2 guard 0"]);

  // A person's window stands at its place: it goes to the next free one.
  worker.tmux("kill-window", "-t", `=${SESSION}:2`);
  worker.tmux("new-window", "-d", "-t", `=${SESSION}:2`, "-n", "mine", "cat");
  assert.equal((await call()).stdout, "opened\n");
  assert.deepEqual(isGuarded(worker), ["3 guard 0"]);
  // The agent's window is the agent's, even when it is called so.
  worker.tmux("rename-window", "-t", `=${SESSION}:1`, "guard");
  worker.tmux("kill-window", "-t", `=${SESSION}:3`);
  assert.equal((await call()).stdout, "opened\n");

  worker.tmux("kill-session", "-t", `=${SESSION}`);
  assert.equal((await call()).code, 69);
  assert.equal((await worker.run("guard-window", ["#(id)"])).code, 64);
});

test("the provisioner says what the guard needed, and that a session is not there", async () => {
  using worker = new TestWorker();
  worker.openSession();
  await using transport = localTransport(worker.home, { TMUX_TMPDIR: worker.root });
  const provisioner = createProvisioner();
  assert.equal(await provisioner.keepGuard(transport, SESSION), "opened");
  assert.equal(await provisioner.keepGuard(transport, SESSION), "running");
  await assert.rejects(
    provisioner.keepGuard(transport, "other-dev"),
    (error: OrchestratorError) => {
      assert.equal(error.code, "not_found");
      return true;
    },
  );
});
