import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";

import { MAX_LINE_BYTES, splitLines } from "../../src/transport/lines.ts";

async function split(chunks: readonly Uint8Array[]): Promise<string[]> {
  return Array.fromAsync(
    splitLines(
      (async function* () {
        yield* chunks;
      })(),
    ),
  );
}

test("lines do not depend on where the chunks were cut", async () => {
  const text = fc.string({ unit: fc.constantFrom("a", "é", "🙂", "\n", "\r", "\ufeff") });
  await fc.assert(
    fc.asyncProperty(text, fc.integer({ min: 1, max: 9 }), async (text, size) => {
      const bytes = Buffer.from(text);
      const chunks: Uint8Array[] = [];
      for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
      const expected = text.split("\n");
      if (expected.at(-1) === "") expected.pop();
      assert.deepEqual(await split(chunks), expected);
    }),
  );
});

test("an endless line costs no more than its limit, and the next one is whole", async () => {
  const chunk = Buffer.alloc(300_000, "x");
  const chunks = [...Array.from({ length: 20 }, () => chunk), Buffer.from("\nnext\n")];
  const [long, next] = await split(chunks);
  assert.deepEqual([long?.length, next], [MAX_LINE_BYTES, "next"]);
});
