import assert from "node:assert/strict";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { NOUNS } from "../../src/cli/nouns.ts";
import type { CommandSpec } from "../../src/cli/spec.ts";
import type { CheckView } from "../../src/operations/views.ts";
import { EXIT_CODES, OrchestratorError, type ErrorCode } from "../../src/domain/errors.ts";
import { OPERATIONS } from "../../src/operations/registry.ts";
import { cli, jsonLines, socketOf, type CliSetting } from "../support/cli.ts";
import { fakeController, temporaryHome, type Handler } from "../support/fake-services.ts";
import { event, LIMIT, POOL, RECOVERED, RUN, SENT, SNAPSHOT, WORKER } from "../support/views.ts";

const PLAN = { kind: "use", worker: "kite-1", reason: "idle", considered: [] };

const ANSWERED = {
  run: RUN,
  question: {
    id: "0123456789ab",
    kind: "permission",
    text: ["Bash command", "touch made"],
    options: [
      { number: 1, label: "Yes", role: "allow" },
      { number: 2, label: "No", role: "deny" },
    ],
  },
  chosen: null,
  keys: [],
  evidence: null,
};

const HISTORY = {
  run_id: RUN.run_id,
  state: "completed",
  reason: null,
  created_at: RUN.created_at,
  finished_at: null,
  messages: RUN.messages,
};

const CHECK: CheckView = {
  workers: [
    {
      worker: "kite-1",
      repo: "kite",
      window: "agent:running",
      status: "running",
      source: "hook",
      reason: "in a turn",
      age_ms: 1_000,
      run_id: RUN.run_id,
      machine: "running",
      was: "agent:waiting",
      found: ["corrected"],
      changed: true,
    },
  ],
  counts: {
    workers: 1,
    read: 1,
    asleep: 0,
    unreachable: 0,
    left_alone: 0,
    missing: 0,
    changed: 1,
    corrected: 1,
    repaired: 0,
  },
  ms: 12,
  log: "/var/log/orchestrator-status.log",
  log_refused: null,
};

const ANSWERS: Readonly<Record<string, Handler>> = {
  dispatch: () => ({ run: RUN, replayed: false }),
  "dispatch.plan": () => PLAN,
  "run.list": () => [RUN],
  "run.show": () => RUN,
  "run.wait": () => RUN,
  "run.diff": () => ({ diff: "diff --git a b\n" }),
  "run.snapshots": () => [SNAPSHOT],
  "run.recover": () => RECOVERED,
  "run.logs": () => ({ text: "== clone\nok\n" }),
  async *"run.follow"() {
    yield { at: 1, source: "agent", text: "1 Stop" };
  },
  "run.cancel": () => ({ ...RUN, state: "cancelling" }),
  "run.retry": () => RUN,
  "run.resume": () => RUN,
  send: () => SENT,
  "run.answer": () => ANSWERED,
  "run.interrupt": () => ({ run: RUN, keys: ["Escape"], evidence: "registry: idle" }),
  "worker.list": () => [WORKER],
  "worker.show": () => WORKER,
  "worker.create": () => WORKER,
  "worker.setup": () => WORKER,
  "worker.busy": () => ({ busy: true, reason: "a run" }),
  "worker.exec": () => ({ code: 0, stdout: "hi\n", stderr: "", truncated: false }),
  "worker.attach": () => ({ argv: ["tmux"], env: {}, command: "tmux attach" }),
  "worker.console": () => ({ argv: ["sh"], env: {}, command: "sh" }),
  "worker.send": () => ({ worker: "kite-1", window: "@0 shell", kind: "typed", run: null }),
  "worker.history": () => [HISTORY],
  check: () => CHECK,
  "worker.destroy": () => WORKER,
  "worker.trust": () => ({ trusted: "mini", fingerprint: `SHA256:${"A".repeat(43)}` }),
  "worker.cordon": () => ({ ...WORKER, cordoned: true }),
  "worker.uncordon": () => WORKER,
  "worker.drain": () => ({ ...WORKER, draining: true }),
  "worker.reset": () => WORKER,
  "worker.rescue": () => ({
    ...WORKER,
    rescued_run: "run-1",
    snapshot: null,
    skipped: ["secret .env"],
  }),
  "worker.adopt": () => WORKER,
  "limit.list": () => [LIMIT],
  "limit.clear": () => LIMIT,
  "pool.list": () => [POOL],
  "pool.pause": () => POOL,
  "pool.resume": () => POOL,
  status: () => ({ workers: [WORKER], runs: [RUN], limits: [LIMIT], paused: [POOL] }),
  "events.read": () => [event("run.status", { status: "running" })],
  async *"events.follow"() {
    yield event("run.delivered", { receipt: "accepted" });
  },
  "controller.ping": () => ({
    pid: 1,
    version: "0.1.0",
    fleet_id: "f",
    started_at: 0,
    live_runs: 0,
  }),
};

