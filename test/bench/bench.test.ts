import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { hasMoved, whileSteady, type Pace } from "./calibrate.ts";
import { interleave, median } from "./measure.ts";
import { judge, type Goal, type Report } from "./report.ts";

const execute = promisify(execFile);
const ROOT = join(import.meta.dirname, "..", "..");

const quick: Pace = { nodeMs: 20, syncMs: 1 };
const slow: Pace = { nodeMs: 40, syncMs: 1 };

test("a block is measured again while the machine's pace moves, three times at most", async () => {
  let paces = [quick, slow, slow, slow];
  const readPace = () => Promise.resolve(paces.shift() ?? quick);
  const measured = await whileSteady(() => Promise.resolve("value"), { readPace });
  assert.deepEqual([measured.tries, measured.steady, measured.value], [2, true, "value"]);
  paces = [quick, slow, quick, slow, quick, slow];
  const restless = await whileSteady(() => Promise.resolve(0), { readPace });
  assert.deepEqual([restless.tries, restless.steady], [3, false]);
});

test("both clocks of the machine count, and jitter far below a disk's does not", () => {
  assert.equal(hasMoved(quick, { nodeMs: 25, syncMs: 1.25 }), false);
  assert.equal(hasMoved(quick, { nodeMs: 27, syncMs: 1 }), true);
  assert.equal(hasMoved(quick, { nodeMs: 20, syncMs: 1.4 }), true);
  assert.equal(hasMoved({ nodeMs: 20, syncMs: 0.1 }, { nodeMs: 20, syncMs: 0.4 }), false);
});

test("a goal is judged by its direction, and not at all on a noisy machine or after few rounds", () => {
  const goal: Goal = { id: "P0", what: "", value: 2, limit: 3, better: "at most", unit: "x" };
  const calm = { steady: true, rounds: 5 };
  assert.equal(judge(goal, calm), "met");
  assert.equal(judge({ ...goal, value: 4 }, calm), "missed");
  assert.equal(judge({ ...goal, better: "at least" }, calm), "missed");
  assert.equal(judge({ ...goal, value: 4 }, { steady: false, rounds: 5 }), "too noisy");
  assert.equal(judge(goal, { steady: true, rounds: 4 }), "too few rounds");
  assert.equal(judge({ ...goal, isCount: true }, { steady: false, rounds: 1 }), "met");
});

test("rounds begin in turn with each contestant, and a median is the middle one", async () => {
  const order: string[] = [];
  const contestant = (name: string) => async () => void order.push(name);
  await interleave(2, [contestant("a"), contestant("b"), contestant("c")]);
  assert.equal(order.join(""), "abcbca");
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([9, 1, 5, 6]), 5.5);
});

const built = existsSync(join(ROOT, "dist", "orchestrator.cjs"));
const skip = built ? false : "the product is not built";

test(
  "one round of each kind gives readings for every block",
  { skip, timeout: 240_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "bench-"));
    const json = join(folder, "report.json");
    const bench = join(import.meta.dirname, "bench.ts");
    try {
      // The others only wait for time to pass.
      const args = [
        bench,
        "--only",
        "P1,P3,P4,P9,P12",
        "--rounds",
        "1",
        "--at-once",
        "2",
        "--sweep",
        "2",
        "--once",
        "--json",
        json,
      ];
      const { stdout } = await execute(process.execPath, args);
      const { blocks } = JSON.parse(readFileSync(json, "utf8")) as Report;
      assert.deepEqual(
        blocks.map(({ name }) => name),
        [
          "P9 command line",
          "P1 warm dispatch",
          "P1 at a distance",
          "P3 sweep of 2 workers",
          "P12 2 at once",
          "P12 beside mute workers",
          "P4 detection",
        ],
      );
      for (const { series, goals } of blocks) {
        for (const { name, rounds, median: middle } of series) {
          assert.ok(rounds >= 1, name);
          assert.ok(middle > 0, `${name}: ${middle}`);
          assert.ok(stdout.includes(name));
        }
        assert.ok(goals.length > 0);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);

test("a sweep is measured against floors and scripts, opens nothing new and wakes nobody", async () => {
  const bench = join(import.meta.dirname, "bench.ts");
  const args = [bench, "--only", "P3", "--sweep", "3", "--rounds", "1", "--once"];
  const { stdout } = await execute(process.execPath, args);
  for (const what of ["product, kept connections ", "floor: ssh2 exec", "OpenSSH, one by one"]) {
    assert.ok(stdout.includes(what), what);
  }
  assert.match(stdout, /MET +P3: 3 workers, connections opened by a sweep over kept ones: 0\.00/);
  assert.match(stdout, /MET +P3: 3 workers, sleeping workers dialled: 0\.00/);
});
