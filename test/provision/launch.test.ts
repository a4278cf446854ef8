import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { killPid } from "../support/local-transport.ts";
import { until } from "../support/wait.ts";
import { archive, finished, linesOf, TestWorker, RUN } from "../support/worker.ts";

const field = (text: string, index: number) => text.trim().split("\t")[index] ?? "";

test("start launches the agent with its environment, and calling it again adopts it", async () => {
  using worker = new TestWorker();
  worker.openSession();
  mkdirSync(worker.path("auth"), { recursive: true });
  writeFileSync(
    worker.path("auth", "kite.env"),
    "API_KEY=s3cret = 'x' #\nBAD NAME=1\n2X=1\nLAST=no newline",
  );
  const starts = join(worker.root, "starts");
  const env = { FOO: "a b", PATH: `/opt/extra:${worker.env["PATH"]}` };
  const first = await worker.startAgent(RUN, 1, [`record ${starts}`, "wait /nowhere"], {
    message: "hello",
    env,
  });
  assert.match(first.stdout, /^started\t\d+\n$/, first.stderr);
  const again = await worker.startAgent(RUN, 1, [`record ${starts}`, "wait /nowhere"], {
    message: "hello",
    env,
  });
  const pid = field(first.stdout, 1);
  assert.equal(again.stdout, `adopted\t${pid}\n`);

  await until(() => linesOf(starts).length > 0, { what: "the agent" });
  assert.deepEqual(linesOf(starts), [`${pid} ${RUN}/1`]);
  const environment = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
  for (const entry of [
    "FOO=a b",
    `ORCHESTRATOR_RUN=${RUN}`,
    `ORCHESTRATOR_LAUNCH=${RUN}/1`,
    "API_KEY=s3cret = 'x' #",
    "LAST=no newline",
    `PATH=/opt/extra:${worker.env["PATH"]}`,
  ]) {
    assert.ok(environment.includes(entry), `${entry} in ${environment.join("\n")}`);
  }
  assert.ok(!environment.some((entry) => /^(SO|SO_|LC_ALL|2X|BAD)/.test(entry)));
  assert.match(readFileSync(`/proc/${pid}/status`, "utf8"), /^Umask:\t0022$/m);
  assert.equal(worker.show("#{@run}"), RUN);
  assert.equal(readFileSync(worker.path("current"), "utf8"), `${RUN} 1\n`);
  const started = worker.events(RUN)[0];
  assert.equal(started?.source, "launcher");
  assert.deepEqual(started?.payload, { pid: Number(pid) });
});

test("the message reaches the agent byte for byte, whatever it holds", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const corpus = [
    "a",
    'it\'s "quoted" \\ $(touch canary) `touch canary` ${HOME} $((1+1)) #{pane_id} #(touch canary)',
    "trailing newlines\n\n\n",
    "\n\nleading",
    "-leading dash",
    "--",
    "exit",
    "%s %d \\n \\0101",
    "tab\there\r\nand 😀 é \u200b \u202e \u{10ffff}",
    `\u0081\u0082\u0085\u0088 \u00c1\u0141`,
    "x".repeat(100_000),
    `${"long 'line' \\ \n".repeat(8_000)}\n`.slice(0, 131_000),
    " ",
    "*",
  ];
  let launch = 0;
  for (const message of corpus) {
    launch += 1;
    const record = join(worker.root, `record-${launch}`);
    const ran = await worker.startAgent(RUN, launch, [`record ${record}`, "exit 0"], { message });
    assert.match(ran.stdout, /^(started|over)\t/, ran.stderr);
    await until(
      () =>
        existsSync(`${record}.message`) &&
        worker.tmux("display-message", "-p", "-t", "kite-dev:1", "#{pane_dead}") === "1\n",
      { what: "the message" },
    );
    assert.equal(readFileSync(`${record}.message`, "utf8"), message);
  }
  assert.ok(
    !existsSync(join(worker.home, "canary")) && !existsSync(join(worker.home, "kite", "canary")),
  );
});

test("what cannot be an argument is refused before the gate", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const tooLong = await worker.startAgent(RUN, 1, ["exit 0"], { message: "x".repeat(131_072) });
  assert.match(tooLong.stdout, /^unknown\trefused: the message/);
  const zero = await worker.startAgent(RUN, 2, ["exit 0"], { message: "a\0b" });
  assert.match(zero.stdout, /^unknown\trefused: the message/);
  const nowhere = archive([{ name: "exec-3", content: "cwd='/nowhere'\nset -- true\n" }]);
  const missing = await worker.run("start", worker.startArgs(RUN, 3), { stdin: nowhere });
  assert.match(missing.stdout, /^unknown\trefused: exec-3/);
  assert.deepEqual(
    readdirSync(worker.path("runs", RUN)).filter((name) => name.startsWith("launch-")),
    [],
  );
  const repaired = await worker.startAgent(RUN, 3, ["wait /nowhere"]);
  assert.match(repaired.stdout, /^started\t/);
});

