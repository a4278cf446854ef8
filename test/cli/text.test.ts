import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { cleanBlock } from "../../src/cli/clean.ts";
import { formatAge, formatMs } from "../../src/cli/format.ts";
import { fit, table, widthOf } from "../../src/cli/table.ts";

test("text of several lines loses what acts on a terminal and keeps its shape", () => {
  assert.equal(cleanBlock("a\u001b[31m  b\n\tc\u0007\r\n  d\u202e e"), "a  b\n    c\n  d e");
  const patch = "diff --git a/x b/x\n@@ -1,2 +1,2 @@\n-  old   line\n+  new   line\n";
  assert.equal(cleanBlock(patch), patch);
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      assert.doesNotMatch(cleanBlock(text).replaceAll("\n", ""), /[\p{Cc}\p{Cf}\u2028\u2029]/u);
    }),
  );
});

test("columns stand below each other, wide characters counted as two cells", () => {
  const lines = table(
    ["NAME", "WHY"],
    [
      ["kite-1", "x"],
      ["漢字", "\u001b[31mred\u001b[0m"],
      ["e\u0301", "y"],
    ],
  );
  assert.deepEqual(lines, ["NAME    WHY", "kite-1  x", "漢字    red", "e\u0301       y"]);
  assert.equal(widthOf("🚀a"), 3);
  assert.equal(fit("漢字漢字", 5), "漢字…");
  assert.deepEqual(table(["A", "B"], [["1", "x".repeat(50)]], 30)[1], `1  ${"x".repeat(26)}…`);
});

test("times read as people say them", () => {
  assert.deepEqual([0, 999, 1_234, 61_000, 3_661_000].map(formatMs), [
    "0 ms",
    "999 ms",
    "1.2 s",
    "1 min 1 s",
    "1 h 1 min",
  ]);
  assert.deepEqual([-5, 59_999, 60_000, 7_200_000, 172_800_000].map(formatAge), [
    "0s",
    "59s",
    "1m",
    "2h",
    "2d",
  ]);
});
