import assert from "node:assert/strict";
import { chmod, lstat, mkdir, readFile, readdir, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import * as fc from "fast-check";
import type { RepoInput } from "../../src/config/config.ts";
import { addRepo, removeRepo, setDefaults } from "../../src/config/edit.ts";
import { checkConfig, loadConfig } from "../../src/config/load.ts";
import { effects, errorOf, runChild, temporaryFolder } from "./support.ts";

const load = (path: string) => loadConfig(path, { overrides: [] });

async function configFile(t: TestContext, text?: string): Promise<string> {
  const path = join(await temporaryFolder(t), "config.yaml");
  if (text !== undefined) await writeFile(path, text);
  return path;
}

const COMMENTED = `# Fleet of the kite team.

controller:
  parallel: 8 # the laptop has 8 cores

repos:
  # The product.
  kite:
    url: git@github.com:team/kite.git # read-only
    env:
      # Needed by the tests.
      TZ: "UTC"
      LANG: C
    flags: [ --model, opus ]

  # Rarely used.
  lark:
    url: 'https://example.com/lark'

  # ${"A long line. ".repeat(20)}
  wide:
    url: /srv/wide
    verify: ${"npm run check && ".repeat(12)}true

# The end.
`;

test("the first repo makes the file, private, with a line about what it is", async (t) => {
  const path = join(await temporaryFolder(t), "new", "config.yaml");
  assert.equal(await addRepo(path, "kite", { url: "/srv/kite" }, effects), "added");
  assert.equal(
    await readFile(path, "utf8"),
    "# Configuration of Sprite Orchestrator. Its keys: `orchestrator config schema`.\n\nrepos:\n  kite:\n    url: /srv/kite\n",
  );
  assert.equal((await stat(path)).mode & 0o777, 0o600);
});

test("adding, replacing and removing touch their own lines only", async (t) => {
  const path = await configFile(t, COMMENTED);
  assert.equal(await addRepo(path, "wren", { url: "/srv/wren", minIdle: 2 }, effects), "added");
  const wren = "  wren:\n    url: /srv/wren\n    minIdle: 2\n";
  const added = COMMENTED.replace("&& true\n", `&& true\n${wren}`);
  assert.equal(await readFile(path, "utf8"), added);

  const kite: RepoInput = {
    url: "git@github.com:team/kite2.git",
    env: { TZ: "UTC", LANG: "C.UTF-8", A: "b" },
    flags: ["--model", "opus"],
  };
  assert.equal(await addRepo(path, "kite", kite, effects, { replace: true }), "replaced");
  const replaced = added
    .replace("kite.git #", "kite2.git #")
    .replace("LANG: C\n", "LANG: C.UTF-8\n      A: b\n");
  assert.equal(await readFile(path, "utf8"), replaced);

  assert.equal(await removeRepo(path, "wren", effects), "removed");
  assert.equal(await readFile(path, "utf8"), replaced.replace(wren, ""));
});

test("an edit that changes nothing leaves the file alone, byte for byte", async (t) => {
  const path = await configFile(t, COMMENTED);
  const before = await stat(path);
  const kite: RepoInput = {
    url: "git@github.com:team/kite.git",
    env: { LANG: "C", TZ: "UTC" },
    flags: ["--model", "opus"],
    push: "none",
  };
  assert.equal(await addRepo(path, "kite", kite, effects), "unchanged");
  assert.equal(await removeRepo(path, "none", effects), "unchanged");
  assert.equal(await setDefaults(path, {}, effects), "unchanged");
  assert.equal(await readFile(path, "utf8"), COMMENTED);
  assert.equal((await stat(path)).ino, before.ino);
});

test("a repo that exists with other values is refused, naming what differs", async (t) => {
  const path = await configFile(t, COMMENTED);
  const error = await errorOf(() => addRepo(path, "lark", { url: "/x", minIdle: 1 }, effects));
  assert.equal(error.code, "invalid_input");
  assert.equal(error.message, "repo lark exists with another url, minIdle");
  assert.equal(await readFile(path, "utf8"), COMMENTED);
});

test("defaults are set key by key and removed by undefined", async (t) => {
  const path = await configFile(t, "defaults:\n  provider: ssh # ours\n");
  const auth = { kind: "api-key", secret: "env:KEY" } as const;
  assert.equal(await setDefaults(path, { auth, minIdle: 1 }, effects), "changed");
  assert.equal(
    await readFile(path, "utf8"),
    "defaults:\n  provider: ssh # ours\n  auth:\n    kind: api-key\n    secret: env:KEY\n  minIdle: 1\n",
  );
  assert.equal(await setDefaults(path, { auth: undefined, minIdle: 1 }, effects), "changed");
  assert.equal(await readFile(path, "utf8"), "defaults:\n  provider: ssh # ours\n  minIdle: 1\n");
});

test("what is not valid is refused before the file is touched", async (t) => {
  const path = await configFile(t, COMMENTED);
  const bad: readonly (readonly [() => Promise<unknown>, string, string])[] = [
    [
      () => addRepo(path, "Kite", { url: "x" }, effects),
      "invalid_input",
      'repo name "Kite" is not a valid name',
    ],
    [
      () => addRepo(path, "__proto__", { url: "x" }, effects),
      "invalid_input",
      'repo name "__proto__" is not a valid name',
    ],
    [
      () => addRepo(path, "wren", { url: "x", minIdle: -1 }, effects),
      "invalid_config",
      `${path}: repos.wren.minIdle must be at least 0`,
    ],
    [
      () => addRepo(path, "kite-2", { url: "x" }, effects),
      "invalid_config",
      "could be taken for a worker of repo kite",
    ],
    [
      () => setDefaults(path, { maxWorkers: 0 }, effects),
      "invalid_config",
      `${path}: defaults.maxWorkers must be at least 1`,
    ],
  ];
  for (const [action, code, message] of bad) {
    const error = await errorOf(action);
    assert.equal(error.code, code);
    assert.ok(error.message.includes(message), error.message);
  }
  assert.equal(await readFile(path, "utf8"), COMMENTED);
});

test("a file with a mistake is not edited", async (t) => {
  const path = await configFile(t, "controler: {}\n");
  const error = await errorOf(() => addRepo(path, "kite", { url: "x" }, effects));
  assert.equal(error.message, `${path}:1:1: controler is not a known key`);
  assert.equal(await readFile(path, "utf8"), "controler: {}\n");
});

test("odd shapes of the file are edited, or refused when values are shared", async (t) => {
  const folder = await temporaryFolder(t);
  let number = 0;
  const add = async (text: string) => {
    const path = join(folder, `${(number += 1)}.yaml`);
    await writeFile(path, text);
    await addRepo(path, "kite", { url: "x" }, effects);
    return readFile(path, "utf8");
  };
  const kite = "repos:\n  kite:\n    url: x\n";
  assert.equal(
    await add(""),
    `# Configuration of Sprite Orchestrator. Its keys: \`orchestrator config schema\`.\n\n${kite}`,
  );
  assert.equal(await add("# mine\n"), `# mine\n\n${kite}`);
  assert.equal(await add("repos: {}\n"), kite);
  assert.equal(await add("repos:\n"), kite);
  assert.equal(await add("repos: # mine\n"), "repos:\n  # mine\n  kite:\n    url: x\n");
  assert.equal(await add("{}\n"), kite);
  assert.equal(await add("---\nrepos: {}\n"), `---\n${kite}`);
  assert.equal(
    await add("repos: { lark: { url: y } }\n"),
    "repos: { lark: { url: y }, kite: { url: x } }\n",
  );
  assert.equal(
    await add("\ufeffrepos:\r\n  lark:\r\n    url: y\r\n"),
    "repos:\r\n  lark:\r\n    url: y\r\n  kite:\r\n    url: x\r\n",
  );

  const shared = join(folder, "shared.yaml");
  const text = "repos:\n  kite: &k\n    url: x\n  lark: *k\n";
  await writeFile(shared, text);
  for (const action of [
    () => removeRepo(shared, "kite", effects),
    () => addRepo(shared, "kite", { url: "y" }, effects, { replace: true }),
    () => addRepo(shared, "lark", { url: "y" }, effects, { replace: true }),
  ]) {
    const error = await errorOf(action);
    assert.equal(error.code, "invalid_input");
    assert.match(
      error.message,
      /shares values by anchors, so that repos\.\w+ cannot be changed alone$/,
    );
    assert.equal(await readFile(shared, "utf8"), text);
  }
  assert.equal(await removeRepo(shared, "lark", effects), "removed");
});

test("the mode of the file and a symbolic link to it stay", async (t) => {
  const folder = await temporaryFolder(t);
  await mkdir(join(folder, "dotfiles"));
  const target = join(folder, "dotfiles", "orchestrator.yaml");
  await writeFile(target, "");
  await chmod(target, 0o664);
  const path = join(folder, "config.yaml");
  await symlink("dotfiles/orchestrator.yaml", path);
  await addRepo(path, "kite", { url: "x" }, effects);
  assert.ok((await lstat(path)).isSymbolicLink());
  assert.equal((await stat(target)).mode & 0o777, 0o664);
  assert.ok((await load(path)).repos["kite"]);
  assert.deepEqual(
    (await readdir(join(folder, "dotfiles"))).filter((name) => name.endsWith(".tmp")),
    [],
  );
});

const text = fc.string({
  unit: fc.constantFrom(...Array.from("ab#:-'\"&*!%@`{}[],?|> ~\\$0éß🚀")),
});
const plainText = text.filter((value) => value !== "");
const key = fc.constantFrom("A", "b_2", "NO", "y", "_", "null", "true", "constructor");
const name = fc.constantFrom(
  "kite",
  "lark",
  "0",
  "1e3",
  "null",
  "true",
  "no",
  "constructor",
  "a-b",
  "0x1f",
);
const path = fc.string({ unit: fc.constantFrom(...Array.from("ab./~: #'é")), minLength: 1 });

const repoInput: fc.Arbitrary<RepoInput> = fc.record(
  {
    url: path.filter((value) => !value.startsWith("-")),
    branch: fc.constantFrom("main", "feature/x", "1.0", "null", "007"),
    provider: fc.constantFrom("local", "ssh"),
    runtime: fc.constantFrom("claude", "shell"),
    flags: fc.array(text, { maxLength: 3 }),
    permissionMode: plainText,
    minIdle: fc.integer({ min: 0, max: 5 }),
    maxWorkers: fc.integer({ min: 5, max: 100 }),
    verify: fc.array(text, { minLength: 1, maxLength: 3 }).map((lines) => `x${lines.join("\n")}`),
    verifyMinutes: fc.double({ min: 0.01, max: 1_440, noNaN: true }),
    verifyRounds: fc.integer({ min: 0, max: 20 }),
    env: fc.dictionary(key, text, { maxKeys: 4 }),
    auth: fc.record({
      kind: fc.constantFrom("api-key", "auth-token", "oauth-token"),
      secret: plainText.map((value) => `cmd:x${value}`),
    }),
    push: fc.constantFrom("branch", "none"),
  },
  { requiredKeys: ["url"] },
);

test("a value of several lines replaces one that stood on its line", async (t) => {
  const path = await configFile(t);
  const repo = { url: "a", verify: "x" };
  await addRepo(path, "kite", repo, effects);
  for (const verify of ["x:\na", "- a\n\n# b\n", "x", "a: b"]) {
    await addRepo(path, "kite", { ...repo, verify }, effects, { replace: true });
    assert.equal((await load(path)).repos["kite"]?.verify, verify);
  }
});

test("any valid repos survive being written, replaced, loaded and removed", async (t) => {
  const path = await configFile(t);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(name, repoInput), { maxLength: 4 }),
      fc.option(repoInput),
      async (repos, example) => {
        const { url, ...defaults } = example ?? { url: "" };
        assert.equal(typeof url, "string");
        await writeFile(path, "# keep me\ncontroller:\n  parallel: 3 # and me\n");
        await setDefaults(path, defaults, effects);
        const expected = new Map<string, RepoInput>();
        for (const [repo, value] of repos) {
          await addRepo(path, repo, value, effects, { replace: true });
          expected.set(repo, value);
        }
        const config = await load(path);
        const wanted = checkConfig(
          {
            ...(Object.keys(defaults).length > 0 ? { defaults } : {}),
            controller: { parallel: 3 },
            repos: Object.fromEntries(expected),
          },
          "expected",
        );
        assert.deepEqual(config, wanted);
        const written = await readFile(path, "utf8");
        assert.ok(written.startsWith("# keep me\ncontroller:\n  parallel: 3 # and me\n"), written);
        for (const repo of expected.keys()) await removeRepo(path, repo, effects);
        assert.deepEqual(Object.keys((await load(path)).repos), []);
      },
    ),
    { numRuns: 40 },
  );
});

