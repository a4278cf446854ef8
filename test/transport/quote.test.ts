import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import * as fc from "fast-check";

import { OrchestratorError } from "../../src/domain/errors.ts";
import { quoteArgument, quoteCommand, remoteCommand } from "../../src/transport/quote.ts";

const isInvalid = (error: unknown) =>
  error instanceof OrchestratorError && error.code === "invalid_input";

/** Strings that shells trip over, mixed with any Unicode. */
const argument = fc.oneof(
  fc.string({ unit: "binary" }).filter((text) => !text.includes("\0")),
  fc.string({
    unit: fc.constantFrom("'", '"', "\\", "\n", "$", "`", "!", "-", "~", "*", "=", " ", "a", "#"),
  }),
  fc.constantFrom("", "-n", "--", "$(id)", "~root", "a=b", "=ls", "{a,b}", "\r\n", "\ufeff"),
);

for (const shell of ["sh", "bash"]) {
  test(`${shell} hands quoted arguments on byte for byte`, () => {
    fc.assert(
      fc.property(fc.array(argument, { maxLength: 30 }), (args) => {
        const command = quoteCommand(["printf", "%s\\0", "first", ...args]);
        const printed = execFileSync(shell, ["-c", command], { encoding: "utf8" });
        assert.deepEqual(printed.split("\0"), ["first", ...args, ""]);
      }),
      { numRuns: 60 },
    );
  });
}

test("plain words stay readable, all else is in single quotes", () => {
  assert.equal(quoteCommand(["git", "-C", "/a/b", "it's", "é"]), "git -C /a/b 'it'\\''s' 'é'");
  assert.equal(quoteArgument(""), "''");
});

test("what no shell can take is invalid input", () => {
  for (const text of ["a\0b", "\ud800", "x\udc00y"]) {
    assert.throws(() => quoteArgument(text), isInvalid);
  }
  for (const argv of [[], [""], ["-la"]]) assert.throws(() => quoteCommand(argv), isInvalid);
});

test("a command as long as the shell can take is sent, a longer one is invalid input", () => {
  const room = 128 * 1024 - 1 - Buffer.byteLength(remoteCommand(["echo", "x"])) + 1;
  const longest = remoteCommand(["echo", "x".repeat(room)]);
  assert.equal(execFileSync("sh", ["-c", longest], { encoding: "utf8" }).length, room + 1);
  assert.throws(() => remoteCommand(["echo", "x".repeat(room + 1)]), isInvalid);
});
