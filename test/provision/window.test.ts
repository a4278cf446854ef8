import assert from "node:assert/strict";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { until } from "../support/wait.ts";
import { linesOf, SESSION, TestWorker, RUN } from "../support/worker.ts";

const AGENT = `=${SESSION}:1`;

test("hook events show in the window name as the protocol says", async () => {
  using worker = new TestWorker();
  worker.openSession();
  mkdirSync(worker.path("runs", RUN), { recursive: true });
  const pane = worker.show("#{pane_id}");
  const socket = worker.show("#{socket_path}");
  const env = {
    ORCHESTRATOR_RUN: RUN,
    ORCHESTRATOR_LAUNCH: `${RUN}/1`,
    ORCHESTRATOR_PANE: pane,
    TMUX: `${socket},1,0`,
  };
  const task = [{ id: "b1" }];
  const nested = { tool_name: "Send", tool_input: { agent_id: "x" } };
  const table: readonly [string, object, string][] = [
    ["UserPromptSubmit", { prompt: "p" }, "running"],
    ["SessionStart", { source: "startup" }, "waiting"],
    ["PreToolUse", {}, "running"],
    ["PermissionRequest", { tool_name: "Bash" }, "error"],
    ["PostToolUse", {}, "running"],
    ["SessionStart", { source: "compact" }, "running"],
    ["Notification", { notification_type: "permission_prompt" }, "error"],
    ["PostToolUse", { agent_id: "sub" }, "error"],
    ["PostToolUse", nested, "running"],
    ["Notification", { notification_type: "idle_prompt" }, "running"],
    ["Notification", { notification_type: "agent_needs_input" }, "error"],
    ["PostToolUseFailure", {}, "running"],
    ["Notification", { notification_type: "elicitation_dialog" }, "error"],
    ["PreCompact", {}, "running"],
    ["Stop", { agent_id: "sub", background_tasks: [] }, "running"],
    ["Stop", { background_tasks: [], session_crons: [] }, "completed"],
    ["Stop", { background_tasks: task, session_crons: [] }, "running"],
    ["Stop", { last_assistant_message: '"background_tasks":[1]' }, "completed"],
    ["Stop", { background_tasks: [], session_crons: task }, "running"],
    ["StopFailure", { error: "rate_limit" }, "error"],
    ["PostToolBatch", {}, "running"],
    ["SessionEnd", { reason: "clear" }, "running"],
    ["SessionEnd", { reason: "other" }, "error"],
    ["Stop", { background_tasks: [] }, "completed"],
    ["SessionEnd", { reason: "prompt_input_exit" }, "completed"],
    ["MessageDisplay", {}, "completed"],
  ];
  for (const [index, [event, fields, name]] of table.entries()) {
    // The common fields come first, and spaces after colons mean the same.
    const payload = { session_id: "s", hook_event_name: event, ...fields };
    const stdin =
      index % 2 === 0
        ? JSON.stringify(payload)
        : JSON.stringify(payload, null, 1).replaceAll(/\n */g, "");
    const ran = await worker.run("hook", [event], { stdin, env });
    assert.deepEqual(ran, { code: 0, stdout: "", stderr: "" });
    assert.equal(worker.windowName(), `agent:${name}`, `${index}: ${event} ${stdin}`);
    assert.equal(worker.show("#{@status}"), index === 0 || name !== "waiting" ? name : "waiting");
  }
  const since = Number(worker.show("#{@since}"));
  assert.ok(Math.abs(Date.now() - since) < 60_000);
  assert.equal(worker.events(RUN).length, table.length);
});

test("a hook that changes nothing leaves the time since when", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const script = [
    "hook PreToolUse {}",
    `wait ${join(worker.root, "go")}`,
    "hook PostToolUse {}",
    "hook Stop {}",
    "wait /nowhere",
  ];
  await worker.startAgent(RUN, 1, script);
  await until(() => worker.windowName() === "agent:running", { what: "running" });
  const since = worker.show("#{@since}");
  worker.tmux("set-option", "-w", "-t", AGENT, "@since", "1");
  assert.notEqual(since, "1");
  writeFileSync(join(worker.root, "go"), "");
  await until(() => worker.windowName() === "agent:completed", { what: "completed" });
  const kinds = worker.events(RUN).map(({ event }) => event);
  assert.deepEqual(kinds, ["started", "PreToolUse", "PostToolUse", "Stop"]);
  assert.notEqual(worker.show("#{@since}"), "1");
});

