import assert from "node:assert/strict";
import { test } from "node:test";
import { createShellRuntime } from "../../src/runtimes/shell/runtime.ts";

const runtime = createShellRuntime();
const signalsOf = (event: string, payload: Readonly<Record<string, unknown>>) =>
  runtime.signals({ run: "run-1", launch: 1, source: "shell", event, at: 1, up: 1, payload });

test("exit code 0 ends the turn, any other fails it and is named", () => {
  assert.deepEqual(signalsOf("Stop", { exit_code: 0, last_assistant_message: "ok" }), [
    { kind: "turn_ended", background: 0, summary: "ok" },
  ]);
  assert.deepEqual(signalsOf("Stop", { exit_code: 3 }), [
    { kind: "turn_failed", error: "exit 3", detail: "", retryable: false, cause: null },
  ]);
});

test("an end without an exit code is no success", () => {
  const [signal] = signalsOf("Stop", { exit_code: "0" });
  assert.equal(signal?.kind, "turn_failed");
});

test("the command is the last argument of the shell agent, exact, whatever it begins with", () => {
  const place = { runId: "run-1", seq: 1, home: "/home/dev" };
  const encoding = runtime.encode("/bin/true # exit\n", place);
  assert.deepEqual(encoding, {
    kind: "encoded",
    message: { form: "exact", sent: "/bin/true # exit\n", file: null },
  });
  assert.equal(runtime.encode("x".repeat(130_000), place).kind, "refused");
});
