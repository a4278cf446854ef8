import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { OrchestratorError } from "../../src/domain/errors.ts";
import type { HistoryView, WindowSentView, WorkerView } from "../../src/operations/views.ts";
import { installation, type Installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

interface Executed {
  readonly code: number;
  readonly stdout: string;
}

const exec = (installed: Installation, argv: readonly string[], tilde = false) =>
  installed.call<Executed>("worker.exec", { worker: "kite-1", argv, tilde });

const send = (installed: Installation, window: string, text: string, id?: string) =>
  installed.call<WindowSentView>("worker.send", { worker: "kite-1", window, text, request_id: id });

const isCode = (code: string, message: RegExp) => (error: OrchestratorError) => {
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

async function withWorker(): Promise<Installation> {
  const installed = installation();
  await installed.call("worker.create", { repo: "kite" });
  return installed;
}

test("~ is the worker's home in every word of a program, and nothing else is expanded", async () => {
  await using installed = await withWorker();
  const home = installed.homeOf("kite-1");
  const words = ["~", "~/a b", "~root", "x~/y", "$HOME", "`id`", "", "-n", "--", "~/'"];
  const { stdout } = await exec(installed, ["printf", "[%s]", ...words], true);
  assert.equal(
    stdout,
    ["~", "~/a b", "~root", "x~/y", "$HOME", "`id`", "", "-n", "--", "~/'"]
      .map((word) => `[${word === "~" || word.startsWith("~/") ? home + word.slice(1) : word}]`)
      .join(""),
  );
  assert.equal((await exec(installed, ["printf", "%s", "~/x"])).stdout, "~/x");
  assert.equal((await exec(installed, ["sh", "-c", "exit 7", "~"], true)).code, 7);
});

test("a command is typed once into the shell's window, and only where a shell waits for it", async () => {
  await using installed = await withWorker();
  const home = installed.homeOf("kite-1");
  const typed = `printf '%s\\n' 'a;b' "$HOME" #x; >> ~/typed;`;
  const sent = await send(installed, "shell", typed, "one");
  assert.deepEqual([sent.kind, sent.window, sent.run], ["typed", "@0 shell", null]);
  // A request that is repeated is answered, and not typed again.
  assert.deepEqual(await send(installed, "shell", typed, "one"), sent);
  await send(installed, "0", "echo done > ~/done");
  const read = async (name: string) => (await exec(installed, ["cat", `${home}/${name}`])).stdout;
  await until(async () => (await read("done")) === "done\n", { what: "the second command" });
  const screen = await exec(installed, ["tmux", "-u", "capture-pane", "-p", "-t", "@0"]);
  assert.equal(screen.stdout.split("'a;b'").length - 1, 1, screen.stdout);
  const events = (await installed.events()).filter(({ kind }) => kind === "worker.typed");
  assert.equal(events.length, 2);
  assert.doesNotMatch(JSON.stringify(events), /HOME/, "a command may hold a secret");

  await send(installed, "shell", "cat");
  await until(
    async () =>
      (
        await exec(installed, [
          "tmux",
          "-u",
          "display",
          "-p",
          "-t",
          "@0",
          "#{pane_current_command}",
        ])
      ).stdout === "cat\n",
    { what: "cat" },
  );
  await assert.rejects(
    send(installed, "shell", "id"),
    isCode("needs_person", /window 0 \(shell\) of worker kite-1: cat runs in it/),
  );
  const refused: ReadonlyArray<readonly [string, string, string, RegExp]> = [
    ["2", "id", "invalid_input", /is the guard's/],
    ["@0", "a\nb", "invalid_input", /one line/],
    ["0", "\u001b[2J", "invalid_input", /one line/],
    ["7", "id", "not_found", /has no window 7/],
    ["elsewhere", "id", "not_found", /has no window elsewhere/],
    ["agent", "id", "not_found", /has not run anything yet/],
    ["1", "id", "not_found", /has not run anything yet/],
  ];
  for (const [window, text, code, message] of refused) {
    await assert.rejects(send(installed, window, text), isCode(code, message), window);
  }
});

test("what is sent to the agent's window, by its name or index, is a message with its receipt", async () => {
  await using installed = await withWorker();
  await installed.wait((await installed.dispatch("echo one")).run_id);
  for (const window of ["agent", "1"]) {
    const sent = await send(installed, window, `echo ${window}`);
    assert.equal(sent.kind, "message");
    const run = await installed.wait(sent.run?.run_id ?? "", "delivered");
    assert.equal(run.receipt, "accepted");
    await installed.wait(run.run_id);
  }
  const history = await installed.call<HistoryView[]>("worker.history", { worker: "kite-1" });
  assert.deepEqual(
    history.map(({ state, messages }) => [state, messages.map(({ text }) => text)]),
    [
      ["completed", ["echo 1"]],
      ["completed", ["echo agent"]],
      ["completed", ["echo one"]],
    ],
  );
  const last = await installed.call<HistoryView[]>("worker.history", {
    worker: "kite-1",
    limit: 1,
  });
  assert.deepEqual(last, history.slice(0, 1));
});

test("the console is a shell in the worker's home, where 'tmux attach' finds its session", async () => {
  await using installed = await withWorker();
  const { argv, env } = await installed.call<{ argv: string[]; env: Record<string, string> }>(
    "worker.console",
    { worker: "kite-1" },
  );
  const [program = "", ...args] = argv;
  const child = spawn(program, args, {
    env: { PATH: process.env["PATH"], SHELL: "/bin/sh", SECRET: "x", TMUX: "/tmp/x,1,0", ...env },
    stdio: ["pipe", "pipe", "inherit"],
  });
  let out = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stdin.end(
    'pwd; echo "secret=${SECRET-none} tmux=${TMUX-none}"; tmux has-session -t kite-dev && echo found\n',
  );
  const code = await new Promise((resolve) => child.once("close", resolve));
  assert.equal(out, `${installed.homeOf("kite-1")}\nsecret=none tmux=none\nfound\n`);
  assert.equal(code, 0);
});

test("a set-up that may create makes the next worker of the pool, mends one that failed, and leaves a ready one", async () => {
  await using installed = installation({
    files: { "scripts/dev-setup.sh": "#!/bin/sh\ntest -e ~/allowed\n" },
  });
  const setUp = (worker: string) =>
    installed.call<WorkerView>("worker.setup", { worker, create: true });
  await assert.rejects(
    setUp("kite-2"),
    isCode("not_claimable", /the next number of the pool is kite-1/),
  );
  await assert.rejects(setUp("other-1"), isCode("not_found", /no repo other/));
  await assert.rejects(
    installed.call("worker.setup", { worker: "kite-1" }),
    isCode("not_found", /no worker kite-1/),
  );
  await assert.rejects(setUp("kite-1"), isCode("needs_person", /could not be prepared/));
  mkdirSync(installed.homeOf("kite-1"), { recursive: true });
  writeFileSync(join(installed.homeOf("kite-1"), "allowed"), "");
  const mended = await setUp("kite-1");
  assert.equal(mended.allocation, "free");
  const ready = await setUp("kite-1");
  assert.deepEqual([ready.worker_id, ready.epoch], [mended.worker_id, mended.epoch]);
  await assert.rejects(setUp("kite-2"), isCode("needs_person", /kite-2 could not be prepared/));
});