test("name takes only the four statuses, and a hostile reason stays text", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const canary = join(worker.root, "canary");
  const reason = `#(touch ${canary}) ; kill-server \u001b[31m#{pane_id} $(touch ${canary}) '"\n${"x".repeat(500)}`;
  const ran = await worker.run("name", [SESSION, "error", reason]);
  assert.equal(ran.code, 0, ran.stderr);
  assert.equal(worker.windowName(), "agent:error");
  const stored = worker.tmux("show-options", "-w", "-v", "-t", AGENT, "@reason");
  assert.ok(stored.startsWith(`##(touch ${canary}) ; kill-server ?[31m##{pane_id}`), stored);
  assert.ok(stored.length < 250);
  for (const text of ["ends with ;", "-leading dash", "--", ";", ""]) {
    assert.equal((await worker.run("name", [SESSION, "error", text])).code, 0, text);
    assert.equal(worker.tmux("show-options", "-w", "-v", "-t", AGENT, "@reason"), `${text}\n`);
  }
  await worker.run("name", [SESSION, "error", reason]);
  // Even a status line that expands the reason once more shows it and runs nothing.
  worker.tmux("display-message", "-p", "-t", AGENT, "#{E:@reason}");
  worker.tmux("display-message", "-p", "-t", AGENT, "#{E:@reason}");
  for (const status of ["running; kill-server", "agent", "", "RUNNING", "#(touch x)"]) {
    assert.equal((await worker.run("name", [SESSION, status, "r"])).code, 64);
  }
  assert.equal((await worker.run("name", ["absent", "error", "r"])).code, 69);
  assert.equal(worker.windowName(), "agent:error");
  assert.equal(existsSync(canary), false);
});

test("hostile window names neither end the tmux server nor run nor break the probe", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const canary = join(worker.root, "canary");
  const names = [
    "\u200bzero",
    "\u202eover",
    "\u0301",
    "\ufeff",
    "a\tb\nc\u001b[31m",
    `##(touch ${canary})`,
    "1/%0/x",
    "@9 9 9 9 agent:running",
  ];
  for (const name of names) {
    worker.tmux("rename-window", "-t", `=${SESSION}:0`, name);
    const probe = await worker.run("probe", [SESSION]);
    const windows = probe.stdout.split("\n").filter((line) => line.startsWith("window\t"));
    assert.equal(windows.length, 2, probe.stdout);
    assert.match(windows[1] ?? "", /^window\t@\d+\t1\t\d+\t[01]\tagent:/);
    assert.equal((await worker.run("name", [SESSION, "running", "r"])).code, 0);
    assert.equal((await worker.run("screen", [SESSION])).code, 0);
    assert.equal(worker.windowName(), "agent:running", name);
  }
  assert.equal(existsSync(canary), false);
});

test("every tmux client of the scripts runs with -u", async () => {
  using worker = new TestWorker();
  const log = join(worker.root, "clients");
  const real = (await worker.shell("command -v tmux")).stdout.trim();
  mkdirSync(join(worker.root, "bin"));
  const wrapper = `#!/bin/sh\nprintf '%s\\n' "$1" >>'${log}'\nexec '${real}' "$@"\n`;
  writeFileSync(join(worker.root, "bin", "tmux"), wrapper, { mode: 0o755 });
  const env = { PATH: `${join(worker.root, "bin")}:${worker.env["PATH"]}` };
  worker.openSession();
  const calls: readonly (readonly [string, readonly string[]])[] = [
    ["tmux-setup", [SESSION]],
    ["probe", [SESSION]],
    ["name", [SESSION, "running", "r"]],
    ["screen", [SESSION]],
    ["keys", [SESSION, "C-l"]],
    ["paste", [SESSION]],
    ["start", worker.startArgs(RUN, 1)],
  ];
  for (const [script, args] of calls) {
    const stdin = script === "start" ? worker.agentFiles(1, ["hook Stop {}", "exit 0"]) : "x";
    const before = linesOf(log).length;
    await worker.run(script, args, { stdin, env });
    assert.ok(linesOf(log).length > before, script);
  }
  assert.deepEqual([...new Set(linesOf(log))], ["-u"]);
});

