import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { killPid } from "../support/local-transport.ts";
import { until } from "../support/wait.ts";
import { linesOf, TestWorker, RUN } from "../support/worker.ts";

const isAlive = (pid: string) => {
  try {
    return !/\nState:\tZ/.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
};

test("a launch without a gate, or with a live process, is not over", async () => {
  using worker = new TestWorker();
  worker.openSession();
  assert.equal((await worker.run("over", [RUN, "1"])).stdout, "alive\n");
  const started = await worker.startAgent(RUN, 1, ["wait /nowhere"]);
  const pid = started.stdout.trim().split("\t")[1] ?? "";
  const alive = (await worker.run("over", [RUN, "1"])).stdout.trim().split("\t");
  assert.equal(alive[0], "alive");
  assert.ok(alive.includes(pid));
});

test("a gate that a loss of power left empty is of a machine that was restarted", async () => {
  using worker = new TestWorker();
  worker.openSession();
  await worker.startAgent(RUN, 1, ["exit 0"]);
  await until(() => worker.show("#{pane_dead}") === "1", { what: "the agent's end" });
  writeFileSync(worker.path("runs", RUN, "launch-1"), "");
  const over = "over\tthe machine was restarted\n";
  assert.equal((await worker.run("over", [RUN, "1"])).stdout, over);
  assert.equal((await worker.run("stop", ["test-bundle", "1", RUN, "1", "0"])).stdout, over);
  assert.equal((await worker.startAgent(RUN, 1, ["exit 0"])).stdout, over);
});

test("a child in a session of its own keeps the launch from being over", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const orphan = join(worker.root, "orphan");
  await worker.startAgent(RUN, 1, [`orphan ${orphan}`, "exit 0"]);
  await until(() => linesOf(orphan).length > 0, { what: "the orphan" });
  const pid = linesOf(orphan)[0] ?? "";
  await until(
    async () => (await worker.run("over", [RUN, "1"])).stdout.startsWith(`alive\t${pid}`),
    { what: "the orphan alone" },
  );
});

test("stop ends an agent that ignores TERM and its child in another session, and nobody else", async () => {
  using worker = new TestWorker();
  worker.openSession({ guard: true });
  const orphan = join(worker.root, "orphan");
  const script = ["ignore-term", `orphan ${orphan}`, "wait /nowhere"];
  const started = await worker.startAgent(RUN, 1, script);
  const agent = started.stdout.trim().split("\t")[1] ?? "";
  await until(() => linesOf(orphan).length > 0, { what: "the orphan" });
  const child = linesOf(orphan)[0] ?? "";
  const shell = worker.tmux("display-message", "-p", "-t", "=kite-dev:0", "#{pane_pid}").trim();
  const guard = worker.tmux("display-message", "-p", "-t", "=kite-dev:2", "#{pane_pid}").trim();
  const before = performance.now();
  const stopped = await worker.run("stop", ["test-bundle", "1", RUN, "1", "300"]);
  assert.match(stopped.stdout, /^over\t/, stopped.stderr);
  assert.ok(performance.now() - before >= 300, "the grace was granted");
  assert.deepEqual([agent, child, shell, guard].map(isAlive), [false, false, true, true]);
  assert.equal(
    (await worker.run("stop", ["test-bundle", "1", RUN, "1", "300"])).stdout,
    stopped.stdout,
  );
});

test("stop revokes a launch that never came", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const stopped = await worker.run("stop", ["test-bundle", "3", RUN, "5", "1000"]);
  assert.match(stopped.stdout, /^over\tthe gate is revoked/);
  assert.equal((await worker.startAgent(RUN, 5, ["exit 0"], { epoch: 3 })).stdout, "revoked\n");
  const fenced = await worker.run("stop", ["test-bundle", "2", RUN, "5", "1000"]);
  assert.deepEqual([fenced.code, fenced.stdout], [75, "fenced\t3\n"]);
});

test("a launch of another boot is over, and a process id that was given again is spared", async () => {
  using worker = new TestWorker();
  worker.openSession();
  await worker.startAgent(RUN, 1, ["wait /nowhere"]);
  const gate = worker.path("runs", RUN, "launch-1");
  const [pid = "", start = "", boot = ""] = readFileSync(gate, "utf8").trim().split(" ");
  writeFileSync(gate, `${pid} ${start} 00000000-0000-0000-0000-000000000000 %1\n`);
  assert.equal((await worker.run("over", [RUN, "1"])).stdout, "over\tthe machine was restarted\n");
  // A stranger has the pid that the gate of launch 2 names.
  const stranger = worker.tmux("display-message", "-p", "-t", "=kite-dev:0", "#{pane_pid}").trim();
  writeFileSync(
    worker.path("runs", RUN, "launch-2"),
    `${stranger} ${Number(start) - 1} ${boot} %1\n`,
  );
  const stopped = await worker.run("stop", ["test-bundle", "1", RUN, "2", "100"]);
  assert.match(stopped.stdout, /^over\t/);
  assert.ok(isAlive(stranger));
});

test("a process that execs all the time is never taken for gone", async () => {
  using worker = new TestWorker();
  await worker.run("revoke", [RUN, "1"]);
  // Within an exec a process shows an empty environment: one look in ten misses this one.
  const chain = join(worker.root, "chain");
  writeFileSync(chain, `exec sh '${chain}'\n`);
  const ended = worker.shell(`ORCHESTRATOR_LAUNCH=${RUN}/1 sh "$1" & echo $! >"$2"; wait`, [
    chain,
    join(worker.root, "pid"),
  ]);
  const pid = await until(() => linesOf(join(worker.root, "pid"))[0], { what: "the chain" });
  const isSeen = async () => (await worker.run("over", [RUN, "1"])).stdout === `alive\t${pid}\n`;
  await until(isSeen, { what: "its first exec" });
  for (let look = 0; look < 120; look += 1) {
    assert.ok(await isSeen(), `look ${look}`);
  }
  killPid(Number(pid));
  await ended;
  assert.match((await worker.run("over", [RUN, "1"])).stdout, /^over\t/);
});
