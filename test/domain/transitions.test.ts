import assert from "node:assert/strict";
import { test } from "node:test";
import {
  EXIT_CODES,
  fromWireError,
  OrchestratorError,
  toWireError,
} from "../../src/domain/errors.ts";
import { parseName, splitWorkerName } from "../../src/domain/names.ts";
import { RUN_TRANSITIONS, TERMINAL_RUN_STATES } from "../../src/domain/run.ts";
import { TASK_TRANSITIONS } from "../../src/domain/task.ts";
import { can, next, type Table } from "../../src/domain/transition.ts";
import { WORKER_TRANSITIONS } from "../../src/domain/worker.ts";

function reachable<S extends string, E extends string>(table: Table<S, E>, from: S): Set<string> {
  const seen = new Set<string>([from]);
  const todo: S[] = [from];
  for (let state = todo.pop(); state !== undefined; state = todo.pop()) {
    for (const to of Object.values<S>(table[state] as Record<string, S>)) {
      if (!seen.has(to)) {
        seen.add(to);
        todo.push(to);
      }
    }
  }
  return seen;
}

test("every state of every machine can be reached from its first", () => {
  assert.deepEqual(
    [...reachable(WORKER_TRANSITIONS, "creating")].sort(),
    Object.keys(WORKER_TRANSITIONS).sort(),
  );
  assert.deepEqual(
    [...reachable(RUN_TRANSITIONS, "queued")].sort(),
    Object.keys(RUN_TRANSITIONS).sort(),
  );
  assert.deepEqual(
    [...reachable(TASK_TRANSITIONS, "open")].sort(),
    Object.keys(TASK_TRANSITIONS).sort(),
  );
});

test("ends have no way out, and from every other state an end can be reached", () => {
  for (const state of Object.keys(RUN_TRANSITIONS) as (keyof typeof RUN_TRANSITIONS)[]) {
    if (TERMINAL_RUN_STATES.has(state)) assert.deepEqual(RUN_TRANSITIONS[state], {});
    else
      assert.ok(
        [...reachable(RUN_TRANSITIONS, state)].some((to) => TERMINAL_RUN_STATES.has(to as never)),
        state,
      );
  }
});

test("a worker in use cannot be destroyed or reset by any event", () => {
  for (const state of ["claimed", "preparing", "creating"] as const) {
    assert.ok(!can(WORKER_TRANSITIONS, state, "destroy"));
    assert.ok(!can(WORKER_TRANSITIONS, state, "reset"));
  }
  assert.throws(
    () => next("worker", WORKER_TRANSITIONS, "claimed", "destroy"),
    /worker cannot take 'destroy'/,
  );
});

test("errors keep code, hint and details across a door, and unknown codes become internal", () => {
  const error = new OrchestratorError("needs_person", "kite-1 was not destroyed", {
    hint: "look",
    details: { a: 1 },
  });
  const back = fromWireError(JSON.parse(JSON.stringify(toWireError(error))));
  assert.deepEqual(
    [back.code, back.message, back.hint, back.details],
    ["needs_person", "kite-1 was not destroyed", "look", { a: 1 }],
  );
  assert.equal(toWireError(new TypeError("x")).code, "internal");
  assert.equal(
    EXIT_CODES[
      fromWireError({ code: "made_up" as never, message: "m", retryable: false, details: {} }).code
    ],
    1,
  );
});

test("names are refused with one clear error when they are no names", () => {
  for (const bad of [
    "",
    "Kite",
    "-kite",
    "a b",
    "../x",
    "#(touch x)",
    "kite\u200b",
    "a".repeat(41),
    "kité",
    "k;id",
    "a\nb",
  ]) {
    assert.throws(
      () => parseName(bad, "repo"),
      (error: OrchestratorError) => error.code === "invalid_input",
      bad,
    );
  }
  assert.equal(parseName("kite-2", "repo"), "kite-2");
  assert.deepEqual(splitWorkerName("kite-2-11"), { repo: "kite-2", number: 11 });
  assert.equal(splitWorkerName("kite-0"), undefined);
});