async function asked(
  argv: readonly string[],
  setting: Partial<CliSetting> = {},
  handlers = ANSWERS,
) {
  await using home = await temporaryHome();
  await mkdir(join(home.path, "o"), { mode: 0o700 });
  const controller = await fakeController(socketOf(home.path), handlers);
  try {
    const result = await cli(argv, { home: home.path, ...setting });
    return { ...result, calls: [...controller.calls] };
  } finally {
    await controller.stop();
  }
}

const allSpecs = async (): Promise<CommandSpec[]> => {
  const loaded = await Promise.all(NOUNS.map((noun) => noun.load()));
  return [...new Map(loaded.flat().map((spec) => [spec.path, spec])).values()];
};

/** Command lines that together give every field of every operation. */
const LINES: ReadonlyArray<readonly string[]> = [
  [
    "--repo",
    "kite",
    "--command",
    "x",
    "--title",
    "t",
    "--worker",
    "kite-1",
    "--runtime",
    "shell",
    "--mode",
    "m",
    "--on-full",
    "fail",
    "--request-id",
    "r",
  ],
  ["dispatch", "--repo", "kite", "--worker", "kite-1", "--dry-run"],
  ["run", "list", "--repo", "kite", "--live", "--limit", "5"],
  ["run", "show", "run-1"],
  ["run", "wait", "run-1", "--timeout", "5m", "--until", "settled"],
  ["run", "diff", "run-1"],
  ["run", "logs", "run-1", "--lines", "10"],
  ["run", "logs", "-f", "run-2"],
  ["run", "recover", "run-1", "--list"],
  ["run", "recover", "run-1", "--snapshot", "7", "--to", "./rescued"],
  ["run", "recover", "run-1", "--to", "rescued-work", "--push"],
  ["run", "cancel", "run-1"],
  ["run", "retry", "run-1", "--request-id", "r"],
  ["run", "resume", "run-1", "--command", "go on"],
  ["send", "kite-1", "--command", "x", "--live", "--request-id", "r"],
  ["answer", "run-1", "deny", "--because", "no", "--question", "0123456789ab"],
  ["interrupt", "kite-1"],
  ["worker", "list", "--repo", "kite", "--all"],
  ["worker", "show", "kite-1"],
  ["worker", "create", "--repo", "kite"],
  ["worker", "setup", "kite-1", "--create"],
  ["worker", "allocate", "kite"],
  ["worker", "send", "kite-1", "shell", "git status", "--request-id", "r"],
  ["worker", "logs", "kite-1", "--lines", "5"],
  ["worker", "history", "kite-1", "--limit", "5"],
  ["worker", "console", "kite-1", "--print"],
  ["console", "-s", "kite-1", "--print"],
  ["exec", "-s", "kite-1", "--timeout", "5s", "--", "ls", "-la", "--json"],
  ["check", "kite-1", "kite"],
  ["worker", "busy", "kite-1"],
  ["worker", "exec", "kite-1", "--timeout", "5s", "--", "ls", "-la", "--json"],
  ["worker", "destroy", "kite-1"],
  ["worker", "trust", "kite-1", "--host-key", `SHA256:${"A".repeat(43)}`],
  ["worker", "cordon", "kite-1"],
  ["worker", "uncordon", "kite-1"],
  ["worker", "drain", "kite-1", "--wait", "--destroy", "--timeout", "2h"],
  ["worker", "reset", "kite-1"],
  ["worker", "rescue", "kite-1"],
  ["worker", "adopt", "kite-1"],
  ["worker", "attach", "kite-1", "--print"],
  ["attach", "kite-1", "--print"],
  ["limit", "list", "--all"],
  ["limit", "clear", "limit-000000000001"],
  ["pool", "list"],
  ["pool", "pause", "kite", "--reason", "the registry is down"],
  ["pool", "resume", "kite"],
  ["status", "kite-1"],
  [
    "events",
    "--after",
    "7",
    "--run",
    "run-1",
    "--repo",
    "kite",
    "--kind",
    "run.",
    "--kind",
    "worker.gone",
    "--limit",
    "9",
  ],
  [
    "events",
    "--follow",
    "--new",
    "--after",
    "7",
    "--run",
    "run-1",
    "--repo",
    "kite",
    "--kind",
    "run.",
  ],
  ["ping"],
];

