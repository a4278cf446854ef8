import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryHome } from "../support/fake-services.ts";

const folder = join(import.meta.dirname, "..", "..", "provision");
const SCRIPTS = readdirSync(folder).filter(
  (name) => name.endsWith(".sh") && name !== "find-orchestrator.sh",
);

/** Stands where the program would be: writes its arguments, a call a line, and ends as it is told. */
const RECORDER = `#!/bin/sh
here=$(dirname -- "$0")
for word in "$@"; do printf '%s\\001' "$word"; done >>"$here/calls"
printf '\\002' >>"$here/calls"
exit "$(cat "$here/code")"
`;

async function recorder() {
  const home = await temporaryHome();
  const bin = join(home.path, "bin");
  await mkdir(bin);
  await writeFile(join(bin, "orchestrator"), RECORDER);
  await chmod(join(bin, "orchestrator"), 0o755);
  const path = `${bin}:/usr/bin:/bin`;
  return {
    home: home.path,
    async run(script: string, args: readonly string[], code = 0, from = folder) {
      await writeFile(join(bin, "code"), `${code}\n`);
      await writeFile(join(bin, "calls"), "");
      const done = spawnSync(join(from, script), args, {
        cwd: home.path,
        env: { HOME: home.path, PATH: path },
        encoding: "utf8",
        input: "",
      });
      const calls = readFileSync(join(bin, "calls"), "utf8").split("\u0002").slice(0, -1);
      return {
        code: done.status,
        err: done.stderr,
        calls: calls.map((call) => call.split("\u0001").slice(0, -1)),
      };
    },
    [Symbol.asyncDispose]: home[Symbol.asyncDispose],
  };
}

const HOSTILE = "a 'b' \"c\" $(touch pwned) `id` \\ ; #\n--x\tend";

/** Script, its arguments, and the calls of the program that they mean. */
const MEANINGS: ReadonlyArray<
  readonly [string, readonly string[], ReadonlyArray<readonly string[]>]
> = [
  [
    "orchestrate.sh",
    ["--repo", "kite", "--command", HOSTILE],
    [["dispatch", "--repo", "kite", "--command", HOSTILE]],
  ],
  [
    "orchestrate.sh",
    ["--repo=kite", "--file=x", "--wait"],
    [["dispatch", "--repo=kite", "--file=x", "--wait"]],
  ],
  ["orchestrate.sh", ["--help"], [["dispatch", "--help"]]],
  ["allocate-sprite.sh", ["kite"], [["worker", "allocate", "--", "kite"]]],
  ["is-sprite-busy.sh", ["kite-1"], [["worker", "busy", "--", "kite-1"]]],
  [
    "send-to-worker.sh",
    ["kite-1", "shell", HOSTILE],
    [["worker", "send", "--", "kite-1", "shell", HOSTILE]],
  ],
  [
    "send-to-worker.sh",
    ["kite-1", "agent", "--live"],
    [["worker", "send", "--", "kite-1", "agent", "--live"]],
  ],
  ["setup-worker.sh", ["kite-1", "kite"], [["worker", "setup", "--create", "--", "kite-1"]]],
  [
    "setup-interactive-worker.sh",
    ["kite-1", "kite"],
    [
      ["worker", "setup", "--create", "--", "kite-1"],
      ["attach", "--print", "--", "kite-1"],
    ],
  ],
  [
    "start-claude-session.sh",
    ["kite-1", "kite", "a task.md"],
    [["dispatch", "--repo", "kite", "--worker", "kite-1", "--file", "a task.md"]],
  ],
  [
    "start-claude-session.sh",
    ["kite-1", "kite"],
    [["dispatch", "--repo", "kite", "--worker", "kite-1", "--file", "-"]],
  ],
  ["check-status-silent.sh", ["kite-1", "kite"], [["check", "--silent", "--", "kite-1", "kite"]]],
];

