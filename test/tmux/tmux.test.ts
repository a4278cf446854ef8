import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { assert as check, constantFrom, property, string } from "fast-check";

import {
  attachCommand,
  hasSessionCommand,
  listWindowsCommand,
  literalName,
  renameWindowCommand,
  typeCommand,
} from "../../src/tmux/commands.ts";
import { agentWindow, parseWindows } from "../../src/tmux/windows.ts";
import { until } from "../support/wait.ts";
import { SESSION, TestWorker } from "../support/worker.ts";

const run = (worker: TestWorker, [program = "", ...args]: readonly string[]): string =>
  execFileSync(program, args, {
    env: { ...worker.env, LANG: "C" },
    encoding: "utf8",
    stdio: "pipe",
  });

test("every client runs with -u, and sessions are named exactly", () => {
  const commands = [
    attachCommand("kite-dev"),
    attachCommand("kite-dev", "@1"),
    listWindowsCommand("kite-dev"),
    hasSessionCommand("kite-dev"),
    renameWindowCommand("@1", "x"),
  ];
  for (const command of commands) assert.match(command[2] ?? "", /^exec tmux -u "\$@"$/m);
  assert.deepEqual(attachCommand("kite-dev", "@1").slice(4), [
    "attach-session",
    "-t",
    "=kite-dev",
    ";",
    "select-window",
    "-t",
    "@1",
  ]);
});

test("on a machine that somebody shares, the client goes where the worker's claim says", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const [program = "", ...args] = listWindowsCommand("kite-dev");
  const list = (env: NodeJS.ProcessEnv) =>
    spawnSync(program, args, { cwd: worker.home, env, encoding: "utf8" });
  const { TMUX_TMPDIR: place, ...bare } = { ...worker.env };
  const elsewhere = { ...bare, TMUX_TMPDIR: worker.home };
  assert.notEqual(list(elsewhere).status, 0);
  writeFileSync(worker.path("claim"), `id=x\ntmux=${place}\n`);
  assert.match(list(elsewhere).stdout, /agent:waiting/);
});

test("windows are listed and parsed, and a prefix of a session's name is not the session", () => {
  using worker = new TestWorker();
  worker.openSession();
  const windows = parseWindows(run(worker, listWindowsCommand(SESSION)));
  assert.deepEqual(
    windows.map(({ id, index, name, status, dead, attached }) => ({
      id,
      index,
      name,
      status,
      dead,
      attached,
    })),
    [
      { id: "@0", index: 0, name: "shell", status: undefined, dead: false, attached: 0 },
      { id: "@1", index: 1, name: "agent:waiting", status: "waiting", dead: false, attached: 0 },
    ],
  );
  assert.deepEqual(
    windows.map(({ isMarked, inMode, command }) => ({ isMarked, inMode, command })),
    [
      { isMarked: false, inMode: false, command: "cat" },
      { isMarked: true, inMode: false, command: windows[1]?.command },
    ],
  );
  assert.throws(() => run(worker, listWindowsCommand("kite")));
  assert.throws(() => run(worker, hasSessionCommand("kite")));
  run(worker, hasSessionCommand(SESSION));
});

