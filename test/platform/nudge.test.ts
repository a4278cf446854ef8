import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Nudge } from "../../src/platform/nudge.ts";

test("a timer that is called off after an early nudge fails unheard, and does not end the process", async () => {
  const unheard: unknown[] = [];
  const note = (error: unknown) => unheard.push(error);
  process.on("unhandledRejection", note);
  try {
    const nudge = new Nudge();
    nudge.nudge();
    const timer = Promise.withResolvers<void>();
    await nudge.wait(timer.promise, new AbortController().signal);
    timer.reject(new Error("called off"));
    await turn();
    await turn();
    assert.deepEqual(unheard, []);
  } finally {
    process.off("unhandledRejection", note);
  }
});