test("twenty that start the same launch at once make one agent", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const starts = join(worker.root, "starts");
  const script = [`record ${starts}`, "wait /nowhere"];
  // Made once: the script must not be written again while the agent reads it.
  const stdin = worker.agentFiles(1, script, { message: "one" });
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => worker.run("start", worker.startArgs(RUN, 1), { stdin })),
  );
  const pids = new Set(answers.map(({ stdout }) => field(stdout, 1)));
  assert.equal(pids.size, 1, answers.map(({ stdout }) => stdout).join(""));
  for (const { stdout } of answers) assert.match(stdout, /^(started|adopted)\t\d+\n$/);
  await until(() => linesOf(starts).length > 0, { what: "the agent" });
  assert.deepEqual(linesOf(starts), [`${String([...pids][0])} ${RUN}/1`]);
  assert.equal(worker.events(RUN).filter(({ event }) => event === "started").length, 1);
});

test("start and launch killed at any moment, then started again, make exactly one agent or say over", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const starts = join(worker.root, "starts");
  let lost = 0;
  const rounds = 14;
  for (let launch = 1; launch <= rounds; launch += 1) {
    const script = [`record ${starts}-${launch}`, "wait /nowhere"];
    const stdin = worker.agentFiles(launch, script, { message: "m" });
    const victim = worker.spawn("start", worker.startArgs(RUN, launch));
    const ended = finished(victim, stdin);
    // Not a wait for something: the moment of the kill is the input of this test.
    await delay((launch * 37) % 75);
    if (launch % 2 === 0) killPid(victim.pid ?? 0);
    else killLauncher(worker, launch);
    await ended;
    const answer = await worker.startAgent(RUN, launch, script, { message: "m" });
    const [how, detail] = answer.stdout.trim().split("\t");
    const began = () => linesOf(`${starts}-${launch}`);
    if (how === "over") {
      lost += 1;
      assert.ok(began().length <= 1);
    } else {
      assert.match(answer.stdout, /^(started|adopted)\t\d+\n$/, `launch ${launch}`);
      await until(() => began().length > 0, { what: `agent ${launch}` });
      assert.deepEqual(began(), [`${detail} ${RUN}/${launch}`]);
    }
    const stopped = await worker.run("stop", ["test-bundle", "1", RUN, String(launch), "1000"]);
    assert.match(stopped.stdout, /^over\t/);
    assert.ok(began().length <= 1);
  }
  assert.ok(lost < rounds / 2, `${lost} launches were lost between gate and agent`);
});

/** Kills what runs in the agent's pane while it is still the launcher. */
function killLauncher(worker: TestWorker, launch: number): void {
  for (const pid of worker.processes()) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      if (command.some((word) => word.endsWith("/launch")) && command.includes(String(launch)))
        killPid(pid);
    } catch {
      // It ended meanwhile.
    }
  }
}

test("a revoked launch never starts, and a started one cannot be revoked", async () => {
  using worker = new TestWorker();
  worker.openSession();
  assert.equal((await worker.run("revoke", [RUN, "1"])).stdout, "revoked\n");
  assert.equal((await worker.run("revoke", [RUN, "1"])).stdout, "revoked\n");
  assert.equal((await worker.startAgent(RUN, 1, ["exit 0"])).stdout, "revoked\n");
  await worker.startAgent(RUN, 2, ["wait /nowhere"]);
  assert.equal((await worker.run("revoke", [RUN, "2"])).stdout, "taken\n");
});

test("start refuses a lower epoch, another bundle, cut input and bad names", async () => {
  using worker = new TestWorker();
  worker.openSession();
  assert.match(
    (await worker.startAgent(RUN, 1, ["wait /nowhere"], { epoch: 7 })).stdout,
    /^started/,
  );
  const fenced = await worker.startAgent(RUN, 2, ["exit 0"], { epoch: 6 });
  assert.deepEqual([fenced.code, fenced.stdout], [75, "fenced\t7\n"]);
  const other = await worker.run("start", ["other-bundle", "8", RUN, "2", "kite-dev"], {
    stdin: archive([]),
  });
  assert.equal(other.code, 78);
  const whole = Buffer.from(worker.agentFiles(2, ["exit 0"], { message: "abc" }));
  // The last of it: the header of END, and two blocks that say that an archive ends.
  for (const cut of [0, 10, 512, 700, whole.length - 1_536, whole.length - 1_100]) {
    const ran = await worker.run("start", worker.startArgs(RUN, 2, 8), {
      stdin: whole.subarray(0, cut),
    });
    assert.match(ran.stdout, /^unknown\t/, String(cut));
  }
  for (const name of ["../x", "launch-2", ".x", "events.jsonl", "A"]) {
    const ran = await worker.run("start", worker.startArgs(RUN, 2, 8), {
      stdin: archive([{ name, content: "x" }]),
    });
    assert.match(ran.stdout, /^unknown\t/, name);
  }
  assert.equal(existsSync(worker.path("runs", RUN, "launch-2")), false);
});