test("a hostile name is shown as it is, runs nothing and does not end the server", () => {
  using worker = new TestWorker();
  worker.openSession();
  const canary = join(worker.root, "canary");
  const names = [
    `#(touch ${canary})`,
    "#{pane_pid}",
    "##",
    "#",
    "#[fg=red]x",
    "ends;",
    ";",
    "-x",
    "a b 'c' \"d\" $(e) \\",
    "\u200bzero",
    "\u202e",
    "\u0301",
    "\ufeff",
  ];
  const id = worker.show("#{window_id}");
  for (const name of names) {
    run(worker, renameWindowCommand(id, name));
    const raw = run(worker, listWindowsCommand(SESSION)).split("\n")[1] ?? "";
    if (/^[\u0020-\u007e]+$/.test(name)) {
      const shown = raw
        .split(" ")
        .slice(5)
        .join(" ")
        .replace(/^[^/]*\/%1\//, "");
      // tmux stores a backslash of a name doubled, and keeps both marks before a bracket, as its status line wants them.
      assert.equal(shown.replaceAll("\\\\", "\\").replace("##[", "#["), name);
    }
    const [, window] = parseWindows(`${raw}\n${raw}`);
    assert.equal(window?.id, id, raw);
  }
  assert.equal(existsSync(canary), false);
});

test("attaching puts a terminal into the session", async () => {
  using worker = new TestWorker();
  worker.openSession();
  // `script` gives the client a terminal.
  const words = attachCommand(SESSION, "@1")
    .map((word) => `'${word}'`)
    .join(" ");
  const ended = worker.shell(`TERM=xterm exec script -qfec "$1" /dev/null`, [words]);
  await until(() => parseWindows(run(worker, listWindowsCommand(SESSION)))[0]?.attached === 1, {
    what: "the client",
  });
  assert.equal(worker.tmux("display-message", "-p", "-t", `=${SESSION}:`, "#{window_id}"), "@1\n");
  worker.tmux("kill-server");
  await ended;
});

test("doubled marks are what tmux needs", () => {
  using worker = new TestWorker();
  worker.openSession();
  const pieces = constantFrom("#", "##", "#(false)", "#{x}", "a", " b", ",", "}", ")");
  check(
    property(string({ unit: pieces, minLength: 1, maxLength: 6 }), (name) => {
      const result = spawnSync(
        "tmux",
        ["-u", "display-message", "-p", "-t", "@1", literalName(name)],
        { env: worker.env, encoding: "utf8" },
      );
      return result.stdout === `${name}\n`;
    }),
    { numRuns: 40 },
  );
});

test("lines that do not parse are dropped", () => {
  const good = "0 @1 1 77 00 sh/%1/agent:running";
  const bad = [
    "",
    "x",
    "0 @1 1 77 0 n",
    "0 @1 1 77 00 sh/n",
    "0 1 1 77 00 sh//n",
    "0 @1 1 77 20 sh//n",
    "-1 @1 1 1 00 sh//n",
    "0 @1 1 7777777777777 00 sh//n",
  ];
  assert.equal(parseWindows([good, ...bad, good].join("\n")).length, 2);
  assert.equal(parseWindows("0 @1 1 77 00 a/b//a\u001b[31m\u202eb")[0]?.name, "ab");
  const [odd] = parseWindows("0 @1 1 77 11 a/b\u001b[1m/%7/x/%8/y");
  assert.deepEqual(
    [odd?.name, odd?.command, odd?.isMarked, odd?.inMode],
    ["x/%8/y", "a/b", true, true],
  );
  assert.equal(parseWindows("0 @1 1 77 01 sh//")[0]?.name, "");
});

test("the agent's window is the marked one, else one of an agent's name, else the second", () => {
  const line = (id: number, index: number, rest: string) => `0 @${id} ${index} 77 00 sh/${rest}`;
  const idOf = (...lines: readonly string[]) => agentWindow(parseWindows(lines.join("\n")))?.id;
  const [shell, guard] = [line(0, 0, "/shell"), line(2, 2, "/guard")];
  assert.equal(idOf(shell, line(4, 4, "/agent:error"), line(5, 1, "%5/renamed"), guard), "@5");
  assert.equal(idOf(shell, line(3, 1, "/mine"), line(4, 4, "/agent:error")), "@4");
  assert.equal(idOf(shell, line(3, 1, "/mine"), guard), "@3");
  assert.equal(idOf(shell, line(2, 1, "/guard")), undefined);
  assert.equal(idOf(shell), undefined);
});

test("text is typed as it is: into that window, never parsed by tmux, ended by Enter", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const out = join(worker.root, "typed");
  worker.tmux("new-window", "-d", "-t", `=${SESSION}:5`, "-n", "x", "sh", "-c", `cat >${out}`);
  const [window] = parseWindows(run(worker, listWindowsCommand(SESSION))).slice(-1);
  const [program = "", ...args] = typeCommand(window?.id ?? "", "test");
  const texts = ["echo 'a' \"b\" $(c) `d` ; #{pane_pid} #(false) \\;", "ends;", "-x", "漢字 é"];
  for (const text of texts) {
    execFileSync(program, args, { env: { ...worker.env, LANG: "C" }, input: text });
  }
  await until(() => existsSync(out) && readFileSync(out, "utf8") === `${texts.join("\n")}\n`, {
    what: `the text; there is: ${existsSync(out) ? readFileSync(out, "utf8") : ""}`,
  });
  assert.equal(worker.tmux("list-buffers"), "");
});