test("each script is one call of the program, its arguments untouched", async () => {
  await using it = await recorder();
  for (const [script, args, calls] of MEANINGS) {
    const done = await it.run(script, args);
    assert.deepEqual([done.calls, done.code, done.err], [calls, 0, ""], script);
  }
  assert.deepEqual(new Set(MEANINGS.map(([script]) => script)), new Set(SCRIPTS));
  assert.ok(!readdirSync(it.home).includes("pwned"));
});

test("wrong arguments are a usage message and exit code 2, and nothing is called", async () => {
  await using it = await recorder();
  const wrong: ReadonlyArray<readonly [string, ReadonlyArray<readonly string[]>]> = [
    ["orchestrate.sh", [[], ["--repo", "kite"], ["--command", "x"], ["kite", "x"]]],
    ["allocate-sprite.sh", [[], ["kite", "x"]]],
    ["is-sprite-busy.sh", [[], ["kite-1", "x"]]],
    ["send-to-worker.sh", [[], ["kite-1", "shell"], ["kite-1", "shell", "a", "b"]]],
    ["setup-worker.sh", [[], ["kite-1"], ["kite-1", "api"], ["kite-1", "kite", "x"]]],
    ["setup-interactive-worker.sh", [[], ["kite-1"], ["kite", "kite-1"]]],
    ["start-claude-session.sh", [[], ["kite-1"], ["kite-1", "api"], ["kite-1", "kite", "a", "b"]]],
    ["check-status-silent.sh", [[], ["kite-1"], ["kite-1", "kite", "x"]]],
  ];
  assert.deepEqual(new Set(wrong.map(([script]) => script)), new Set(SCRIPTS));
  for (const [script, lines] of wrong) {
    for (const line of lines) {
      const { code, err, calls } = await it.run(script, line);
      const shown = `${script} ${line.join(" ")}`;
      assert.deepEqual([code, calls], [2, []], shown);
      assert.match(err, new RegExp(`^usage: ${script} [^\\n]+\\n$`), shown);
    }
  }
});

test("the program's exit code is the script's; busy is 0, idle 1, and an inner failure is never idle", async () => {
  await using it = await recorder();
  for (const [script, args] of MEANINGS) {
    if (script === "is-sprite-busy.sh") continue;
    for (const code of [1, 3, 6, 7])
      assert.equal((await it.run(script, args, code)).code, code, script);
  }
  const busy: ReadonlyArray<readonly [number, number]> = [
    [0, 0],
    [3, 1],
    [7, 7],
    [1, 7],
    [4, 4],
    [2, 2],
  ];
  for (const [of, said] of busy) {
    assert.equal((await it.run("is-sprite-busy.sh", ["kite-1"], of)).code, said);
  }
});

test("a script may be a link, and finds the program of its package when PATH has none", async () => {
  await using it = await recorder();
  const link = join(it.home, "links");
  await mkdir(link);
  for (const script of SCRIPTS) await symlink(join(folder, script), join(link, script));
  const linked = await it.run("allocate-sprite.sh", ["kite"], 0, link);
  assert.deepEqual(linked.calls, [["worker", "allocate", "--", "kite"]]);
  // A name that is none is refused before anything is started.
  const env = { HOME: it.home, PATH: "/usr/bin:/bin" };
  const own = spawnSync(join(link, "allocate-sprite.sh"), ["No Name"], { env, encoding: "utf8" });
  assert.equal(own.status, 2, own.stderr);
  assert.match(own.stderr, /^error: repo "No Name" is not a valid name/);
  await mkdir(join(it.home, "alone"));
  for (const name of ["allocate-sprite.sh", "find-orchestrator.sh"]) {
    await writeFile(join(it.home, "alone", name), readFileSync(join(folder, name)), {
      mode: 0o755,
    });
  }
  const none = spawnSync(join(it.home, "alone", "allocate-sprite.sh"), ["kite"], {
    env,
    encoding: "utf8",
  });
  assert.equal(none.status, 127);
  assert.match(none.stderr, /^error: the program 'orchestrator' was not found\nhint: /);
});