test("start never ends what a person runs in the agent's pane", async () => {
  using worker = new TestWorker();
  worker.openSession();
  worker.tmux("respawn-pane", "-k", "-t", "kite-dev:1", "sleep 1000");
  const ran = await worker.startAgent(RUN, 1, ["exit 0"]);
  assert.match(ran.stdout, /^unknown\tthe agent's pane runs something else/);
  const alive = worker.tmux(
    "display-message",
    "-p",
    "-t",
    "kite-dev:1",
    "#{pane_dead} #{pane_start_command}",
  );
  assert.equal(alive, '0 "sleep 1000"\n');
});

test("start without a session says so, and works once it is there", async () => {
  using worker = new TestWorker();
  const before = await worker.startAgent(RUN, 1, ["wait /nowhere"]);
  assert.match(before.stdout, /^unknown\ttmux session kite-dev/);
  worker.openSession();
  assert.match((await worker.startAgent(RUN, 1, ["wait /nowhere"])).stdout, /^started/);
});

test("the exit code, or the signal, of the agent becomes a launcher line", async () => {
  using worker = new TestWorker();
  worker.openSession({ guard: true });
  const exits = () => worker.events(RUN).filter(({ event }) => event === "exit");
  const exitOf = (launch: number) =>
    until(() => exits().find((line) => line.launch === launch), { what: `the exit of ${launch}` });
  for (const launch of [1, 2, 3, 4, 5, 6]) {
    // The next start also makes tmux notice the former end, which it can miss.
    const ran = await worker.startAgent(RUN, launch, [`exit ${launch}`]);
    assert.match(ran.stdout, /^(started|over)\t/);
  }
  for (const launch of [1, 2, 3, 4, 5, 6]) {
    const { payload, source } = await exitOf(launch);
    assert.equal(source, "launcher");
    assert.equal(payload["code"], launch);
  }
  const ran = await worker.startAgent(RUN, 7, ["wait /nowhere"]);
  killPid(Number(field(ran.stdout, 1)));
  assert.equal((await exitOf(7)).payload["signal"], "SIGKILL");
  assert.equal(exits().length, 7);
  await until(() => worker.windowName() === "agent:error", { what: "the window name" });
});

test("a launch that loses the gate ends without running, and its end is not told as the agent's", async () => {
  using worker = new TestWorker();
  worker.openSession({ guard: true });
  const starts = join(worker.root, "starts");
  await worker.startAgent(RUN, 1, [`record ${starts}`, "exit 0"]);
  const told = () => worker.events(RUN).filter(({ event }) => event === "exit").length;
  await until(() => told() === 1 && worker.show("#{pane_dead}") === "1", { what: "the first end" });
  for (const again of [1, 2]) {
    worker.tmux("respawn-pane", "-t", "kite-dev:1", worker.path("bin", "launch"), RUN, "1");
    const ended = () => worker.show("#{pane_dead} #{pane_dead_status}");
    // Another start's job is what makes tmux collect an end that it missed.
    await until(() => worker.tmux("run-shell", "-b", "true") === "" && ended() === "1 73", {
      what: `end ${again}`,
    });
  }
  assert.deepEqual([told(), linesOf(starts).length], [1, 1]);
});

test("an agent that is killed before it is the watched one is still told to be dead", async () => {
  using worker = new TestWorker();
  worker.openSession({ guard: true });
  await worker.startAgent(RUN, 1, ["wait /nowhere"]);
  // As after a launcher that was killed between its gate and the note whom to watch.
  writeFileSync(worker.path("current"), "run-other 9\n");
  const again = await worker.startAgent(RUN, 1, ["wait /nowhere"]);
  assert.match(again.stdout, /^adopted\t/);
  killPid(Number(field(again.stdout, 1)));
  const dead = () => worker.events(RUN).some(({ payload }) => payload["alive"] === false);
  await until(dead, { what: "the pulse of the dead agent" });
});