/** What would be there without any option proves nothing. */
function isDefault(op: string, field: string, value: unknown): boolean {
  const input = OPERATIONS.get(op)?.input;
  assert.ok(input instanceof z.ZodObject);
  const schema: z.ZodType | undefined = input.shape[field];
  const parsed = schema?.safeParse(undefined);
  return parsed?.success === true && isDeepStrictEqual(parsed.data, value);
}

test("every operation that names a command line has one, and every field of its input can be given", async () => {
  const specs = await allSpecs();
  const given = new Map<string, Set<string>>();
  for (const argv of LINES) {
    const { code, err, calls } = await asked(argv);
    assert.ok(code === 0, `${argv.join(" ")}: ${err}`);
    for (const { op, input } of calls) {
      const fields = given.get(op) ?? new Set();
      for (const [field, value] of Object.entries(input as object)) {
        if (value !== undefined && !isDefault(op, field, value)) fields.add(field);
      }
      given.set(op, fields);
    }
  }
  given.set("controller.stop", new Set());
  for (const operation of OPERATIONS.values()) {
    if (operation.cli === null) continue;
    const path = operation.cli.replace(/ --.*$/, "");
    assert.ok(
      specs.some((spec) => spec.path === path),
      `no command '${path}'`,
    );
    const fields = given.get(operation.id);
    assert.ok(fields, `${operation.id} was never called`);
    assert.ok(operation.input instanceof z.ZodObject);
    for (const field of Object.keys(operation.input.shape)) {
      assert.ok(fields.has(field), `${operation.id}: no option gives '${field}'`);
    }
  }
});

test("what an option says arrives as it was said", async () => {
  const { calls } = await asked([
    "worker",
    "exec",
    "kite-1",
    "--timeout",
    "1.5s",
    "--",
    "sh",
    "-c",
    "echo $(id) 'x'",
    "--json",
  ]);
  assert.deepEqual(calls[0]?.input, {
    worker: "kite-1",
    argv: ["sh", "-c", "echo $(id) 'x'", "--json"],
    timeout_ms: 1_500,
    tilde: true,
  });
  const events = await asked(["events", "--kind", "a.", "--kind=b"]);
  assert.partialDeepStrictEqual(events.calls[0]?.input, { kinds: ["a.", "b"] });
});

test("what a shell makes of ~ is the worker's home folder, unless it is to stay as it is", async () => {
  const env = { HOME: "/home/me" };
  const words = ["/home/me", "/home/me/.claude/x", "~/y", "/home/media", "a/home/me/b", "--"];
  for (const line of [
    ["worker", "exec", "kite-1", "--", ...words],
    ["exec", "-s", "kite-1", "--", ...words],
  ]) {
    const { calls } = await asked(line, { env });
    assert.deepEqual(calls[0]?.input, {
      worker: "kite-1",
      argv: ["~", "~/.claude/x", "~/y", "/home/media", "a/home/me/b", "--"],
      timeout_ms: 60_000,
      tilde: true,
    });
  }
  const asIs = await asked(["exec", "-s", "kite-1", "--as-is", "--", ...words], { env });
  assert.partialDeepStrictEqual(asIs.calls[0]?.input, { argv: words, tilde: false });
});

