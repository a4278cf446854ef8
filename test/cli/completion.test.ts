import assert from "node:assert/strict";
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { NOUNS } from "../../src/cli/nouns.ts";
import { cli, socketOf } from "../support/cli.ts";
import { fakeController, type FakeController } from "../support/fake-services.ts";
import { RUN, WORKER } from "../support/views.ts";

const execute = promisify(execFile);
const MAIN = join(import.meta.dirname, "..", "..", "src", "main.ts");
const isInstalled = (shell: string) => spawnSync(shell, ["--version"]).status === 0;

describe("completion", () => {
  let home: string;
  let controller: FakeController;
  before(async () => {
    home = await mkdtemp(join(tmpdir(), "cm-"));
    await mkdir(join(home, "o"), { mode: 0o700 });
    await mkdir(join(home, "bin"));
    const program = join(home, "bin", "orchestrator");
    await writeFile(program, `#!/bin/sh\nexec ${process.execPath} ${MAIN} "$@"\n`);
    await chmod(program, 0o755);
    await writeFile(join(home, "o", "config.yaml"), "repos: {kite: {url: x}, wren: {url: y}}\n");
    controller = await fakeController(socketOf(home), {
      status: () => ({ workers: [WORKER, { ...WORKER, worker: "kite-2" }], runs: [RUN] }),
      "run.list": () => [RUN, { ...RUN, run_id: "run-$(touch x)" }],
    });
  });
  after(async () => {
    await controller.stop();
    await rm(home, { recursive: true, force: true });
  });

  const words = async (...given: string[]) => {
    const { code, out, err } = await cli(["complete-words", "--", ...given], { home });
    assert.deepEqual([code, err], [0, ""]);
    return out.split("\n").filter((word) => word !== "");
  };

  test("every command is offered that is not hidden, by the registry itself", async () => {
    const shown = NOUNS.filter(({ hidden }) => hidden !== true).map(({ name }) => name);
    assert.deepEqual(await words(""), [...shown, "help"]);
    for (const noun of NOUNS.filter(({ hidden }) => hidden !== true)) {
      const specs = (await noun.load()).filter(({ path }) => path.startsWith(`${noun.name} `));
      if (specs.length === 0) continue;
      assert.deepEqual(
        await words(noun.name, ""),
        specs.map(({ path }) => path.split(" ")[1]),
      );
    }
  });

  test("options, their choices, and the names of repos, workers and runs are offered where they belong", async () => {
    assert.deepEqual(await words("ru"), ["run"]);
    assert.deepEqual(await words("run", "ret"), ["retry"]);
    assert.deepEqual(await words("run", "wait", "--un"), ["--until"]);
    assert.deepEqual(await words("run", "wait", "--until", ""), ["delivered", "settled", "ended"]);
    assert.deepEqual(await words("--repo", "k"), ["kite"]);
    assert.deepEqual(await words("--repo", "kite", "--wo"), ["--worker"]);
    assert.deepEqual(await words("--repo", "kite", "--worker", "kite-2"), ["kite-2"]);
    assert.deepEqual(await words("worker", "show", "k"), ["kite-1", "kite-2"]);
    assert.deepEqual(await words("run", "show", ""), ["latest", RUN.run_id]);
    assert.deepEqual(await words("status", "w"), ["wren"]);
    assert.deepEqual(await words("attach", "run-"), [RUN.run_id]);
    assert.deepEqual(await words("answer", RUN.run_id, ""), ["allow", "deny"]);
    assert.deepEqual(await words("help", "run", "sh"), ["show"]);
    assert.deepEqual(await words("completion", "z"), ["zsh"]);
    assert.deepEqual(await words("worker", "exec", "kite-1", "--", ""), []);
    assert.deepEqual(await words("nonsense", ""), []);
  });

  test("where nothing is there nothing is offered, and nothing is made", async () => {
    const empty = await mkdtemp(join(tmpdir(), "cm-"));
    try {
      const { code, out } = await cli(["complete-words", "--", "worker", "show", ""], {
        home: empty,
      });
      assert.deepEqual([code, out, await readdir(empty)], [0, "", []]);
    } finally {
      await rm(empty, { recursive: true, force: true });
    }
  });

  const environment = () => ({
    PATH: `${home}/bin:${process.env["PATH"]}`,
    HOME: home,
    ORCHESTRATOR_HOME: join(home, "o"),
  });

  test("bash completes commands, options and names, and runs nothing of what they are called", async () => {
    const script = `eval "$(orchestrator completion bash)"
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _orchestrator; printf '%s|' "\${COMPREPLY[@]}"; echo; }
ask orchestrator wor
ask orchestrator run show ""
ask orchestrator --repo ""
ask orchestrator worker show kite-2
ask orchestrator run wait --until s
cd ${home}; ask orchestrator --repo kite --file o/conf`;
    const { stdout } = await execute("bash", ["--norc", "-c", script], { env: environment() });
    assert.deepEqual(stdout.trim().split("\n"), [
      "worker|",
      `latest|${RUN.run_id}|`,
      "kite|wren|",
      "kite-2|",
      "settled|",
      "o/config.yaml|",
    ]);
    assert.ok(!(await readdir(home)).includes("x"));
  });

  for (const [shell, check] of [
    ["zsh", ["-n"]],
    ["fish", ["--no-execute"]],
  ] as const) {
    const skip = isInstalled(shell) ? false : `${shell} is not installed`;
    test(`the script for ${shell} is one that ${shell} can read`, { skip }, async () => {
      const file = join(home, `script.${shell}`);
      const script = execFileSync(join(home, "bin", "orchestrator"), ["completion", shell], {
        env: environment(),
      });
      await writeFile(file, script);
      await execute(shell, [...check, file]);
    });
  }

  test("another shell is told which there are", async () => {
    const { code, err } = await cli(["completion", "tcsh"], { home });
    assert.equal(code, 2);
    assert.match(err, /"tcsh" is no shell .*\nhint: for example: orchestrator completion bash/);
  });
});