test("of 20 processes that add different repos at once, none is lost", async (t) => {
  const path = await configFile(t, COMMENTED);
  const names = Array.from({ length: 20 }, (_, n) => `repo${n}`);
  const children = names.map((name) => runChild("add-repos-child.ts", [path, name]));
  assert.deepEqual(
    await Promise.all(children.map((child) => child.ended)),
    names.map(() => 0),
  );
  const { repos } = await load(path);
  assert.deepEqual(Object.keys(repos).sort(), [...names, "kite", "lark", "wide"].sort());
  assert.ok((await readFile(path, "utf8")).includes("# Rarely used."));
});

test("of writers that are killed, what they confirmed stays, and the others go on", async (t) => {
  const path = await configFile(t, "");
  const repos = (writer: number) => Array.from({ length: 8 }, (_, n) => `w${writer}x${n}`);
  const children = [0, 1, 2, 3, 4, 5].map((writer) =>
    runChild("add-repos-child.ts", [path, ...repos(writer)], (_, pid) => {
      // Every second writer ends right after its first answer, in the middle of its next edit.
      if (writer % 2 === 0) process.kill(pid, "SIGKILL");
    }),
  );
  await Promise.all(children.map((child) => child.ended));
  const present = new Set(Object.keys((await load(path)).repos));
  for (const [writer, child] of children.entries()) {
    assert.ok(child.lines.length >= 1);
    if (writer % 2 === 1) assert.deepEqual(child.lines, repos(writer));
    for (const name of child.lines) assert.ok(present.has(name), name);
  }
});