test("probe answers without tmux, without a session and after kill-server", async () => {
  using worker = new TestWorker();
  const bare = await worker.run("probe", [SESSION]);
  assert.equal(bare.code, 0);
  assert.match(bare.stdout, /^boot\t[0-9a-f-]{36}\nfence\t0\n$/);
  worker.openSession({ guard: true });
  writeFileSync(worker.path("owner"), "fleet-x\n");
  await worker.startAgent(
    RUN,
    1,
    ['registry {"status":"busy","waitingFor":null}', "wait /nowhere"],
    { epoch: 12 },
  );
  const full = await until(
    async () => {
      const { stdout } = await worker.run("probe", [SESSION]);
      return stdout.includes("\npulse\t") && stdout.includes("\nregistry\t") ? stdout : null;
    },
    { what: "the pulse and the registry" },
  );
  assert.match(
    full,
    /\nowner\tfleet-x\nfence\t12\nattached\t0\nwindow\t@0\t0\t\d+\t0\tshell\nwindow\t@1\t1\t(\d+)\t0\tagent:waiting\nwindow\t@2\t2\t\d+\t0\tguard\ncurrent\trun-\d+\t1\nagent\talive\t\1\nregistry\tbusy\t\npulse\t[0-2]\n$/,
  );
  const other = await worker.run("probe", [SESSION, "run-b", "1"]);
  assert.ok(!other.stdout.includes("\nagent\t"));
  assert.equal((await worker.run("probe", ["absent"])).stdout.includes("window\t"), false);
  worker.tmux("kill-server");
  const pid = /\nagent\talive\t(\d+)/.exec(full)?.[1];
  await until(
    async () => (await worker.run("probe", [SESSION])).stdout.includes(`\nagent\tdead\t${pid}\n`),
    { what: "the dead agent" },
  );
  const after = (await worker.run("probe", [SESSION])).stdout;
  assert.ok(
    !after.includes("window\t") && !after.includes("attached\t") && !after.includes("registry\t"),
    after,
  );
});

/** A pane program that switches bracketed paste on and shows the bytes it gets. */
const READER = `stty raw -echo; printf '\\033[?2004h'; exec dd bs=1 of="$1" 2>/dev/null`;

test("paste delivers the text bracketed and without Enter, and refuses control characters", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const out = join(worker.root, "typed");
  await worker.run("start", worker.startArgs(RUN, 1), {
    stdin: worker.files(1, ["sh", "-c", READER.replaceAll("'", `'\\''`), "sh", out]),
  });
  const typed = async () => (await worker.shell('cat "$1"', [out])).stdout;
  await until(() => existsSync(out), { what: "the reader" });
  const text = 'it\'s $(x) `y` "z" #{pane_id}\n\ttab é 😀\n-- \\n';
  assert.equal((await worker.run("paste", [SESSION], { stdin: text })).code, 0);
  await until(async () => (await typed()).endsWith("\u001b[201~"), { what: "the paste" });
  assert.equal(await typed(), `\u001b[200~${text}\u001b[201~`);
  for (const bad of ["", "a\u001b[201~b", "a\rb", "\u0007", "\u009b", "a\u0085b", "\0", "\u007f"]) {
    assert.equal(
      (await worker.run("paste", [SESSION], { stdin: bad })).code,
      64,
      JSON.stringify(bad),
    );
  }
  assert.equal((await worker.run("paste", [SESSION], { stdin: "\u00a0 ÿ" })).code, 0);
  assert.equal((await worker.run("keys", [SESSION, "C-c", "Enter"])).code, 0);
  await until(async () => (await typed()).endsWith("\u0003\r"), { what: "the keys" });
  assert.equal(worker.tmux("list-buffers"), "");
  for (const bad of ["a b", "-X", "", "$(x)", ";"]) {
    assert.equal((await worker.run("keys", [SESSION, bad])).code, 64);
  }
});

test("no key goes to an ended program, to a person who reads, or to no window", async () => {
  using worker = new TestWorker();
  worker.openSession();
  await worker.startAgent(RUN, 1, ["wait /nowhere"]);
  worker.tmux("copy-mode", "-t", AGENT);
  assert.equal((await worker.run("keys", [SESSION, "Enter"])).code, 69);
  assert.equal((await worker.run("paste", [SESSION], { stdin: "x" })).code, 69);
  worker.tmux("send-keys", "-t", AGENT, "-X", "cancel");
  assert.equal((await worker.run("keys", [SESSION, "Enter"])).code, 0);
  await worker.run("stop", ["test-bundle", "1", RUN, "1", "1000"]);
  await until(() => worker.show("#{pane_dead}") === "1", { what: "the dead pane" });
  assert.equal((await worker.run("keys", [SESSION, "Enter"])).code, 69);
  assert.equal((await worker.run("keys", ["absent", "Enter"])).code, 69);
});

test("screen shows the agent's pane without control characters, even when a person split the window", async () => {
  using worker = new TestWorker();
  worker.openSession();
  await worker.startAgent(RUN, 1, ["say hello \u001b[31mred\u001b[0m é", "wait /nowhere"]);
  worker.tmux("split-window", "-t", AGENT, "exec cat");
  const shown = await until(
    async () => {
      const { stdout } = await worker.run("screen", [SESSION]);
      return stdout.includes("hello") ? stdout : null;
    },
    { what: "the text" },
  );
  assert.match(shown, /^hello red é\n/);
  assert.ok(Buffer.byteLength(shown) <= 16_384);
});
