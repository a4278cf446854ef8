import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import type { RunView } from "../../src/operations/views.ts";
import type { Call, Reply } from "../fakes/messages-script.ts";
import { claudeCli, cleanEnv } from "../support/claude-cli.ts";
import { claudeFleet, skip } from "../support/claude-fleet.ts";

const execute = promisify(execFile);
const cli = await claudeCli();
const program = cli.kind === "found" ? cli.path : "claude";

const ROOT = join(import.meta.dirname, "..", "..");
const PLUGIN = join(ROOT, "skills", "plugins", "sprite-orchestrator");
const MAIN = join(ROOT, "src", "main.ts");
const TIMEOUT_MS = 150_000;
const { version: VERSION } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
  version: string;
};

/** A person's own Claude Code: a home of its own, the plugin, and `orchestrator` on the path. */
function person(apiUrl: string, orchestratorHome: string) {
  const root = mkdtempSync(join(tmpdir(), "cp-"));
  const home = join(root, "home");
  const bin = join(root, "bin");
  for (const folder of [home, bin, join(home, "tmp")]) mkdirSync(folder);
  const wrapper = join(bin, "orchestrator");
  writeFileSync(wrapper, `#!/bin/sh\nexec "${process.execPath}" "${MAIN}" "$@"\n`);
  chmodSync(wrapper, 0o755);
  const clean = cleanEnv(home, apiUrl);
  return {
    env: {
      ...clean,
      PATH: [bin, clean["PATH"]].join(delimiter),
      ORCHESTRATOR_HOME: orchestratorHome,
    },
    cwd: home,
    [Symbol.dispose]: () =>
      rmSync(root, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }),
  };
}

const END = "END_OF_TASK_7f3a91";

/** What a model does that follows the skill's text: one call of its script, the task between the two lines. */
function followSkill({ prompt, answers }: Call): Reply | undefined {
  const script = /^\s*(\S+\/scripts\/dispatch\.sh) --repo NAME/m.exec(prompt)?.[1];
  const given = /<arguments>\n([\s\S]*?)\n<\/arguments>/.exec(prompt)?.[1];
  if (script === undefined || given === undefined) return undefined;
  if (answers > 0) return { kind: "text", text: "Handed on." };
  const [, repo, task] = /--repo (\S+) --command "([\s\S]*)"$/.exec(given) ?? [];
  const command = `${script} --repo ${repo} <<'${END}'\n${task}\n${END}`;
  const input = { command, description: "Hand the task on", timeout: 600_000 };
  return { kind: "tool", tools: [{ name: "Bash", input }] };
}

test(
  "/orchestrator in a person's session gives the task to a worker, byte for byte, without a question",
  { skip },
  async () => {
    await using fleet = await claudeFleet({
      api: { scenario: followSkill },
      repo: { permissionMode: "bypassPermissions" },
      version: VERSION,
    });
    using own = person(fleet.api.url, fleet.home);
    const task = `say 'hi' to $USER & "me", \`now\` 👍 [[bash git commit -qm empty --allow-empty]] [[text All done.]]`;
    await fleet.controller();
    const { stdout } = await execute(
      program,
      [
        "-p",
        "--permission-mode",
        "default",
        "--plugin-dir",
        PLUGIN,
        "--",
        `/orchestrator --repo kite --command "${task}"`,
      ],
      { env: own.env, cwd: own.cwd, timeout: TIMEOUT_MS },
    );
    assert.equal(stdout.trim(), "Handed on.");
    const shown = fleet.api.requests.flatMap(({ toolResults }) => toolResults).join("\n");
    const [run] = await fleet.call<RunView[]>("run.list");
    assert.ok(run !== undefined, shown);
    assert.match(shown, new RegExp(`${run.run_id}[\\s\\S]*kite-1`));
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.equal(ended.messages[0]?.text, task);
  },
);

test(
  "the plugin and its marketplace are valid by the program's own strict check",
  { skip },
  async () => {
    using own = person("http://127.0.0.1:9", "/nonexistent");
    for (const path of [join(ROOT, "skills"), PLUGIN]) {
      const { stdout } = await execute(program, ["plugin", "validate", "--strict", path], {
        env: own.env,
        cwd: own.cwd,
        timeout: 60_000,
      });
      assert.match(stdout, /passed/i);
    }
  },
);
