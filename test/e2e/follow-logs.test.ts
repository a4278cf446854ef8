import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { LogQueue } from "../../src/dispatch/log-queue.ts";
import { findOperation, performStream } from "../../src/operations/perform.ts";
import { OPERATIONS } from "../../src/operations/registry.ts";
import type { LogLineView } from "../../src/operations/views.ts";
import { installation, type Installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

async function follow(installed: Installation, runId: string, signal: AbortSignal) {
  const { services } = await installed.controller();
  const seen: LogLineView[] = [];
  const done = (async () => {
    const operation = findOperation(OPERATIONS, "run.follow");
    for await (const item of performStream(operation, services, { run_id: runId }, signal))
      seen.push(item as LogLineView);
  })();
  return { seen, done };
}

const has = (seen: readonly LogLineView[], source: string, pattern: RegExp) =>
  seen.some((line) => line.source === source && pattern.test(line.text));

test("a run is followed from its set-up's output over its agent's events to its end, and ends with it", async () => {
  await using installed = installation({
    files: {
      "scripts/dev-setup.sh":
        '#!/bin/bash\nprintf "first \\033[31mline\\n"\nwhile [ ! -e "$HOME/go" ]; do sleep 0.1; done\necho last line\n',
    },
  });
  const run = await installed.dispatch(
    'while [ ! -e "$HOME/end" ]; do sleep 0.1; done; echo said; exit 7',
  );
  const { seen, done } = await follow(installed, run.run_id, new AbortController().signal);
  const sees = (source: string, pattern: RegExp) =>
    until(() => has(seen, source, pattern), { what: `${source} ${pattern}`, timeoutMs: 30_000 });
  // While the step runs, not after it.
  await sees("setup", /^setup\| first line$/);
  assert.ok(!has(seen, "setup", /last line/));
  writeFileSync(join(installed.homeOf("kite-1"), "go"), "");
  await sees("setup", /^setup\| last line$/);
  await sees("agent", /^1 UserPromptSubmit prompt=while/);
  writeFileSync(join(installed.homeOf("kite-1"), "end"), "");
  await done;
  assert.ok(has(seen, "agent", /^1 Stop .*exit_code=7/), JSON.stringify(seen.slice(-8)));
  assert.ok(has(seen, "run", /^run\.finished .*state=failed/));
  assert.ok(!has(seen, "agent", /pulse/));
  // What has ended is shown whole, and at once.
  const again = await follow(installed, run.run_id, new AbortController().signal);
  await again.done;
  const runs = (lines: readonly LogLineView[]) => lines.filter(({ source }) => source === "run");
  assert.deepEqual(runs(again.seen), runs(seen));
});

test("who stops following stops nothing, and a run that is not there is not found", async () => {
  await using installed = installation();
  const run = await installed.dispatch("sleep 600");
  const stop = new AbortController();
  const { seen, done } = await follow(installed, run.run_id, stop.signal);
  await until(() => has(seen, "agent", /UserPromptSubmit/), {
    what: "the agent",
    timeoutMs: 30_000,
  });
  await installed.wait(run.run_id, "delivered");
  stop.abort();
  await done.catch(() => {});
  assert.equal(
    (await installed.call<{ state: string }>("run.show", { run_id: run.run_id })).state,
    "active",
  );
  const absent = await follow(installed, "run-absent", new AbortController().signal);
  await assert.rejects(absent.done, /there is no run run-absent/);
  await installed.call("run.cancel", { run_id: run.run_id });
  await installed.wait(run.run_id);
});

test("a reader who is slow loses the newest lines, never the memory", async () => {
  const queue = new LogQueue<number>(3);
  assert.deepEqual(
    [1, 2, 3, 4, 5].map((line) => queue.push(line)),
    [true, true, true, false, false],
  );
  queue.end();
  const read: number[] = [];
  for await (const line of queue.lines(new AbortController().signal)) read.push(line);
  assert.deepEqual(read, [1, 2, 3]);
});