test("a message for the agent's window is followed when it is a run of its own, and has its receipt else", async () => {
  const message = (seq: number, receipt: string) => ({ ...RUN.messages[0], seq, receipt });
  const line = ["worker", "send", "kite-1", "agent", "go on"];
  const sent = (seq: number, receipt: string) => ({
    ...ANSWERS,
    "worker.send": () => ({
      worker: "kite-1",
      window: "agent",
      kind: "message",
      run: { ...RUN, message: message(seq, receipt) },
    }),
  });
  const queued = await asked(line, {}, sent(2, "queued"));
  assert.deepEqual([queued.code, queued.err], [0, ""]);
  assert.match(queued.out, /receipt: queued: the agent gets it at the end of its turn/);
  assert.equal((await asked(line, {}, sent(2, "unknown"))).code, 6);
  const own = await asked(line, {}, sent(1, "queued"));
  assert.match(own.out, /^delivered accepted/m);
  assert.equal(own.code, 0);
});

test("a check shows what changed; silent it shows nothing", async () => {
  const shown = await asked(["check"]);
  assert.match(shown.out, /^WORKER .*\nkite-1 .*agent:waiting -> agent:running .*corrected/);
  const silent = await asked(["check", "--silent"]);
  assert.deepEqual([silent.code, silent.out, silent.err], [0, "", ""]);
  const refused = { ...CHECK, log_refused: "/x (EACCES)" };
  const handlers = { ...ANSWERS, check: () => refused };
  assert.match((await asked(["check"], {}, handlers)).err, /^warning: \/x \(EACCES\) cannot/);
});

test("--json is parseable on every command, whatever comes back", async () => {
  const hostile = '\u001b]0;x\u0007 \u2028 \u200b "quoted" \\ \n second';
  const handlers: Readonly<Record<string, Handler>> = {
    ...ANSWERS,
    "run.show": () => ({ ...RUN, task: hostile, state_reason: hostile }),
    status: () => ({ workers: [{ ...WORKER, reason: hostile }], runs: [] }),
    "events.read": () => [event(hostile, { hostile })],
  };
  for (const argv of LINES) {
    if (argv.includes("--print")) continue;
    const withJson = argv.includes("--")
      ? [...argv.slice(0, argv.indexOf("--")), "--json", "--", "ls"]
      : [...argv, "--json"];
    const { out, err } = await asked(withJson, {}, handlers);
    assert.ok(jsonLines(out).length > 0, withJson.join(" "));
    assert.equal(err, "");
    assert.doesNotMatch(out.replaceAll("\n", ""), /\p{Cc}/u);
  }
});

test("each error code ends the program with its exit code, in words and as JSON", async () => {
  for (const [code, exitCode] of Object.entries(EXIT_CODES) as Array<[ErrorCode, number]>) {
    const handlers = {
      "run.show": () => {
        throw new OrchestratorError(code, "not so", { hint: "do this", details: { a: 1 } });
      },
    };
    const words = await asked(["run", "show", "run-1"], {}, handlers);
    assert.deepEqual(
      [words.code, words.out, words.err],
      [exitCode, "", "error: not so\nhint: do this\n"],
    );
    const json = await asked(["run", "show", "run-1", "--json"], {}, handlers);
    assert.equal(json.code, exitCode);
    assert.deepEqual(jsonLines(json.out), [
      { error: { code, message: "not so", hint: "do this", retryable: false, details: { a: 1 } } },
    ]);
  }
});

const HOSTILE_NAMES = [
  "",
  " ",
  "..",
  "../etc",
  "a/b",
  "Kite",
  "-kite",
  "kite;id",
  "kite$(id)",
  "#(touch x)",
  "#{pane}",
  "kite\nid",
  "kite\0",
  "kite\u200b",
  "\u202ekite",
  "kite\u001b[2J",
  "k".repeat(41),
  "kité",
  "*",
];

