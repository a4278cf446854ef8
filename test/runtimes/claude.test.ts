import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createClaudeRuntime } from "../../src/runtimes/claude/runtime.ts";
import { HOOK_EVENTS, QUIT_WORDS, TESTED_VERSION } from "../../src/runtimes/claude/vendor-data.ts";
import type { LaunchInput } from "../../src/runtimes/runtime.ts";
import type { Signal } from "../../src/runtimes/signal.ts";

const runtime = createClaudeRuntime();
const place = { runId: "run-1", seq: 3, home: "/home/dev" };

const encoded = (text: string) => {
  const encoding = runtime.encode(text, place);
  assert.equal(encoding.kind, "encoded");
  return encoding.message;
};

test("texts that the CLI would take for commands get a line before them", () => {
  for (const text of ["/help", "  /clear", "/home/x is broken", "exit", "QUIT ", ":q", ":wq\n"]) {
    const { form, sent } = encoded(text);
    assert.equal(form, "prefixed", text);
    assert.ok(sent.endsWith(`\n${text}`));
  }
});

test("texts that only look like commands stay exact", () => {
  const exact = [
    "!ls",
    "#note",
    "-p",
    "--help",
    "@file",
    "exit the loop",
    "a\n/help",
    "x\\",
    " x ",
  ];
  for (const text of exact)
    assert.deepEqual([encoded(text).form, encoded(text).sent], ["exact", text]);
  assert.ok(QUIT_WORDS.size > 3);
});

test("a text too large for one argument is given as a file, and its reference names that file", () => {
  const text = `${"x".repeat(130_000)}é`;
  const { form, sent, file } = encoded(text);
  assert.equal(form, "file");
  assert.equal(file, text);
  assert.match(sent, /^Read the file \/home\/dev\/\.orchestrator\/runs\/run-1\/message-3 and do/);
  assert.match(sent, /130002 bytes, SHA-256 [0-9a-f]{64}/);
});

test("a text with characters that the CLI would alter is given as a file", () => {
  for (const text of [
    "a\u0007b",
    "a\u200bb",
    "x\ufe0f",
    "a\rb",
    "a\u2028b",
    "\u202eabc",
    "a\u00adb",
  ])
    assert.equal(encoded(text).form, "file", JSON.stringify(text));
  assert.equal(encoded("/x \u0007").file, "/x \u0007");
});

test("emoji, joiners within words, line ends and any visible text stay exact", () => {
  const exact = [
    "❤️ ☑️ 1️⃣ 👩‍💻 🏳️‍🌈 👨‍👩‍👧‍👦 👍🏽 🇩🇪 🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
  ];
  exact.push("می‌خواهم", "क्‍ष", "a\r\nb", "\ta\n\n", "e\u0301 \u00a0 \ufffd \ue0b0");
  for (const text of exact) assert.equal(encoded(text).form, "exact", JSON.stringify(text));
});

const input: LaunchInput = {
  runId: "run-1",
  launch: 1,
  seq: 3,
  runtimeSessionId: "id",
  resume: false,
  message: encoded("go"),
  mode: "bypassPermissions",
  instructions: null,
  flags: ["--model", "opus"],
  cwd: "/home/dev/kite",
  home: "/home/dev",
  root: true,
  worker: "kite-1",
};

test("a first launch names the conversation, mode, settings and ends the flags", () => {
  const settings = "/home/dev/.orchestrator/runs/run-1/settings.json";
  const first = ["claude", "--session-id", "id", "--permission-mode", "bypassPermissions"];
  const rest = ["--settings", settings, "--model", "opus", "--"];
  assert.deepEqual(runtime.launch(input).argv, [...first, ...rest]);
});

test("standing instructions are given once, before what the operator adds to them", () => {
  const argv = (flags: readonly string[]) =>
    runtime.launch({ ...input, instructions: "commit often", flags, message: null }).argv.slice(7);
  const flag = "--append-system-prompt";
  assert.deepEqual(argv(["--model", "opus"]), [flag, "commit often", "--model", "opus"]);
  const both = "commit often\n\nspeak French";
  assert.deepEqual(argv([flag, "speak French", "-x"]), [flag, both, "-x"]);
  assert.deepEqual(argv([`${flag}=speak French`]), [flag, both]);
  assert.ok(!runtime.launch(input).argv.includes(flag));
});

test("a resumed launch continues the conversation, without a message if there is none", () => {
  const { argv } = runtime.launch({ ...input, resume: true, message: null });
  assert.deepEqual(argv.slice(1, 3), ["--resume", "id"]);
  assert.ok(!argv.includes("--"));
});

test("only root in the unattended mode says that it is in a sandbox", () => {
  assert.equal(runtime.launch(input).env["IS_SANDBOX"], "1");
  assert.equal(runtime.launch({ ...input, root: false }).env["IS_SANDBOX"], undefined);
  assert.equal(runtime.launch({ ...input, mode: "default" }).env["IS_SANDBOX"], undefined);
});

