import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { openTrials } from "../../src/controller/trials.ts";
import type { Check } from "../../src/domain/check.ts";
import { readEnv } from "../../src/config/env.ts";
import { homePaths } from "../../src/config/paths.ts";
import { startMessagesApi } from "../fakes/messages-api.ts";
import { claudeCli, DUMMY_KEY } from "../support/claude-cli.ts";
import { cli, jsonLines } from "../support/cli.ts";
import { installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

const MAIN = join(import.meta.dirname, "..", "..", "src", "main.ts");
const claude = await claudeCli();

const quick = async (home: string, env: NodeJS.ProcessEnv = {}) => {
  const setting = { home, env };
  const trials = async () => {
    const read = readEnv({
      PATH: process.env["PATH"],
      HOME: home,
      ...env,
      ORCHESTRATOR_HOME: join(home, "o"),
    });
    return openTrials({ env: read, paths: homePaths(read.home), version: "0.1.0" });
  };
  const { code, out, err } = await cli(["doctor", "--quick", "--json"], { ...setting, trials });
  const lines = jsonLines(out);
  const summary = lines.at(-1) as { healthy: boolean; failed: string[]; warned: string[] };
  const checks = new Map(
    (lines.slice(0, -1) as unknown as Check[]).map((check) => [check.check, check]),
  );
  return { code, err, summary, checks };
};

async function folder() {
  const path = await mkdtemp(join(tmpdir(), "dr-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

test("on a fresh machine it warns, fails nothing and makes nothing", async () => {
  await using home = await folder();
  const { code, summary, checks } = await quick(home.path);
  assert.equal(code, 0);
  assert.deepEqual([summary.healthy, summary.failed], [true, []]);
  assert.deepEqual(
    [checks.get("home")?.state, checks.get("home")?.fix],
    ["warn", "orchestrator init"],
  );
  for (const name of ["node", "git", "tmux", "ssh", "sshd", "disk", "store", "controller"])
    assert.equal(checks.get(name)?.state, "ok", name);
  assert.deepEqual(readdirSync(home.path), []);
});

test("each thing that is wrong is a finding with its fix, and the exit code is 17", async () => {
  await using home = await folder();
  const own = join(home.path, "o");
  mkdirSync(own, { mode: 0o755 });
  chmodSync(own, 0o755);
  const seen = () => quick(home.path, { PATH: `${home.path}/bin`, GIT_SSH_COMMAND: "touch never" });
  writeFileSync(join(own, "config.yaml"), "repos:\n  kite: {url: /nowhere.git, colour: red}\n");
  const first = await seen();
  assert.equal(first.code, 17);
  for (const name of ["git", "tmux", "ssh"]) {
    assert.equal(first.checks.get(name)?.state, "fail", name);
    assert.match(first.checks.get(name)?.fix ?? "", /^install the package /);
  }
  assert.equal(first.checks.get("home")?.fix, `chmod 700 ${own}`);
  assert.match(first.checks.get("config")?.detail ?? "", /colour/);
  chmodSync(own, 0o700);

  writeFileSync(
    join(own, "config.yaml"),
    JSON.stringify({
      repos: {
        kite: {
          url: join(home.path, "nowhere.git"),
          auth: { kind: "api-key", secret: "env:ABSENT" },
        },
        wren: {
          url: "https://127.0.0.1:1/wren.git",
          runtime: "shell",
          git: { deployKey: "file:/nowhere/key" },
        },
      },
    }),
  );
  const second = await quick(home.path);
  assert.equal(second.code, 17);
  assert.deepEqual(second.summary.failed, [
    "repo kite",
    "repo wren",
    "credential kite",
    "credential wren",
  ]);
  assert.match(second.checks.get("credential kite")?.detail ?? "", /env:ABSENT is not set/);
  assert.match(
    second.checks.get("repo kite")?.detail ?? "",
    /nowhere\.git cannot be read: fatal: /,
  );
  for (const check of second.checks.values())
    assert.ok(
      check.state === "ok" || check.state === "skip" || check.fix !== undefined,
      check.check,
    );
});

test("an altered event far back in the log is found, and a good log is followed to its end", async () => {
  await using installed = installation();
  await installed.controller();
  await installed.stopController();
  const person = dirname(installed.home);
  const asked = async () => {
    const trials = async () =>
      openTrials({ env: readEnv(installed.env), paths: installed.paths, version: "0" });
    const { code, out } = await cli(["doctor", "--quick", "--json"], {
      home: person,
      trials,
      env: {},
    });
    return { code, checks: jsonLines(out) };
  };
  // The command line of tests keeps its home in `o`.
  const { cpSync } = await import("node:fs");
  const copy = () => cpSync(installed.home, join(person, "o"), { recursive: true, force: true });
  const run = await installed.dispatch("true");
  await installed.wait(run.run_id);
  await installed.stopController();
  copy();
  const good = (await asked()).checks.find(({ check }) => check === "store");
  assert.match(String(good?.["detail"]), /^\d+ events, the chain is whole$/);
  const database = new DatabaseSync(join(person, "o", "coordination.db"));
  database.exec("update events set payload = '{\"x\":1}' where seq = 2");
  database.close();
  const { code, checks } = await asked();
  const bad = checks.find(({ check }) => check === "store");
  assert.deepEqual([code, bad?.["state"]], [17, "fail"]);
  assert.match(String(bad?.["detail"]), /event 2/);
});

/** The real program, with a folder for temporary files of its own. */
function program(home: string, args: readonly string[], more: NodeJS.ProcessEnv = {}) {
  const env = {
    PATH: process.env["PATH"],
    HOME: home,
    TMPDIR: join(home, "t"),
    ORCHESTRATOR_HOME: join(home, "o"),
    ...more,
  };
  const child = spawn(process.execPath, [MAIN, ...args], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise<number | null>((resolve) =>
    child.once("close", (code) => resolve(code)),
  );
  return { child, ended, out: text(child.stdout), err: text(child.stderr) };
}

const left = (home: string) => readdirSync(join(home, "t"));

/** Processes that have something to do with this folder. */
function processesOf(home: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        const about = ["cmdline", "environ"].map((file) =>
          readFileSync(`/proc/${pid}/${file}`, "utf8"),
        );
        return about.join(" ").includes(home) ? [`${pid} ${about[0]?.replaceAll("\0", " ")}`] : [];
      } catch {
        return [];
      }
    });
}

const nothingLeft = (home: string) =>
  until(() => left(home).length === 0 && processesOf(home).length === 0, {
    what: `nothing left of ${home}`,
    timeoutMs: 40_000,
  }).catch((error: unknown) => {
    throw new Error(`${left(home).join()}\n${processesOf(home).join("\n")}`, { cause: error });
  });

test("the proof makes a worker, sees the message in the agent's own hook, destroys it, and leaves nothing", async () => {
  await using home = await folder();
  mkdirSync(join(home.path, "t"));
  const { ended, out, err } = program(home.path, ["doctor", "--json"]);
  const code = await ended;
  const lines = jsonLines(await out);
  assert.equal(code, 0, `${JSON.stringify(lines, null, 1)}\n${await err}`);
  const states = Object.fromEntries(lines.slice(0, -1).map(({ check, state }) => [check, state]));
  assert.partialDeepStrictEqual(states, {
    "proof worker": "ok",
    "proof delivered": "ok",
    "proof status": "ok",
    "proof destroy": "ok",
  });
  assert.match(JSON.stringify(lines), /the hook of the runtime shell showed 24 bytes, exact/);
  assert.match(JSON.stringify(lines), /"check":"pty","state":"(ok|warn)"/);
  await nothingLeft(home.path);
  assert.deepEqual(readdirSync(home.path), ["t"], "not even a home of its own");
});

for (const [how, signals, expected] of [
  ["Ctrl-C", ["SIGINT"], 130],
  ["a kill", ["SIGTERM"], 130],
  ["a kill that nothing can catch", ["SIGKILL"], null],
] as const) {
  test(`${how} in the middle of the proof leaves nothing behind`, async () => {
    await using home = await folder();
    mkdirSync(join(home.path, "t"));
    const { child, ended } = program(home.path, ["doctor", "--json"]);
    const worker = () =>
      left(home.path).some((name) => {
        const [made] = (() => {
          try {
            return readdirSync(join(home.path, "t", name, "h", "local"));
          } catch {
            return [];
          }
        })();
        return made !== undefined;
      });
    await until(worker, { what: "the worker", timeoutMs: 40_000 });
    for (const signal of signals) child.kill(signal);
    assert.equal(await ended, expected);
    if (expected === null) {
      // Whoever cleans up now has nobody to remove its folder: the next look does.
      await until(() => processesOf(home.path).length === 0, {
        what: "the end of all",
        timeoutMs: 40_000,
      });
      const old = new Date(Date.now() - 120_000);
      for (const name of left(home.path)) utimesSync(join(home.path, "t", name), old, old);
      await openTrials({
        env: readEnv({ HOME: home.path, ORCHESTRATOR_HOME: join(home.path, "o") }),
        paths: homePaths(join(home.path, "o")),
        version: "0",
      }).sweep(join(home.path, "t"), Date.now());
    }
    await nothingLeft(home.path);
  });
}

test("a link that looks like a trial's folder is not followed", async () => {
  await using home = await folder();
  mkdirSync(join(home.path, "t"));
  mkdirSync(join(home.path, "precious", "h", "local"), { recursive: true });
  symlinkSync(join(home.path, "precious"), join(home.path, "t", "so-doctor-link"));
  const { sweep } = openTrials({
    env: readEnv({ HOME: home.path, ORCHESTRATOR_HOME: join(home.path, "o") }),
    paths: homePaths(join(home.path, "o")),
    version: "0",
  });
  await sweep(join(home.path, "t"), Date.now() + 600_000);
  assert.deepEqual(left(home.path), ["so-doctor-link"]);
  assert.deepEqual(readdirSync(join(home.path, "precious")), ["h"]);
});

test("what a trial left whose keepers were all killed is ended and removed by the next one", async () => {
  await using home = await folder();
  mkdirSync(join(home.path, "t"));
  const place = join(home.path, "t", "so-doctor-left");
  mkdirSync(place);
  const trial = program(home.path, ["doctor-trial", place, "--json"]);
  // Its standard input is not open: it must end by itself. Killed before it can.
  await delay(1_500);
  trial.child.kill("SIGKILL");
  await trial.ended;
  const old = new Date(Date.now() - 120_000);
  utimesSync(place, old, old);
  const { ended } = program(home.path, ["doctor", "--json"]);
  assert.equal(await ended, 0);
  await nothingLeft(home.path);
});

test(
  "with a credential the proof is Claude Code's own hook",
  { skip: claude.kind === "missing" ? claude.reason : false },
  async () => {
    assert.ok(claude.kind === "found");
    await using api = await startMessagesApi();
    await using installed = installation({
      env: { AGENT_KEY: DUMMY_KEY, PATH: `${dirname(claude.path)}:${process.env["PATH"]}` },
    });
    const quiet = {
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
      CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL: "1",
      CLAUDE_CODE_MAX_RETRIES: "1",
      DISABLE_AUTOUPDATER: "1",
      DISABLE_ERROR_REPORTING: "1",
      DISABLE_TELEMETRY: "1",
    };
    installed.configure({
      runtime: "claude",
      auth: { kind: "api-key", secret: "env:AGENT_KEY", baseUrl: api.url },
      env: quiet,
    });
    const child = spawn(process.execPath, [MAIN, "doctor", "--json", "--repo", "kite"], {
      env: installed.env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const out = text(child.stdout);
    const code = await new Promise((resolve) => child.once("close", resolve));
    const lines = jsonLines(await out);
    assert.equal(code, 0, JSON.stringify(lines, null, 1));
    assert.match(JSON.stringify(lines), /the hook of the runtime claude showed \d+ bytes, exact/);
    assert.equal(api.prompts().length, 1);
    assert.deepEqual(await installed.call("worker.list"), []);
  },
);
