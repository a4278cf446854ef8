import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../../src/platform/clock.ts";
import { Repeating } from "../../src/platform/repeating.ts";
import { until } from "../support/wait.ts";

test("a turn that fails is told of and ends nothing; after stop there is none", async () => {
  const failures: unknown[] = [];
  let turns = 0;
  class Counting extends Repeating {
    async runOnce(): Promise<void> {
      turns += 1;
      if (turns === 1) throw new Error("the first");
    }
    protected failed(error: unknown): void {
      failures.push(error);
    }
  }
  const counting = new Counting({ clock: systemClock(), everyMs: 1 });
  await counting.start();
  await counting.start();
  await until(() => turns > 3, { what: "turns after the failure" });
  await counting.stop();
  await counting.stop();
  const last = turns;
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(turns, last);
  assert.deepEqual(failures.map(String), ["Error: the first"]);
});
