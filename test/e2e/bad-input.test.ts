import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, controllerProcess, type CliResult } from "../support/controller-process.ts";
import { installation, type Installation } from "../support/installation.ts";

const repoOf = (installed: Installation) => ({ url: installed.remote, runtime: "shell" });

/** Nothing a terminal would act on, or hide: no control character but newline and tab, no zero-width or direction mark. */
function assertClean(said: CliResult): void {
  for (const text of [said.stdout, said.stderr]) {
    const found = /[\p{Cc}\p{Cf}]/u.exec(text.replaceAll(/[\n\t]/g, ""));
    const shown = JSON.stringify(text.slice(0, 2_000));
    assert.equal(found, null, `${JSON.stringify(found?.[0])} in ${shown}`);
  }
}

function assertRefused(said: CliResult, code: number, why: RegExp): void {
  assert.equal(said.code, code, `${said.stdout}\n${said.stderr}`);
  assert.match(said.stderr, why);
  assert.match(said.stderr, /^error: /m);
  assert.doesNotMatch(said.stderr, /\n {4}at |undefined|\[object/);
  assertClean(said);
}

describe("what cannot be", () => {
  let installed: Installation;
  let controller: Awaited<ReturnType<typeof controllerProcess>>;
  let canary: string;
  const ask = (args: readonly string[], stdin?: string) =>
    cli(installed, args, stdin === undefined ? {} : { stdin });

  before(async () => {
    installed = installation();
    installed.configure({}, { repos: { kite: repoOf(installed), sonar: repoOf(installed) } });
    controller = await controllerProcess(installed);
    canary = join(installed.home, "canary");
  });
  after(async () => {
    await controller[Symbol.asyncDispose]();
    await installed[Symbol.asyncDispose]();
  });

  test("is refused by name, with its code, before anything is allocated", async () => {
    const give = (repo: string, ...more: string[]) => ["dispatch", "--repo", repo, ...more];
    const task = ["--command", "true"];
    const table: { args: string[]; stdin?: string; code: number; why: RegExp }[] = [
      { args: give("nothere", ...task), code: 4, why: /no repo nothere/ },
      { args: give("kite", "--command", ""), code: 2, why: /empty/ },
      { args: give("kite", "--command", " \n\t "), code: 2, why: /empty/ },
      { args: give("kite"), code: 2, why: /--command/ },
      {
        args: give("kite", "-"),
        stdin: "x".repeat(5 * 1024 * 1024),
        code: 2,
        why: /larger than 4 MiB/,
      },
      { args: give("kite", "-"), stdin: "a\0b", code: 2, why: /NUL/ },
      { args: give("../kite", ...task), code: 2, why: /repo/ },
      { args: give(`kite;touch ${canary}`, ...task), code: 2, why: /repo/ },
      { args: give(`$(touch ${canary})`, ...task), code: 2, why: /repo/ },
      { args: give("kite\nsonar", ...task), code: 2, why: /repo/ },
      { args: give("ki\u200bte", ...task), code: 2, why: /repo/ },
      { args: give("\u001b[31mkite", ...task), code: 2, why: /repo/ },
      { args: give("kite", ...task, "--mode", "yolo"), code: 2, why: /mode 'yolo'/ },
      { args: give("kite", ...task, "--runtime", "cobol"), code: 2, why: /cobol/ },
      { args: give("kite", ...task, "--worker", "kite-7"), code: 4, why: /no worker kite-7/ },
      { args: give("kite", ...task, "--worker", "sonar-1"), code: 4, why: /no worker sonar-1/ },
      { args: give("kite", ...task, "--worker", "#(touch x)"), code: 2, why: /worker/ },
      { args: give("kite", ...task, "--request-id", "a b"), code: 2, why: /request/ },
      { args: ["run", "show", "run-nothere"], code: 4, why: /no run run-nothere/ },
      { args: ["run", "cancel", "run-nothere"], code: 4, why: /no run run-nothere/ },
      { args: ["run", "retry", "\u001b]0;x\u0007"], code: 2, why: /run/ },
      { args: ["send", "kite-9", "--command", "x"], code: 4, why: /worker or run named kite-9/ },
      { args: ["worker", "destroy", "kite-9"], code: 4, why: /no worker kite-9/ },
      { args: ["attach", "kite-9"], code: 4, why: /kite-9/ },
      { args: ["status", "\u001b[2J"], code: 2, why: /no name of a run/ },
    ];
    for (const { args, stdin, code, why } of table) {
      const said = await ask(args, stdin);
      assert.doesNotThrow(() => assertRefused(said, code, why), JSON.stringify(args));
    }
    assert.equal(existsSync(canary), false);
    assert.equal(
      existsSync(installed.paths.local) &&
        readdirSync(installed.paths.local).some((name) => /-\d+$/.test(name)),
      false,
    );
  });

  test("is refused in the wrong state, with 12 or 8, and changes nothing", async () => {
    const go = join(installed.home, "go");
    const given = await ask([
      "dispatch",
      "--repo",
      "kite",
      "--command",
      `until [ -e ${go} ]; do sleep 0.05; done`,
    ]);
    assert.equal(given.code, 0, given.stderr);
    const run = /run-[a-z0-9]+/.exec(given.stdout)?.[0] ?? "";
    assertRefused(await ask(["run", "retry", run]), 12, /nothing to retry/);
    assertRefused(await ask(["run", "resume", run]), 12, /not blocked/);
    assertRefused(await ask(["send", run, "--command", "more"]), 12, /takes nothing more/);
    assertRefused(
      await ask(["send", run, "--live", "--command", "more"]),
      12,
      /no text in its window/,
    );
    assertRefused(await ask(["worker", "destroy", "kite-1"]), 8, new RegExp(`${run} runs on it`));
    assertRefused(await ask(["worker", "setup", "kite-1"]), 12, /not unready/);
    writeFileSync(go, "");
    assert.equal((await ask(["run", "wait", run])).code, 0);
    assertRefused(await ask(["run", "cancel", run]), 12, /completed and cannot be cancelled/);
    assertRefused(await ask(["run", "retry", run]), 12, /nothing to retry/);
    assertRefused(await ask(["run", "resume", run]), 12, /not blocked/);
    assertRefused(await ask(["send", run, "--live", "--command", "more"]), 12, /has ended/);
  });

  test("hostile text goes to the agent as it is, runs nowhere else, and reaches the terminal clean", async () => {
    const evil = `\u001b]0;owned\u0007\u001b[2J#(touch ${canary}) \`touch ${canary}\` $(:) \u200b\u202ereversed; echo "$'"`;
    const task = `printf '%s' '#(touch ${canary})\u001b[31m\u001b]2;#(touch ${canary})\u0007'; tmux rename-window '##(touch ${canary})'; : '${evil.replaceAll("'", "")}'`;
    const said = await ask([
      "dispatch",
      "--repo",
      "kite",
      "--command",
      task,
      "--title",
      evil.slice(0, 150),
      "--wait",
    ]);
    assert.equal(said.code, 0, said.stderr);
    assertClean(said);
    const run = /run-[a-z0-9]+/.exec(said.stdout)?.[0] ?? "";
    for (const args of [
      ["run", "show", run],
      ["run", "show", run, "--json"],
      ["run", "logs", run],
      ["run", "list"],
      ["status"],
      ["worker", "list"],
      ["events"],
    ]) {
      const shown = await ask(args);
      assert.equal(shown.code, 0, `${args.join(" ")}: ${shown.stderr}`);
      assert.doesNotThrow(() => assertClean(shown), args.join(" "));
    }
    const exec = await ask([
      "worker",
      "exec",
      "kite-1",
      "--",
      "tmux",
      "list-windows",
      "-t",
      "kite-dev",
    ]);
    assert.equal(exec.code, 0, "the tmux server lives");
    assert.equal(existsSync(canary), false, "nothing of it was run by anybody else");
  });

  test("a task of 1 MB arrives whole", async () => {
    const size = 1024 * 1024;
    const task = `: '${"x".repeat(size)}'\nprintf whole > ${installed.home}/whole`;
    const said = await ask(["dispatch", "--repo", "kite", "-", "--wait"], task);
    if (said.code === 0) assert.equal(readFileSync(join(installed.home, "whole"), "utf8"), "whole");
    else assertRefused(said, 2, /cannot be delivered/);
  });
});

test("a broken configuration, an unknown key and a missing secret are named before anything is allocated", async () => {
  await using installed = installation();
  const task = ["dispatch", "--repo", "kite", "--command", "true"];
  const cases: { config: string; why: RegExp }[] = [
    { config: "repos: [", why: /config\.yaml/ },
    {
      config: `repos: { kite: { url: "${installed.remote}", maxWorkers: many } }`,
      why: /repos\.kite\.maxWorkers/,
    },
    { config: `repos: { kite: { url: "${installed.remote}", colour: red } }`, why: /colour/ },
    {
      config: `repos: { kite: { url: "${installed.remote}", runtime: shell, auth: { kind: api-key, secret: "env:NOT_SET_ANYWHERE" } } }`,
      why: /NOT_SET_ANYWHERE/,
    },
  ];
  for (const { config, why } of cases) {
    writeFileSync(installed.paths.config, config);
    const said = await cli(installed, task);
    assert.doesNotThrow(() => assertRefused(said, 2, why), `${config}: ${said.stderr}`);
    await cli(installed, ["stop"]);
  }
  assert.equal(existsSync(join(installed.paths.local, "kite-1")), false);
});

test("a clone that fails ends the run with step, code and last line, and the pool works when the address is right", async () => {
  await using installed = installation();
  installed.configure({ url: `${installed.remote}-nothere` });
  const said = await cli(installed, ["dispatch", "--repo", "kite", "--command", "true", "--wait"]);
  assert.equal(said.code, 5, said.stderr);
  assert.match(`${said.stdout}${said.stderr}`, /clone failed with code 40/);
  assert.match(`${said.stdout}${said.stderr}`, /nothere|does not exist|not appear/);
  const list = await cli(installed, ["worker", "list"]);
  assert.match(list.stdout, /kite-1.*unready/);
  installed.configure({});
  const again = await cli(installed, ["worker", "setup", "kite-1"]);
  assert.equal(again.code, 0, again.stderr);
  const done = await cli(installed, ["dispatch", "--repo", "kite", "--command", "true", "--wait"]);
  assert.equal(done.code, 0, done.stderr);
  await cli(installed, ["stop"]);
});

test("a set-up script that fails shows its end; 'worker setup' after the fix takes the worker back", async () => {
  const broken = "broken";
  await using installed = installation({
    files: {
      "scripts/dev-setup.sh": `#!/bin/sh\necho installing\n[ -e "$SETUP_FIXED" ] || { echo "no such package: ${broken}" >&2; exit 3; }\n`,
    },
  });
  const fixed = join(installed.home, "fixed");
  installed.configure({ env: { SETUP_FIXED: fixed } });
  const said = await cli(installed, ["dispatch", "--repo", "kite", "--command", "true", "--wait"]);
  assert.equal(said.code, 5, said.stderr);
  assert.match(
    `${said.stdout}${said.stderr}`,
    /setup failed with code 50.*no such package: broken/s,
  );
  const run = /run-[a-z0-9]+/.exec(said.stdout)?.[0] ?? "";
  const logs = await cli(installed, ["run", "logs", run]);
  assert.match(logs.stdout, /no such package: broken/);
  const tried = await cli(installed, ["worker", "setup", "kite-1"]);
  assertRefused(tried, 8, /setup failed with code 50: .*no such package/);
  writeFileSync(fixed, "");
  const mended = await cli(installed, ["worker", "setup", "kite-1"]);
  assert.equal(mended.code, 0, mended.stderr);
  const again = await cli(installed, ["run", "retry", run]);
  assert.equal(again.code, 0, again.stderr);
  const next = /run-[a-z0-9]+/.exec(again.stdout.replaceAll(run, ""))?.[0] ?? "";
  assert.equal((await cli(installed, ["run", "wait", next])).code, 0, again.stdout);
  await cli(installed, ["stop"]);
});

test("a repository without a set-up script works, and one whose script may not be executed runs by bash", async () => {
  await using installed = installation({ files: { "scripts/dev-setup.sh": "" } });
  const said = await cli(installed, ["dispatch", "--repo", "kite", "--command", "true", "--wait"]);
  assert.equal(said.code, 0, said.stderr);
  await cli(installed, ["stop"]);
});

const SECRET = "sk-not-to-be-seen-0123456789abcdef";

test("a credential is seen by the agent and by nobody else: no event, log, argument, file of the store, window or error", async () => {
  await using installed = installation({ env: { KITE_KEY: SECRET } });
  installed.configure({ auth: { kind: "api-key", secret: "env:KITE_KEY" } });
  const go = join(installed.home, "go");
  const seen = join(installed.home, "seen");
  const task = `env | grep -c not-to-be-seen > ${seen}; until [ -e ${go} ]; do sleep 0.05; done; false`;
  const given = await cli(installed, ["dispatch", "--repo", "kite", "--command", task]);
  assert.equal(given.code, 0, given.stderr);
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const argv = read(join("/proc", pid, "cmdline"));
    assert.ok(!argv.includes(SECRET), `process ${pid} shows it: ${argv.slice(0, 200)}`);
  }
  const windows = await cli(installed, [
    "worker",
    "exec",
    "kite-1",
    "--",
    "tmux",
    "list-windows",
    "-a",
    "-F",
    "#{window_name} #{pane_title} #{@reason}",
  ]);
  writeFileSync(go, "");
  const run = /run-[a-z0-9]+/.exec(given.stdout)?.[0] ?? "";
  const said = [given, windows, await cli(installed, ["run", "wait", run])];
  for (const args of [
    ["run", "show", run, "--json"],
    ["run", "logs", run],
    ["events", "--json"],
    ["config", "show"],
  ]) {
    said.push(await cli(installed, args));
  }
  await cli(installed, ["stop"]);
  for (const { stdout, stderr } of said) assert.ok(!`${stdout}${stderr}`.includes(SECRET), stdout);
  const holders = filesBelow(installed.home).filter((path) => read(path).includes(SECRET));
  assert.deepEqual(
    holders.map((path) => path.slice(installed.homeOf("kite-1").length)),
    ["/.orchestrator/auth/kite.env"],
  );
  assert.equal(statSync(holders[0] ?? "").mode & 0o077, 0);
});

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
