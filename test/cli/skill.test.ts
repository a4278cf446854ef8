import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { chmod, cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { startMessagesApi } from "../fakes/messages-api.ts";
import { claudeCli, cleanEnv } from "../support/claude-cli.ts";
import { temporaryHome } from "../support/fake-services.ts";

const run = promisify(execFile);
const skills = join(import.meta.dirname, "..", "..", "skills");
const plugin = join(skills, "plugins", "sprite-orchestrator");
const script = join(plugin, "skills", "orchestrator", "scripts", "dispatch.sh");

/** Stands where the program would be: writes its arguments, NUL-separated, and its standard input beside itself. */
const RECORDER = `#!/bin/sh
here=$(dirname -- "$0")
printf '%s\\0' "$@" >"$here/arguments"
cat >"$here/input"
echo "worker    kite-1: idle"
exit 6
`;

async function recorder() {
  const home = await temporaryHome();
  const bin = join(home.path, "bin");
  await mkdir(bin);
  await mkdir(join(home.path, "tmp"));
  await writeFile(join(bin, "orchestrator"), RECORDER);
  await chmod(join(bin, "orchestrator"), 0o755);
  return {
    path: home.path,
    bin,
    got: async () => ({
      arguments: (await readFile(join(bin, "arguments"), "utf8")).split("\0").slice(0, -1),
      input: await readFile(join(bin, "input"), "utf8"),
    }),
    [Symbol.asyncDispose]: home[Symbol.asyncDispose],
  };
}

function dispatch(
  home: string,
  argv: readonly string[],
  input: string,
  path = `${home}/bin:/usr/bin:/bin`,
) {
  const child = spawn("sh", [script, ...argv], { cwd: home, env: { HOME: home, PATH: path } });
  let out = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  return new Promise<{ code: number | null; out: string }>((resolve) => {
    child.on("close", (code) => resolve({ code, out }));
  });
}

const HOSTILE = `fix "it" 'now' \`touch pwned\` $(touch pwned) \${HOME} $HOME \\n \\ %s %d !x #(x) ; touch pwned | & > pwned
second line	with a tab
--repo other --wait 'EOF'
END
漢字 é -n`;

test("the script hands on any task byte for byte and never runs it", async () => {
  await using home = await recorder();
  for (const task of [HOSTILE, "-n", "-", "--help", "\\c", "x".repeat(300_000)]) {
    const { code, out } = await dispatch(
      home.path,
      ["--repo", "kite", "--title", "a b; c"],
      `${task}\n`,
    );
    assert.equal(code, 6, "the program's exit code is its own");
    assert.match(out, /worker {4}kite-1/);
    const got = await home.got();
    assert.deepEqual(got.arguments, ["dispatch", "--repo", "kite", "--title", "a b; c", "-"]);
    assert.ok(got.input === task, `${task.slice(0, 40)} arrived as ${got.input.slice(0, 60)}`);
  }
  await assert.rejects(readFile(join(home.path, "pwned")));
});

test("the script says what is missing and calls nothing", async () => {
  await using home = await recorder();
  const wrong: ReadonlyArray<readonly [readonly string[], string, RegExp, number]> = [
    [
      [],
      "x",
      /^error: --repo is missing\nhint: for example: \/orchestrator --repo kite --command/,
      2,
    ],
    [["--repo", "kite"], "", /^error: --command is missing/, 2],
    [["--repo", "kite"], " \n\t\n", /^error: --command is missing/, 2],
    [["--repo", "kite", "--command", "x"], "", /^error: the task comes on standard input/, 2],
  ];
  for (const [argv, input, message, exitCode] of wrong) {
    const { code, out } = await dispatch(home.path, argv, input);
    assert.match(out, message);
    assert.equal(code, exitCode);
  }
  await assert.rejects(home.got());
});

test("without the program in PATH, one in a usual place is found, or it is said how to get it", async () => {
  await using home = await recorder();
  const copy = join(home.path, "elsewhere");
  await cp(plugin, copy, { recursive: true });
  const argv = [join(copy, "skills", "orchestrator", "scripts", "dispatch.sh"), "--repo", "kite"];
  const env = { HOME: home.path, PATH: "/usr/bin:/bin" };
  const lost = await run("sh", ["-c", 'echo x | sh "$@"', "sh", ...argv], { env }).catch(
    (error: { code: number; stderr: string }) => error,
  );
  assert.equal("code" in lost && lost.code, 127);
  assert.match(lost.stderr, /was not found\nhint: install it with: npm install --global/);
  await mkdir(join(home.path, ".local"));
  await cp(home.bin, join(home.path, ".local", "bin"), { recursive: true });
  const found = await run("sh", ["-c", 'echo x | sh "$@" || test $? = 6', "sh", ...argv], { env });
  assert.match(found.stdout, /worker {4}kite-1/);
});

/** Of a backslash before a blank the CLI makes a question to the person, whatever is allowed. */
const UNASKED = HOSTILE.replaceAll("\\ ", "");

const claude = await claudeCli();
const skip = claude.kind === "missing" ? claude.reason : false;
const program = claude.kind === "missing" ? "" : claude.path;

test("the real CLI accepts the marketplace and the plugin, strictly", { skip }, async () => {
  await using home = await recorder();
  for (const folder of [skills, plugin]) {
    const { stdout } = await run(program, ["plugin", "validate", "--strict", folder], {
      env: cleanEnv(home.path, "http://127.0.0.1:9"),
    });
    assert.match(stdout, /Validation passed/);
  }
});

test(
  "in the real CLI /orchestrator shows the model what was typed, and its command needs no permission",
  { skip },
  async () => {
    await using home = await recorder();
    let shown = "";
    await using api = await startMessagesApi({
      scenario: (call) => {
        // Other calls of the CLI (titles and the like) carry no skill.
        if (!call.prompt.includes("<arguments>")) return { kind: "text", text: "ok" };
        shown = call.prompt;
        if (call.answers > 0) return { kind: "text", text: "handed on" };
        const path =
          /^\s*(\S+\/scripts\/dispatch\.sh) --repo NAME/m.exec(call.prompt)?.[1] ?? "no path";
        const command = `${path} --repo kite <<'END_OF_TASK_7f3a91'\n${UNASKED}\nEND_OF_TASK_7f3a91`;
        return {
          kind: "tool",
          tools: [{ name: "Bash", input: { command, timeout: 600_000, description: "dispatch" } }],
        };
      },
    });
    const typed = `/orchestrator --repo kite --command ${UNASKED}`;
    const env = cleanEnv(home.path, api.url);
    const child = spawn(program, ["-p", typed, "--plugin-dir", plugin, "--output-format", "json"], {
      cwd: home.path,
      env: { ...env, PATH: `${home.bin}:${env["PATH"]}` },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (out += chunk.toString()));
    await new Promise((resolve) => child.on("close", resolve));
    // The CLI disarms what it would run itself; SKILL.md says how to undo it.
    const disarmed = typed.replace(" !x", " \\!x").slice("/orchestrator ".length);
    assert.equal(/<arguments>\n([^]*?)\n<\/arguments>/.exec(shown)?.[1], disarmed, out);
    const got = await home.got().catch(() => undefined);
    assert.ok(got, `${api.requests.at(-1)?.toolResults.join("\n")}\n${out}`);
    assert.deepEqual(got.arguments, ["dispatch", "--repo", "kite", "-"]);
    assert.equal(got.input, UNASKED);
    await assert.rejects(readFile(join(home.path, "pwned")));
  },
);
