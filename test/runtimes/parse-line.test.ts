import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { MAX_PAYLOAD_BYTES, parseLine, payloadFileOf } from "../../src/runtimes/parse-line.ts";
import { createClaudeRuntime } from "../../src/runtimes/claude/runtime.ts";
import { createShellRuntime } from "../../src/runtimes/shell/runtime.ts";

const line = {
  v: 1,
  run: "run-abc",
  launch: 1,
  source: "hook",
  event: "Stop",
  at: 1_763_640_000_123,
  up: 123_450,
  payload: { hook_event_name: "Stop", text: "a\u001b[31m\0" },
};
const raw = (change: Readonly<Record<string, unknown>>) => JSON.stringify({ ...line, ...change });

test("a worker line is parsed, and its strings stay as they are", () => {
  const { v: _, ...wanted } = line;
  assert.deepEqual(parseLine(raw({})), wanted);
});

const refused: readonly (readonly [string, string])[] = [
  ["an empty line", ""],
  ["a cut line", raw({}).slice(0, 40)],
  ["a list", "[]"],
  ["null", "null"],
  ["another version", raw({ v: 2 })],
  ["an unknown source", raw({ source: "agent" })],
  ["a run that is a path", raw({ run: "../x" })],
  ["a fraction of a launch", raw({ launch: 1.5 })],
  ["a time below zero", raw({ at: -1 })],
  ["a time that is no number", raw({}).replace("123450", "1e999")],
  ["an event with control characters", raw({ event: "Stop\u001b" })],
  ["a payload that is a list", raw({ payload: [1] })],
  ["a line far over its limit", raw({ payload: { text: "x".repeat(70_000) } })],
  ["a payload file outside the folder", raw({ payload_file: "../../etc/passwd" })],
];

for (const [what, text] of refused) {
  test(`no worker line: ${what}`, () => assert.equal(parseLine(text), null));
}

test("a payload file is named, and its content becomes the payload", () => {
  const { payload: _, ...rest } = line;
  const text = JSON.stringify({ ...rest, payload_file: "p1.json", payload_bytes: 5_000 });
  assert.deepEqual(payloadFileOf(text), { name: "p1.json", bytes: 5_000 });
  assert.deepEqual(parseLine(text, `{"prompt":"long"}`)?.payload, { prompt: "long" });
  assert.deepEqual(parseLine(text)?.payload, {});
  assert.deepEqual(parseLine(text, "no json")?.payload, {});
  assert.equal(payloadFileOf(raw({})), null);
});

test("a payload file over the limit is not to be fetched", () => {
  const text = raw({ payload_file: "p", payload_bytes: MAX_PAYLOAD_BYTES + 1 });
  assert.equal(payloadFileOf(text), null);
});

test("no line, however hostile, makes a parser or a runtime throw", () => {
  const runtimes = [createClaudeRuntime(), createShellRuntime()];
  const events = ["Stop", "StopFailure", "UserPromptSubmit", "SessionStart", "pulse", "exit"];
  const key = fc.constantFrom(
    "prompt",
    "background_tasks",
    "error",
    "alive",
    "registry",
    "signal",
    "cost",
    "__proto__",
    "agent_id",
  );
  const hostile = fc.record({
    source: fc.constantFrom("hook", "launcher", "guard", "shell"),
    event: fc.constantFrom(...events),
    payload: fc.dictionary(key, fc.jsonValue()),
  });
  fc.assert(
    fc.property(fc.oneof(fc.string(), hostile.map(raw), fc.json()), (text) => {
      payloadFileOf(text);
      const parsed = parseLine(text, text);
      if (parsed !== null) for (const runtime of runtimes) runtime.signals(parsed);
    }),
    { numRuns: 500 },
  );
});
