import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { canonicalHash, canonicalJson } from "../../src/store/canonical.ts";
import { type EventRow, eventHash, followChain, GENESIS } from "../../src/store/chain.ts";
import { expiry } from "../../src/store/expiry.ts";
import { failure } from "./rig.ts";

test("canonical JSON says the same as JSON, whatever the order of the keys", () => {
  fc.assert(
    fc.property(fc.jsonValue({ stringUnit: "binary" }), (value) => {
      assert.deepEqual(JSON.parse(canonicalJson(value)), JSON.parse(JSON.stringify(value)));
    }),
  );
  const keys = fc.uniqueArray(fc.string({ unit: "binary" }), { maxLength: 8 });
  fc.assert(
    fc.property(keys, (names) => {
      const made = (order: readonly string[]) => Object.fromEntries(order.map((key) => [key, key]));
      assert.equal(canonicalJson(made(names)), canonicalJson(made([...names].reverse())));
    }),
  );
});

test("canonical JSON leaves out undefined, uses toJSON, and is one text", () => {
  const value = { b: [undefined, 1, { y: "é\n", x: null }], a: undefined, c: new Date(0), "": -0 };
  assert.equal(
    canonicalJson(value),
    '{"":0,"b":[null,1,{"x":null,"y":"é\\n"}],"c":"1970-01-01T00:00:00.000Z"}',
  );
  assert.equal(canonicalJson(undefined), "null");
  assert.equal(canonicalHash({ a: 1, b: 2 }), canonicalHash({ b: 2, a: 1 }));
  assert.notEqual(canonicalHash([1, 2]), canonicalHash([2, 1]));
});

test("canonical JSON refuses what JSON would lose", () => {
  for (const lost of [Number.NaN, Infinity, 1n, () => 1, Symbol("x")]) {
    assert.throws(() => canonicalJson({ deep: [{ lost }] }), failure("invalid_input", /'lost' is/));
  }
});

function chainOf(length: number): EventRow[] {
  const rows: EventRow[] = [];
  let end = GENESIS;
  for (let seq = 1; seq <= length; seq += 1) {
    const row = {
      seq,
      at: 1_000 + seq,
      kind: "task.opened",
      repo: "kite",
      task_id: null,
      run_id: null,
      worker_id: null,
      payload: canonicalJson({ seq }),
      prev_hash: end.hash,
    };
    end = { seq, hash: eventHash(row) };
    rows.push({ ...row, hash: end.hash });
  }
  return rows;
}

test("a whole chain ends where it ends, from its start or from anywhere", () => {
  const rows = chainOf(20);
  const last = { seq: 20, hash: rows[19]?.hash };
  assert.deepEqual(followChain(rows, GENESIS), { kind: "whole", end: last });
  assert.deepEqual(followChain(rows.slice(7)), { kind: "whole", end: last });
  assert.deepEqual(followChain([]), { kind: "whole", end: GENESIS });
});

test("any change, gap or swap in a chain is found", () => {
  const rows = chainOf(12);
  const changes: Array<Partial<Record<keyof EventRow, unknown>>> = [
    { at: 7 },
    { kind: "task.done" },
    { repo: null },
    { repo: "" },
    { task_id: "t-1" },
    { run_id: "r-1" },
    { worker_id: "w-1" },
    { payload: "{}" },
    { prev_hash: "f".repeat(64) },
    { hash: "f".repeat(64) },
  ];
  fc.assert(
    fc.property(fc.nat(11), fc.constantFrom(...changes), (index, change) => {
      const altered = rows.map((row, at) =>
        at === index ? ({ ...row, ...change } as EventRow) : row,
      );
      assert.equal(followChain(altered, GENESIS).kind, "broken");
    }),
  );
  fc.assert(
    fc.property(fc.nat(10), (index) => {
      assert.equal(followChain(rows.toSpliced(index, 1), GENESIS).kind, "broken");
    }),
  );
  assert.deepEqual(followChain(rows.toSpliced(3, 2), GENESIS), {
    kind: "broken",
    seq: 6,
    reason: "events 4 to 5 are missing",
  });
});

test("a grant runs out by the monotonic clock of one boot", () => {
  const granted = { bootId: "a", monotonic: 1_000 };
  const at = (monotonic: number) => expiry(granted, 500, { bootId: "a", monotonic });
  assert.deepEqual(at(1_000), { kind: "live", remainingMs: 500 });
  assert.deepEqual(at(1_499), { kind: "live", remainingMs: 1 });
  assert.deepEqual(at(1_500), { kind: "expired" });
  assert.deepEqual(at(900), { kind: "live", remainingMs: 500 });
});

test("a new boot gives one full term from when it is first seen, and no second one", () => {
  const granted = { bootId: "a", monotonic: 900_000 };
  const present = { bootId: "b", monotonic: 10 };
  const renewed = expiry(granted, 500, present);
  assert.deepEqual(renewed, { kind: "renewed", granted: present, remainingMs: 500 });
  assert.ok(renewed.kind === "renewed");
  assert.deepEqual(expiry(renewed.granted, 500, { bootId: "b", monotonic: 510 }), {
    kind: "expired",
  });
});
