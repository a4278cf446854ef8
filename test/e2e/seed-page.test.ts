import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { checkConfig } from "../../src/config/load.ts";
import { parseWindowName } from "../../src/domain/status.ts";
import { MAIN } from "../support/controller-process.ts";
import { installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

/*
 * The page that this project was asked for by: every command line on it is run as it is written there, with our program's name where Fly's
 * own stands. A line that nobody expects fails the test.
 */

const ROOT = join(import.meta.dirname, "..", "..");
const PAGE = readFileSync(
  join(ROOT, "test", "fixtures", "seed", "sprite-orchestrator-skill.md"),
  "utf8",
).split("\n");

const FILLED: ReadonlyArray<readonly [string, string]> = [
  ["<name>", "kite"],
  ["<task>", "say hello"],
  ["<sprite>", "kite-1"],
  ["<repo>", "kite"],
  ["<window>", "shell"],
  ["<cmd>", "'echo sent > ~/sent'"],
  ["--repo X", "--repo kite"],
  ['"Y"', '"write a test"'],
];

/** The page's command lines, in its order. */
const LINES = PAGE.flatMap((line) => {
  const isCommand = /^(\/orchestrator|sprite|tmux|~\/\S+\.sh|[a-z-]+\.sh) /.test(line);
  if (!isCommand) return [];
  const written = /^[a-z-]+\.sh /.test(line) ? (line.split(" | ")[0] ?? line) : line;
  const own = written
    .replace(/^\/orchestrator /, "orchestrator ")
    .replace(/^sprite /, "orchestrator ");
  return [FILLED.reduce((text, [from, to]) => text.replaceAll(from, to), own)];
});

test("the page has the command lines that this test knows", () => {
  assert.deepEqual(LINES, [
    'orchestrator --repo kite --command "say hello"',
    'orchestrator --repo kite --command "fix the authentication bug"',
    'orchestrator --repo kite --command "add user login endpoint"',
    "orchestrator console -s kite-1",
    "tmux attach -t kite-dev",
    "orchestrator exec -s kite-1 -- cat ~/.claude/history.jsonl | tail -10",
    "~/.sprite-orchestrator/check-status-silent.sh kite-1 kite",
    'orchestrate.sh --repo kite --command "write a test"',
    "allocate-sprite.sh kite",
    "is-sprite-busy.sh kite-1",
    "send-to-worker.sh kite-1 shell 'echo sent > ~/sent'",
    "setup-worker.sh kite-1 kite",
    'orchestrator --repo kite --command "refactor the auth module"',
  ]);
});

test("its window names are ours, and its log is where ours is", () => {
  const names = PAGE.flatMap((line) => /^(agent:\w+) \|/.exec(line)?.[1] ?? []);
  assert.deepEqual(names.map(parseWindowName), ["waiting", "running", "completed", "error"]);
  const log = PAGE.find((line) => line.startsWith("# Logs to: "))?.slice("# Logs to: ".length);
  assert.equal(checkConfig({}, "defaults").check.log, log);
});

test("every command line of the page works as it is written", { timeout: 240_000 }, async () => {
  await using place = await prepared();
  const { run, path } = place;
  const done: string[] = [];
  const next = (program: string) => {
    const line = LINES[done.length] ?? "";
    assert.ok(line.startsWith(`${program} `), `${line} is not expected here`);
    done.push(line);
    return line;
  };
  const settled = async () => {
    const ended = await run("orchestrator run wait latest --timeout 60s");
    assert.equal(ended.code, 0, ended.out);
  };

  for (const isNew of [true, false, false]) {
    const { code, out } = await run(next("orchestrator"));
    assert.equal(code, 0, out);
    assert.match(out, isNew ? /^worker +kite-1 \(new\): /m : /^worker +kite-1: /m);
    assert.match(out, /^delivered accepted/m);
    await settled();
  }

  // One types the second of these two into what the first one opens.
  const console_ = spawn("script", ["-qec", next("orchestrator"), "/dev/null"], {
    env: { ...place.env, TERM: "xterm" },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const over = new Promise((resolve) => console_.once("exit", resolve));
  console_.stdin.write(`${next("tmux")}\n`);
  const clients = "orchestrator worker exec kite-1 -- tmux -u list-clients -t =kite-dev";
  await until(async () => (await run(clients)).out !== "", {
    what: "the operator",
    timeoutMs: 30_000,
  });
  assert.equal((await run("is-sprite-busy.sh kite-1")).code, 0, "an operator is attached");
  await run("orchestrator worker exec kite-1 -- tmux -u detach-client -s =kite-dev");
  console_.stdin.end("exit\n");
  assert.equal(await over, 0);

  const history = await run(next("orchestrator"));
  assert.deepEqual(
    history.out
      .trimEnd()
      .split("\n")
      .map((line) => (JSON.parse(line) as { display: string }).display),
    ["say hello", "fix the authentication bug", "add user login endpoint"],
  );

  assert.equal((await run("orchestrator init --yes --credential none")).code, 0);
  const script = join(place.home, "check-status-silent.sh");
  assert.equal(statSync(script).mode & 0o777, 0o700);
  const checked = await run(next("~/.sprite-orchestrator/check-status-silent.sh"), {
    PATH: "/usr/bin:/bin",
  });
  assert.deepEqual([checked.code, checked.out], [0, ""]);
  const log = readFileSync(place.log, "utf8");
  assert.match(log, /kind=change worker=kite-1 window=agent:completed status=completed /);
  assert.match(log, /kind=sweep scope=kite-1 workers=1 read=1 /);
  assert.equal((await run(`${script} kite-1`)).code, 2);

  const orchestrated = await run(next("orchestrate.sh"));
  assert.deepEqual([orchestrated.code, /^delivered accepted/m.test(orchestrated.out)], [0, true]);
  await settled();
  assert.deepEqual(await run(next("allocate-sprite.sh")), { code: 0, out: "kite-1\n" });
  const busy = await run(next("is-sprite-busy.sh"));
  assert.deepEqual([busy.code, busy.out], [1, "not busy: idle\n"]);
  const sent = await run(next("send-to-worker.sh"));
  assert.deepEqual([sent.code, sent.out], [0, "typed into @0 shell of kite-1\n"]);
  await until(() => existsSync(path("sent")), { what: "the typed command" });
  const setUp = await run(next("setup-worker.sh"));
  assert.equal(setUp.code, 0, setUp.out);
  assert.match(setUp.out, /^worker +kite-1 .*\nstate +idle/);

  const example = await run(next("orchestrator"));
  assert.equal(example.code, 0, example.out);
  for (const shown of [
    /^worker +kite-1: /m,
    /^ {2}(ok|skipped) +\w+/m,
    /^watch +orchestrator attach kite-1$/m,
  ]) {
    assert.match(example.out, shown);
  }
  assert.deepEqual(done, LINES);
});

/** A person's home with the program, its scripts and an agent program in PATH, and nothing said about where our folder is. */
async function prepared() {
  const installed = installation();
  const person = installed.env["HOME"] ?? "";
  const bin = join(person, "bin");
  mkdirSync(bin);
  symlinkSync(installed.home, join(person, ".sprite-orchestrator"));
  symlinkSync(join(ROOT, "test", "fakes", "small-claude.sh"), join(bin, "claude"));
  writeFileSync(
    join(bin, "orchestrator"),
    `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`,
    {
      mode: 0o755,
    },
  );
  const log = join(person, "the-status.log");
  installed.configure({ runtime: "claude", maxWorkers: 1 }, { check: { log } });
  const env = {
    HOME: person,
    SHELL: "/bin/sh",
    PATH: `${bin}:${join(ROOT, "provision")}:${process.env["PATH"] ?? ""}`,
  };
  const run = (line: string, more: Readonly<Record<string, string>> = {}) =>
    new Promise<{ code: number | null; out: string }>((resolve) => {
      const child = spawn("sh", ["-c", `{ ${line}; } 2>&1`], {
        cwd: person,
        env: { ...env, ...more },
        stdio: ["ignore", "pipe", "inherit"],
      });
      let out = "";
      child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
      child.once("close", (code) => resolve({ code, out }));
    });
  return {
    env,
    home: join(person, ".sprite-orchestrator"),
    log,
    run,
    path: (name: string) => join(installed.homeOf("kite-1"), name),
    [Symbol.asyncDispose]: async () => {
      await run("orchestrator stop");
      await installed[Symbol.asyncDispose]();
    },
  };
}
