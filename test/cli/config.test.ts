import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { readEnv } from "../../src/config/env.ts";
import { schemaTree } from "../../src/config/json-schema.ts";
import { homePaths } from "../../src/config/paths.ts";
import { openInProcess } from "../../src/operations/in-process.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { cli, jsonLines, type CliSetting } from "../support/cli.ts";
import { temporaryHome } from "../support/fake-services.ts";

const ask = (home: string, argv: readonly string[], setting: Partial<CliSetting> = {}) =>
  cli(argv, { home, ...setting });

test("init asks on a terminal, takes suggestions elsewhere, and says what is missing", async () => {
  await using home = await temporaryHome();
  const missing = await ask(home.path, ["init", "--repo", "kite", "--url", "/srv/kite"]);
  assert.equal(missing.code, 2);
  assert.match(
    missing.err,
    /--credential is missing.*\nhint: for example: orchestrator init --repo kite/,
  );
  const asked = await ask(home.path, ["init"], {
    terminal: true,
    stdin: "terminal",
    answers: ["/srv/kite.git", "", "api-key=env:THE_KEY"],
  });
  assert.equal(asked.code, 0, asked.err);
  assert.match(asked.out, /added repo kite\n/);
  assert.match(asked.out, /next: orchestrator --repo kite --command/);
  assert.match(
    await readFile(join(home.path, "o", "config.yaml"), "utf8"),
    /url: \/srv\/kite\.git/,
  );
  assert.equal((await stat(join(home.path, "o", "id_ed25519"))).mode & 0o777, 0o600);
  const again = await ask(home.path, ["init", "--yes", "--json"]);
  assert.equal(again.code, 0, again.err);
  assert.equal(jsonLines(again.out)[0]?.["repo"], null);
});

test("every key of a repo can be given to 'repo add', and arrives in the file", async () => {
  await using home = await temporaryHome();
  const added = await ask(home.path, [
    "repo",
    "add",
    "kite",
    "--url",
    "/srv/kite",
    "--branch",
    "main",
    "--provider",
    "local",
    "--runtime",
    "shell",
    "--flag=--x",
    "--flag",
    "y z",
    "--permission-mode",
    "plan",
    "--max-workers",
    "4",
    "--min-idle",
    "1",
    "--verify",
    "npm test",
    "--verify-minutes",
    "5",
    "--setup",
    "up.sh",
    "--setup-minutes",
    "6",
    "--env",
    "A=b=c",
    "--credential",
    "api-key=cmd:vault read --token s3cret",
    "--base-url",
    "http://127.0.0.1:1",
    "--git-name",
    "Kite",
    "--git-email",
    "k@example.org",
    "--deploy-key",
    "file:/k",
    "--push",
    "branch",
    "--run-branch",
    "none",
    "--on-lost",
    "wait",
  ]);
  assert.equal(added.code, 0, added.err);
  assert.equal(added.out, "added repo kite\n");
  const { out } = await ask(home.path, ["repo", "list", "--json"]);
  const [repo] = jsonLines(out);
  const keys = schemaTree().properties?.["repos"]?.additionalProperties;
  assert.ok(keys !== undefined && keys !== false);
  for (const key of Object.keys(keys.properties ?? {})) assert.ok(key in (repo ?? {}), key);
  assert.deepEqual(repo?.["env"], { A: "b=c" });
  assert.deepEqual(repo?.["flags"], ["--x", "y z"]);
  assert.doesNotMatch(out, /s3cret/);
  assert.match((await ask(home.path, ["repo", "list"])).out, /kite {2}local/);
  const same = await ask(home.path, ["repo", "add", "kite", "--url", "/srv/other"]);
  assert.equal(same.code, 2);
  const replaced = await ask(home.path, [
    "repo",
    "add",
    "kite",
    "--url",
    "/srv/other",
    "--replace",
    "--json",
  ]);
  assert.deepEqual(jsonLines(replaced.out), [{ repo: "kite", outcome: "replaced" }]);
  assert.equal((await ask(home.path, ["repo", "remove", "kite"])).out, "removed repo kite\n");
  assert.equal((await ask(home.path, ["repo", "remove", "kite"])).out, "unchanged repo kite\n");
});

test("a wrong value is refused with the key's name, and nothing is written", async () => {
  await using home = await temporaryHome();
  for (const [option, value] of [
    ["--url", "https://me:tok-SECRET@x/y"],
    ["--setup", "../up.sh"],
    ["--env", "NOTHING"],
  ] as const) {
    const { code, err } = await ask(home.path, [
      "repo",
      "add",
      "kite",
      "--url",
      "/x",
      option,
      value,
    ]);
    assert.equal(code, 2, option);
    assert.match(err, /^error: [^\n]+\n/);
    assert.doesNotMatch(err, /SECRET/);
  }
  await assert.rejects(readFile(join(home.path, "o", "config.yaml")));
});

test("config shows what is in force, its schema and its reference", async () => {
  await using home = await temporaryHome();
  const { out } = await ask(home.path, ["config", "show", "--json"], {
    env: { ORCHESTRATOR_PARALLEL: "3" },
  });
  assert.partialDeepStrictEqual(jsonLines(out)[0], { controller: { parallel: 3 } });
  assert.ok(
    "properties" in (JSON.parse((await ask(home.path, ["config", "schema"])).out) as object),
  );
  assert.match(
    (await ask(home.path, ["config", "reference"])).out,
    /\| `repos\.<name>\.url` \|[^]*`ORCHESTRATOR_HOME`/,
  );
});

test("without a controller reads are answered in this process, over the real store", async () => {
  await using home = await temporaryHome();
  const env = readEnv({ HOME: home.path, ORCHESTRATOR_HOME: join(home.path, "o") });
  const paths = homePaths(env.home);
  const inProcess = {
    openInProcess: () =>
      openInProcess({ env, paths, version: "0.1.0", clock: systemClock(), ids: randomIds() }),
  };
  assert.equal((await ask(home.path, ["status"], inProcess)).out, "no workers, no live runs\n");
  assert.equal((await ask(home.path, ["run", "list", "--json"], inProcess)).out, "");
  assert.equal((await ask(home.path, ["events"], inProcess)).out, "");
  const { code, err } = await ask(home.path, ["run", "show", "run-1"], inProcess);
  assert.equal(code, 4);
  assert.match(
    err,
    /^error: there is no run run-1\nhint: 'orchestrator run list' shows the runs\n$/,
  );
  const stop = new AbortController();
  stop.abort(new Error("interrupted"));
  assert.equal(
    (await ask(home.path, ["events", "--follow"], { ...inProcess, interrupt: stop.signal })).code,
    0,
  );
});