interface Settings {
  readonly hooks: Record<string, readonly { hooks: readonly { command: string }[] }[]>;
  readonly statusLine: { readonly command: string };
  readonly skipDangerousModePermissionPrompt?: boolean;
  readonly permissions?: { readonly allow: readonly string[] };
}
const settingsOf = (change: Partial<LaunchInput>) =>
  JSON.parse(runtime.launch({ ...input, ...change }).files["settings.json"] ?? "") as Settings;

test("the run's settings call our hook by absolute path for every event we read", () => {
  const { hooks, statusLine } = settingsOf({});
  assert.deepEqual(Object.keys(hooks), [...HOOK_EVENTS]);
  const command = hooks["Stop"]?.[0]?.hooks[0]?.command;
  assert.equal(command, "/home/dev/.orchestrator/bin/hook Stop");
  assert.equal(statusLine.command, "/home/dev/.orchestrator/bin/statusline kite-1");
});

test("a home with blanks and quotes is quoted for the shell that runs the hook", () => {
  const command = settingsOf({ home: "/home/a b'c" }).hooks["Stop"]?.[0]?.hooks[0]?.command;
  assert.equal(command, `'/home/a b'\\''c/.orchestrator/bin/hook' Stop`);
});

test("settings answer the warning of the unattended mode only for that mode", () => {
  assert.equal(settingsOf({}).skipDangerousModePermissionPrompt, true);
  assert.equal(settingsOf({ mode: "default" }).skipDangerousModePermissionPrompt, undefined);
});

test("only a message in a file may be read without asking, and only that file", () => {
  assert.equal(settingsOf({}).permissions, undefined);
  const message = encoded("x".repeat(130_000));
  const { permissions } = settingsOf({ message });
  assert.deepEqual(permissions?.allow, ["Read(//home/dev/.orchestrator/runs/run-1/message-3)"]);
});

test("flags that would take hooks, mode or conversation out of our hands are refused", () => {
  for (const flag of ["--settings", "--settings=/x", "--resume", "-p", "--", "--permission-mode"])
    assert.throws(() => runtime.launch({ ...input, flags: [flag] }), { code: "invalid_config" });
});

test("seeding answers onboarding, key and trust, and leaves the rest of the user's file", () => {
  const auth = { kind: "api-key", last20: "k" } as const;
  const [state, ...others] = runtime.seed({ cwd: "/w/kite", mode: "default", auth });
  assert.equal(state?.path, ".claude.json");
  assert.deepEqual(others, []);
  const current = {
    numStartups: 4,
    customApiKeyResponses: { approved: ["a"], rejected: ["k", "r"] },
    projects: { "/other": { x: 1 }, "/w/kite": { allowedTools: ["t"] } },
  };
  assert.deepEqual(state?.merge(current), {
    numStartups: 4,
    hasCompletedOnboarding: true,
    customApiKeyResponses: { approved: ["a", "k"], rejected: ["r"] },
    projects: {
      "/other": { x: 1 },
      "/w/kite": { allowedTools: ["t"], hasTrustDialogAccepted: true },
    },
  });
});

const signalsOf = (event: string, payload: Readonly<Record<string, unknown>>) =>
  runtime.signals({ run: "run-1", launch: 1, source: "hook", event, at: 1, up: 1, payload });

const hooks: readonly (readonly [string, string, object, readonly Partial<Signal>[]])[] = [
  ["a compaction within a turn", "SessionStart", { source: "compact" }, []],
  [
    "a cleared conversation",
    "SessionStart",
    { source: "clear", session_id: "s2" },
    [{ kind: "session_started", how: "clear", runtimeSessionId: "s2", transcriptPath: null }],
  ],
  ["the end of a cleared conversation", "SessionEnd", { reason: "clear" }, []],
  ["an exit", "SessionEnd", { reason: "other" }, [{ kind: "session_ended", why: "other" }]],
  [
    "a background report",
    "UserPromptSubmit",
    { prompt: "<task-notification>x" },
    [{ kind: "prompt_submitted", text: "<task-notification>x", foreign: false }],
  ],
  ["a tool of a subagent", "PreToolUse", { tool_name: "Bash", agent_id: "a1" }, []],
  [
    "the end of a subagent",
    "Stop",
    { hook_event_name: "Stop", agent_id: "a1", background_tasks: [] },
    [],
  ],
  [
    "a question of a subagent",
    "PermissionRequest",
    { tool_name: "Bash", agent_id: "a1" },
    [{ kind: "permission_asked", what: "Bash" }],
  ],
  [
    "an end with work in the background",
    "Stop",
    {
      hook_event_name: "Stop",
      background_tasks: [{}],
      session_crons: [{}],
      last_assistant_message: "m",
    },
    [{ kind: "turn_ended", background: 2, summary: "m" }],
  ],
  [
    "an end whose payload was lost",
    "Stop",
    {},
    [{ kind: "activity", what: "end of a turn, unreadable" }],
  ],
  ["an idle reminder", "Notification", { notification_type: "idle_prompt" }, []],
  [
    "a reminder of a permission that may be given by now",
    "Notification",
    { notification_type: "permission_prompt" },
    [],
  ],
  [
    "a need for input",
    "Notification",
    { notification_type: "agent_needs_input" },
    [{ kind: "input_asked", what: "agent_needs_input" }],
  ],
  [
    "a rate limit",
    "StopFailure",
    { error: "rate_limit", last_assistant_message: "later" },
    [{ kind: "turn_failed", error: "rate_limit", detail: "later", retryable: true }],
  ],
  [
    "a dead credential",
    "StopFailure",
    { error: "authentication_failed" },
    [{ kind: "turn_failed", error: "authentication_failed", detail: "", retryable: false }],
  ],
  [
    "an error never heard of",
    "StopFailure",
    { error: "constructor" },
    [{ kind: "turn_failed", error: "constructor", detail: "", retryable: false }],
  ],
  [
    "the cost so far",
    "StatusLine",
    { cost: { total_cost_usd: 0.25 } },
    [{ kind: "cost", usd: 0.25 }],
  ],
  ["a cost below zero", "StatusLine", { cost: { total_cost_usd: -1 } }, []],
  ["a prompt that is no text", "UserPromptSubmit", { prompt: 5 }, []],
];