test("wrong names are refused with exit code 2, one clear line, before a controller is asked or started", async () => {
  const lines: ReadonlyArray<(name: string) => readonly string[]> = [
    (name) => ["--repo", name, "--command", "x"],
    (name) => [`--repo=${name}`, "--command=x"],
    (name) => ["--repo", "kite", "--worker", name, "--command", "x"],
    (name) => ["send", "--command", "x", "--", name],
    (name) => ["run", "show", "--", name],
    (name) => ["run", "cancel", "--", name],
    (name) => ["status", "--", name],
    (name) => ["answer", "--", name],
    (name) => ["interrupt", "--", name],
    (name) => ["worker", "show", "--", name],
    (name) => ["worker", "create", "--repo", name],
    (name) => ["worker", "allocate", "--", name],
    (name) => ["worker", "history", "--", name],
    (name) => ["worker", "send", "--", name, "shell", "x"],
    (name) => ["worker", "console", "--", name],
    (name) => ["exec", `--worker=${name}`, "--", "ls"],
    (name) => ["check", "--", ...(name === "" ? ["kite-1"] : []), name || "A", "kite"],
    (name) => ["attach", "--", name],
    (name) => ["repo", "add", "--url", "x", "--", name],
  ];
  await using home = await temporaryHome();
  for (const name of HOSTILE_NAMES) {
    for (const line of lines) {
      // No controller is there and none can be started: to ask for one would be exit code 7.
      const { code, out, err } = await cli(line(name), { home: home.path });
      const said = JSON.stringify(line(name));
      assert.equal(code, 2, `${said}: ${err}`);
      assert.match(err, /^error: [^\n]+\n(hint: [^\n]+\n)?$/, said);
      assert.doesNotMatch(err.replaceAll("\n", ""), /[\p{Cc}\u200b\u202e]/u);
      assert.equal(out, "");
    }
  }
  assert.deepEqual(await readdir(home.path), []);
});

const USAGE: ReadonlyArray<readonly [readonly string[], RegExp]> = [
  [["statsu"], /unknown command 'statsu'\nhint: Did you mean status\?/],
  [["run", "shwo", "run-1"], /unknown command 'shwo'\nhint: Did you mean show\?/],
  [["run", "list", "--lmit", "3"], /unknown option '--lmit'\nhint: Did you mean --limit\?/],
  [["run", "list", "--limit"], /argument missing\nhint: for example: orchestrator run list/],
  [["run", "list", "--limit", "many"], /--limit "many" is no whole number from 1/],
  [["run", "list", "--limit", "0"], /no whole number from 1/],
  [["run", "show"], /missing required argument 'run'\nhint: for example: orchestrator run show/],
  [["run", "show", "run-1", "run-2"], /too many arguments/],
  [["run", "wait", "run-1", "--until", "never"], /Allowed choices are delivered, settled, ended/],
  [
    ["run", "wait", "run-1", "--timeout", "soon"],
    /--timeout "soon" is no time\nhint: write for example 90s/,
  ],
  [["--repo", "kite", "--command", "x", "--on-full", "cry"], /Allowed choices are queue, fail/],
  [["--json", "status"], /--repo is missing|is not expected here/],
  [["worker", "exec", "kite-1", "ls", "-la"], /unknown option '-la'/],
  [["exec", "--", "ls"], /-s is missing/],
  [["worker", "send", "kite-1", "shell"], /missing required argument 'text'/],
  [["worker", "send", "kite-1", "a b", "x"], /window: a window's name, index or id/],
  [["run", "recover", "run-1"], /--to is missing\nhint: for example: orchestrator run recover/],
  [["run", "recover", "run-1", "--to", "./x", "--push"], /--push goes with a branch/],
  [["run", "recover", "run-1", "--snapshot", "first", "--to", "x"], /no whole number from 1/],
  [
    ["worker", "create"],
    /--repo is missing\nhint: for example: orchestrator worker create --repo kite/,
  ],
  [
    ["repo", "add", "kite"],
    /--url is missing\nhint: for example: orchestrator repo add kite --url/,
  ],
];

test("wrong command lines are told what is wrong, with a suggestion or an example", async () => {
  for (const [argv, message] of USAGE) {
    const { code, err, calls, out } = await asked(argv);
    assert.equal(code, 2, argv.join(" "));
    assert.match(argv.includes("--json") ? out : err, message, argv.join(" "));
    assert.match(argv.includes("--json") ? out : err, /hint/, `${argv.join(" ")}: the next step`);
    assert.deepEqual(calls, []);
  }
});

/** Words of a line as a shell reads them; only what examples need. */
const wordsOf = (line: string): string[] =>
  [...line.matchAll(/'([^']*)'|"([^"]*)"|([^\s'"]+)/g)].map(([, a, b, c]) => a ?? b ?? c ?? "");

test("every command has a summary and examples, and every example is a command line that means it", async () => {
  const { readCarefully } = await import("../../src/cli/help.ts");
  let walked = 0;
  for (const noun of NOUNS) {
    assert.match(noun.summary, /^\S.{8,}$/, noun.name);
    const specs = await noun.load();
    for (const spec of specs.filter(({ path }) => path.split(" ")[0] === noun.name)) {
      assert.match(spec.summary, /^[A-Z].{15,}[^.]$/, spec.path);
      for (const field of [...(spec.options ?? []), ...(spec.arguments ?? [])])
        assert.match(field.help, /^\S.{3,}/, `${spec.path} ${field.name}`);
      for (const example of spec.examples) {
        const inner = /\$\((orchestrator[^)]*)\)/.exec(example)?.[1];
        const part =
          inner ?? example.split(/ [|>] /).find((text) => text.startsWith("orchestrator"));
        const [program, ...words] = wordsOf(part ?? "");
        assert.equal(program, "orchestrator", example);
        const given = words[0]?.startsWith("-") === true ? ["dispatch", ...words] : words;
        const reading = readCarefully(given, NOUNS, specs);
        assert.ok(reading.kind === "run", example);
        assert.equal(reading.spec.path, spec.path, example);
        walked += 1;
      }
    }
  }
  assert.ok(walked > 50, `${walked} examples`);
});

