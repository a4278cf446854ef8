import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { OrchestratorError } from "../../src/domain/errors.ts";
import { encodeLine, lineCutter, parseAnswer, parseRequest } from "../../src/operations/wire.ts";

const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof OrchestratorError, String(error));
    return error.code;
  }
  return "none";
};

test("lines come out as they went in, however the bytes were cut", () => {
  fc.assert(
    fc.property(fc.array(fc.json({ maxDepth: 2 })), fc.array(fc.nat(40)), (values, cuts) => {
      const bytes = Buffer.from(values.map((value) => `${value}\n`).join(""));
      const cut = lineCutter(1_000_000);
      const lines: string[] = [];
      let at = 0;
      for (const length of [...cuts, bytes.length]) {
        for (const line of cut(bytes.subarray(at, at + length))) lines.push(line.toString());
        at += length;
      }
      assert.deepEqual(lines, values);
    }),
  );
});

test("a line beyond the cap is refused before its end is there", () => {
  const cut = lineCutter(10);
  assert.deepEqual(cut(Buffer.from("0123456789\n")).map(String), ["0123456789"]);
  assert.deepEqual(cut(Buffer.from("01234")).map(String), []);
  assert.equal(
    codeOf(() => cut(Buffer.from("567890"))),
    "invalid_input",
  );
  assert.equal(
    codeOf(() => lineCutter(10)(Buffer.from("0123456789x\n"))),
    "invalid_input",
  );
});

test("garbage is refused by name, whatever it is", () => {
  const garbage = [
    "",
    "null",
    "[]",
    "7",
    '"x"',
    "{",
    "{}",
    '{"id":1}',
    '{"id":-1,"v":1,"op":"x"}',
    '{"id":1.5,"v":1,"op":"x"}',
    '{"id":"1","v":1,"op":"x"}',
    '{"id":1,"v":"1","op":"x"}',
    '{"id":1,"v":1,"op":7}',
    "[".repeat(200_000),
  ];
  for (const line of garbage) {
    assert.equal(
      codeOf(() => parseRequest(Buffer.from(line))),
      "invalid_input",
      line.slice(0, 40),
    );
  }
  assert.equal(
    codeOf(() => parseRequest(Buffer.from([0x7b, 0xff, 0xfe, 0x7d]))),
    "invalid_input",
  );
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      for (const parse of [parseRequest, parseAnswer]) {
        assert.ok(["none", "invalid_input"].includes(codeOf(() => parse(Buffer.from(bytes)))));
      }
    }),
  );
});

test("requests and answers survive the wire", () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.string({ unit: "binary" }),
      fc.json({ maxDepth: 2 }),
      (id, text, value) => {
        const input = { text, value: JSON.parse(value) as unknown };
        const line = encodeLine({ v: 1, version: "0.1.0", id, op: "x", input });
        assert.equal(line.indexOf("\n"), line.length - 1);
        const request = parseRequest(Buffer.from(line.slice(0, -1)));
        const expected = JSON.parse(JSON.stringify(input)) as unknown;
        assert.deepEqual(request, {
          kind: "call",
          v: 1,
          version: "0.1.0",
          id,
          op: "x",
          input: expected,
        });
        const answer = parseAnswer(Buffer.from(encodeLine({ id, value: input }).slice(0, -1)));
        assert.deepEqual(answer, { id, value: expected });
      },
    ),
    { numRuns: 50 },
  );
});
