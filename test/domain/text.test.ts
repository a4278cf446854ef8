import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { cleanText } from "../../src/domain/text.ts";

const cases: readonly (readonly [string, string, string])[] = [
  ["colours", "\u001b[31mred\u001b[0m", "red"],
  ["a title sequence", "a\u001b]0;evil\u0007b", "ab"],
  ["a title sequence with a string terminator", "a\u001b]0;evil\u001b\\b", "ab"],
  ["a clipboard write", "\u001b]52;c;ZXZpbA==\u0007ok", "ok"],
  ["a device control string", "\u001bPq#0\u001b\\ok", "ok"],
  ["eight bit forms", "\u009b31mred\u009d0;x\u009c!", "red!"],
  ["a cut sequence at the end", "ok\u001b[", "ok"],
  ["a lone escape", "ok\u001b", "ok"],
  ["bidirectional overrides", "safe\u202etxt.exe\u2066", "safetxt.exe"],
  ["zero width characters", "a\u200bb\u2060c\ufeffd", "abcd"],
  ["tags", "a\u{e0041}b", "ab"],
  ["lines and tabs", " a\r\n\tb\u2028c ", "a b c"],
  ["bell, backspace and NUL", "a\u0007\b\0b", "ab"],
  ["half a surrogate pair", "a\ud800b", "a\ufffdb"],
  ["plain text of any script", "grün 漢字 🙂", "grün 漢字 🙂"],
];

for (const [what, text, wanted] of cases) {
  test(`clean text removes ${what}`, () => assert.equal(cleanText(text, 100), wanted));
}

test("clean text is cut with an ellipsis, never within a pair", () => {
  assert.equal(cleanText("abcdef", 4), "abc…");
  assert.equal(cleanText("ab🙂cd", 4), "ab…");
  assert.equal(cleanText("abcd", 4), "abcd");
  assert.equal(cleanText("x".repeat(1_000_000), 10), `${"x".repeat(9)}…`);
});

test("clean text never holds a control character, never grows over its size, and stays as it is when cleaned again", () => {
  const hostile = fc.string({
    unit: fc.oneof(
      fc.constantFrom("\u001b", "[", "]", "0;", "m", "\u0007", "\u009b", "\u202e", "\u200d", "\n"),
      fc.string({ unit: "binary", maxLength: 3 }),
    ),
  });
  fc.assert(
    fc.property(hostile, fc.integer({ min: 1, max: 40 }), (text, max) => {
      const clean = cleanText(text, max);
      assert.ok(clean.length <= max);
      assert.doesNotMatch(clean, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      assert.ok(clean.isWellFormed());
      assert.equal(cleanText(clean, max), clean);
    }),
  );
});