test("help is there for every command, with examples that are commands themselves", async () => {
  const top = await asked(["--help"]);
  assert.equal(top.code, 0);
  for (const noun of NOUNS) {
    const shown = new RegExp(`^ {2}${noun.name}\\b(?!-)`, "m").test(top.out);
    assert.equal(shown, noun.hidden !== true, noun.name);
  }
  for (const spec of await allSpecs()) {
    const { code, out, err } = await asked([...spec.path.split(" "), "--help"]);
    assert.equal(code, 0, err);
    assert.match(out, /\nExamples:\n {2}\S/, spec.path);
    for (const option of spec.options ?? []) assert.match(out, new RegExp(`--${option.name}\\b`));
    assert.deepEqual(await asked(["help", ...spec.path.split(" ")]).then((help) => help.out), out);
    assert.ok(
      spec.examples.some(
        (line) => line.includes(`orchestrator ${spec.path}`) || spec.path === "dispatch",
      ),
      spec.path,
    );
  }
  const nothing = await asked([]);
  assert.equal(nothing.code, 2);
  assert.match(nothing.err, /Usage: orchestrator/);
  const half = await asked(["run"]);
  assert.equal(half.code, 2);
  assert.match(half.err, /Usage: orchestrator run/);
});

test("the version is printed without a controller", async () => {
  const { code, out, calls } = await asked(["--version"]);
  assert.deepEqual([code, out, calls], [0, "0.1.0\n", []]);
});

test("a refused answer shows the screen that was not identified, cleaned", async () => {
  const screen = "Pay now?\n❯ 1. Yes\u001b[2J\u202e";
  const handlers = {
    "run.answer": () => {
      throw new OrchestratorError("needs_person", "no key was pressed", { details: { screen } });
    },
  };
  const { code, out, err } = await asked(["answer", "run-1", "allow"], {}, handlers);
  assert.deepEqual([code, out], [8, ""]);
  assert.equal(err, "| Pay now?\n| ❯ 1. Yes\nerror: no key was pressed\n");
});

test("an open question is shown with its options and what to type", async () => {
  const { code, out, calls } = await asked(["answer", "run-1"]);
  assert.equal(code, 0);
  assert.match(out, /\| touch made\n {2}1 {2}Yes \(allow\)\n {2}2 {2}No \(deny\)\nanswer it with/);
  assert.match(JSON.stringify(calls[0]?.input), /"by":"[^"]+@[^"]+"/);
});