for (const [what, event, payload, signals] of hooks) {
  test(`hook ${event}: ${what}`, () => {
    assert.deepEqual(signalsOf(event, { ...payload }), signals);
  });
}

const screens = join(import.meta.dirname, "..", "fixtures", "screens", "claude", TESTED_VERSION);
const noDialog = new Set(["idle", "working"]);
const shared: Readonly<Record<string, string>> = {
  "permission-bash": "permission",
  "permission-fetch": "permission",
  "permission-read": "permission",
  "permission-write": "permission",
  "settings-error": "settings-warning",
};

for (const file of readdirSync(screens)) {
  const name = file.replace(".txt", "");
  test(`the recorded screen ${name} is recognised`, () => {
    const match = runtime.dialog(readFileSync(join(screens, file), "utf8"));
    const wanted = noDialog.has(name) ? undefined : (shared[name] ?? name);
    assert.equal(match?.id, wanted);
  });
}

test("words of a dialog in the conversation are no dialog", () => {
  const idle = readFileSync(join(screens, "idle.txt"), "utf8");
  const trust = readFileSync(join(screens, "workspace-trust.txt"), "utf8");
  assert.equal(runtime.dialog(`${trust}\n${idle}`), null);
});

test("usage counts each message once, with its last line, and skips what it does not know", () => {
  const usage = { input_tokens: 10, output_tokens: 5, cache_read_input_tokens: 3 };
  const assistant = (id: string, change: object = {}) =>
    JSON.stringify({ type: "assistant", message: { id, model: "m", usage, ...change } });
  const lines = [
    assistant("a", { usage: { ...usage, output_tokens: 1 } }),
    assistant("a"),
    assistant("b", { model: "<synthetic>" }),
    assistant("c", { usage: { input_tokens: "x", cache_creation_input_tokens: 7 } }),
    "{broken",
    JSON.stringify({ type: "user", message: { id: "z", usage } }),
    JSON.stringify({ type: "cost-state", totalCostUSD: 0.5 }),
    JSON.stringify({ type: "cost-state", totalCostUSD: 0.75 }),
  ];
  assert.deepEqual(runtime.usage(lines.join("\n")), {
    inputTokens: 10,
    outputTokens: 5,
    cacheReadTokens: 3,
    cacheWriteTokens: 7,
    costUsd: 0.75,
    model: "m",
  });
});

test("only what arrives exactly may be pasted into the live window", () => {
  for (const text of ["go on", 'two\nlines, `$(x)` "q" 👩‍👩‍👧 #3 @me', "x".repeat(800)]) {
    assert.equal(runtime.refusePaste(text), null, text);
  }
  const refused = ["", "/help", " !ls", "exit", "tab\there", "end\\", "a\n", "a\nb\nc\nd"];
  for (const text of [...refused, "x".repeat(801), "\u200bhidden", "a\r\nb"]) {
    assert.notEqual(runtime.refusePaste(text), null, JSON.stringify(text));
  }
});

test("the prompts of a transcript are what was submitted, byte for byte, and nothing else", () => {
  const line = (content: unknown, more = {}) =>
    JSON.stringify({ type: "user", message: { role: "user", content }, ...more });
  const transcript = [
    line("\t first \n\n"),
    line([{ type: "tool_result", content: "x" }]),
    line("a caveat", { isMeta: true }),
    line("of a subagent", { isSidechain: true }),
    JSON.stringify({ type: "assistant", message: { content: 'says "user"' } }),
    '{"type":"user","mess',
    line("second"),
  ].join("\n");
  assert.deepEqual(runtime.prompts(transcript), ["\t first \n\n", "second"]);
});
