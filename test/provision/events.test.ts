import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { assert as check, constantFrom, property, string } from "fast-check";

import { TestWorker, RUN } from "../support/worker.ts";

function workerWithRun(): TestWorker {
  const worker = new TestWorker();
  mkdirSync(worker.path("runs", RUN), { recursive: true });
  return worker;
}

const hookEnv = { ORCHESTRATOR_RUN: RUN, ORCHESTRATOR_LAUNCH: `${RUN}/3` };

test("a hook appends its JSON as one line with source, launch and times", async () => {
  using worker = workerWithRun();
  const payload = { session_id: "s", hook_event_name: "Stop", text: 'a "b" \\ é 😀 {x}' };
  const ran = await worker.run("hook", ["Stop"], {
    stdin: `${JSON.stringify(payload)}\n`,
    env: hookEnv,
  });
  assert.deepEqual(ran, { code: 0, stdout: "", stderr: "" });
  const [line, ...rest] = worker.events(RUN);
  assert.equal(rest.length, 0);
  assert.deepEqual(line?.payload, payload);
  assert.equal(line?.event, "Stop");
  assert.equal(line?.launch, 3);
  assert.equal(line?.source, "hook");
  assert.ok(Math.abs((line?.at ?? 0) - Date.now()) < 60_000);
  assert.ok((line?.up ?? 0) > 0);
});

test("a payload whose line would reach 4,000 bytes goes to a file first, byte for byte", async () => {
  using worker = workerWithRun();
  for (const bytes of [3_700, 3_790, 3_850, 3_990, 4_100, 120_000, 1_000_000]) {
    const prompt = "é".repeat(bytes / 2);
    const stdin = JSON.stringify({ prompt });
    await worker.run("hook", ["UserPromptSubmit"], { stdin, env: hookEnv });
    const raw =
      readFileSync(worker.path("runs", RUN, "events.jsonl"), "utf8")
        .split("\n")
        .at(-2) ?? "";
    assert.ok(Buffer.byteLength(raw) + 1 < 4_000, `${bytes}: ${Buffer.byteLength(raw)}`);
    const line = worker.events(RUN).at(-1);
    if (line?.payload_file === undefined) {
      assert.equal(line?.payload["prompt"], prompt);
      continue;
    }
    assert.equal(line.payload_bytes, Buffer.byteLength(stdin));
    const read = await worker.run("payload", [RUN, line.payload_file]);
    assert.equal(read.stdout, stdin);
  }
  const files = readdirSync(worker.path("runs", RUN, "payloads"));
  assert.ok(files.length >= 4 && files.every((name) => !name.startsWith(".")), String(files));
});

test("what a tool was given is cut from a long line, what says who did what stays", async () => {
  using worker = workerWithRun();
  const common = {
    session_id: "s",
    agent_id: "sub",
    hook_event_name: "PostToolUse",
    tool_name: "Write",
  };
  const stdin = JSON.stringify({
    ...common,
    tool_input: { content: "x".repeat(50_000) },
    tool_response: {},
  });
  await worker.run("hook", ["PostToolUse"], { stdin, env: hookEnv });
  assert.deepEqual(worker.events(RUN)[0]?.payload, common);
  assert.equal(existsSync(worker.path("runs", RUN, "payloads")), false);
});

test("stdin that is no JSON object never corrupts the file", async () => {
  using worker = workerWithRun();
  const inputs = [
    "",
    "not json",
    '{"a":1}\n{"b":2}',
    '{"a":"\u0007"}',
    "[1]",
    '{\n  "a": 1\n}',
    "\n\n",
    "{",
  ];
  for (const stdin of inputs) await worker.run("hook", ["Stop"], { stdin, env: hookEnv });
  const lines = worker.events(RUN);
  assert.equal(lines.length, inputs.length);
  const pretty = lines[5];
  const read = await worker.run("payload", [RUN, pretty?.payload_file ?? ""]);
  assert.deepEqual(JSON.parse(read.stdout), { a: 1 });
});

test("a hook without our run, or with a hostile one, writes nothing and still exits 0", async () => {
  using worker = workerWithRun();
  const environments = [
    {},
    { ORCHESTRATOR_RUN: "../x", ORCHESTRATOR_LAUNCH: "../x/1" },
    { ORCHESTRATOR_RUN: "run-absent", ORCHESTRATOR_LAUNCH: "run-absent/1" },
    { ORCHESTRATOR_RUN: RUN },
  ];
  for (const env of environments) {
    const ran = await worker.run("hook", ["Stop"], { stdin: "{}", env });
    assert.deepEqual(ran, { code: 0, stdout: "", stderr: "" });
  }
  assert.deepEqual(worker.events(RUN), []);
  assert.deepEqual(readdirSync(worker.path("runs")), [RUN]);
});

test("a hook exits 0 when the scripts beside it are gone", async () => {
  using worker = workerWithRun();
  for (const name of ["emit", "lib.sh"]) {
    writeFileSync(join(worker.path("bin"), name), "exit 2\n");
    const ran = await worker.run("hook", ["Stop"], { stdin: "{}", env: hookEnv });
    assert.equal(ran.code, 0, name);
  }
});

test("20 writers at once lose no line and mix none", async () => {
  using worker = workerWithRun();
  const each = 15;
  const loop = `i=0; while [ $i -lt ${each} ]; do i=$((i+1)); "$1/emit" ${RUN} 1 shell E$2 "{\\"i\\":$i,\\"pad\\":\\"$3\\"}" || exit 1; done`;
  await Promise.all(
    Array.from({ length: 20 }, async (_, writer) => {
      const pad = "p".repeat((writer * 191) % 3_700);
      const child = worker.shell(loop, [worker.path("bin"), String(writer), pad]);
      assert.equal((await child).code, 0);
    }),
  );
  const seen = worker.events(RUN).map((line) => `${line.event}/${String(line.payload["i"])}`);
  assert.equal(seen.length, 20 * each);
  assert.equal(new Set(seen).size, 20 * each);
});

test("after a line that a full disk cut short, the next one stands alone", async () => {
  using worker = workerWithRun();
  const file = worker.path("runs", RUN, "events.jsonl");
  writeFileSync(file, '{"v":1,"run":"ru');
  writeFileSync(worker.path("runs", RUN, "torn"), "");
  await worker.run("emit", [RUN, "1", "shell", "Stop", "{}"]);
  await worker.run("emit", [RUN, "1", "shell", "Stop", "{}"]);
  const lines = readFileSync(file, "utf8").split("\n");
  assert.equal(lines.length, 4);
  assert.equal(JSON.parse(lines[1] ?? "").event, "Stop");
  assert.equal(JSON.parse(lines[2] ?? "").event, "Stop");
});

test("a text becomes a JSON string byte for byte", () => {
  const script = join(import.meta.dirname, "..", "..", "provision", "worker", "json-string.awk");
  const encode = (text: string) =>
    JSON.parse(
      spawnSync("awk", ["-f", script], {
        input: `${text}x`,
        env: { ...process.env, LC_ALL: "C" },
      }).stdout.toString("utf8"),
    );
  for (const text of [
    "",
    "\n",
    "a\n\n",
    "\t\u001b[0m\r",
    '"\\"',
    "é😀",
    "x".repeat(100_000),
    "y\\n\n".repeat(20_000),
    "&\\&",
  ]) {
    assert.equal(encode(text), text);
  }
  const texts = string({
    unit: constantFrom("a", "\\", '"', "\n", "&", "\u0001", "\u007f", "é", "😀", "%s"),
  });
  check(
    property(texts, (text) => encode(text) === text),
    { numRuns: 60 },
  );
});
