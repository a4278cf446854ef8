import assert from "node:assert/strict";
import { test } from "node:test";

import { until } from "../support/wait.ts";
import { TestWorker, type EventLine, RUN } from "../support/worker.ts";

/** Runs one command to its Stop line. */
async function runCommand(
  worker: TestWorker,
  launch: number,
  message: string,
): Promise<EventLine[]> {
  const argv = [worker.path("bin", "shell-agent")];
  const ran = await worker.run("start", worker.startArgs(RUN, launch), {
    stdin: worker.files(launch, argv, { message }),
  });
  assert.match(ran.stdout, /^(started|over)\t/, ran.stderr);
  const own = () => worker.events(RUN).filter((line) => line.launch === launch);
  await until(
    () => own().some(({ event }) => event === "Stop") && worker.show("#{pane_dead}") === "1",
    { what: "Stop" },
  );
  return own().filter(({ source }) => source === "shell");
}

test("the shell agent reports the command, its exit code and its last lines, and ends", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const command =
    'printf "one \\033[31mred\\033[0m\\ttab\\n"; pwd; [ -t 1 ] && echo "on a terminal"; echo "it\'s \\"q\\" \\\\ é 😀" >&2; exit 3\n\n';
  const lines = await runCommand(worker, 1, command);
  assert.deepEqual(
    lines.map(({ event }) => event),
    ["SessionStart", "UserPromptSubmit", "Stop"],
  );
  assert.equal(lines[1]?.payload["prompt"], command);
  assert.equal(lines[2]?.payload["exit_code"], 3);
  const words = String(lines[2]?.payload["last_assistant_message"]).split("\n");
  assert.match(words[0] ?? "", /^one red +tab$/);
  assert.deepEqual(words.slice(1), [`${worker.home}/kite`, "on a terminal", `it's "q" \\ é 😀`]);
  assert.equal(worker.windowName(), "agent:error");
  assert.match((await worker.run("over", [RUN, "1"])).stdout, /^over\t/);
  assert.match((await worker.run("screen", ["kite-dev"])).stdout, /finished with exit code 3/);
});

test("commands of every shape run, and only the last lines are told", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const many = await runCommand(
    worker,
    1,
    "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo line $i; done",
  );
  const words = String(many[2]?.payload["last_assistant_message"]).split("\n");
  assert.deepEqual([words.length, words[0], words.at(-1)], [20, "line 481", "line 500"]);
  assert.equal(worker.windowName(), "agent:completed");
  const silent = await runCommand(worker, 2, "true");
  assert.deepEqual(silent[2]?.payload, { exit_code: 0, last_assistant_message: "" });
  const dash = await runCommand(worker, 3, "-x");
  assert.equal(dash[2]?.payload["exit_code"], 127);
  const signal = await runCommand(worker, 4, "kill -9 $$");
  assert.equal(signal[2]?.payload["exit_code"], 137);
  const long = `: '${"é\n".repeat(20_000)}'; echo done`;
  const [, submitted] = await runCommand(worker, 5, long);
  const payload = await worker.run("payload", [RUN, submitted?.payload_file ?? ""]);
  assert.equal((JSON.parse(payload.stdout) as { prompt: string }).prompt, long);
});

test("an interrupted command is reported with its code", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const argv = [worker.path("bin", "shell-agent")];
  const stdin = worker.files(1, argv, { message: "echo ready; sleep 1000" });
  await worker.run("start", worker.startArgs(RUN, 1), { stdin });
  await until(async () => (await worker.run("screen", ["kite-dev"])).stdout.includes("\nready"), {
    what: "the command",
  });
  assert.equal((await worker.run("keys", ["kite-dev", "C-c"])).code, 0);
  const stop = await until(() => worker.events(RUN).find(({ event }) => event === "Stop"), {
    what: "Stop",
  });
  assert.equal(stop.payload["exit_code"], 130);
});
