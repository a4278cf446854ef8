import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { EventView } from "../../src/operations/views.ts";
import { cli, controllerProcess, type CliResult } from "../support/controller-process.ts";
import { installation, type Installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

interface Dispatched extends CliResult {
  readonly runId: string | undefined;
}

async function dispatch(installed: Installation, ...args: string[]): Promise<Dispatched> {
  const said = await cli(installed, ["dispatch", "--repo", "kite", "--json", ...args]);
  return { ...said, runId: /"run_id":"(run-[a-z0-9]+)"/.exec(said.stdout)?.[1] };
}

const many = <T>(count: number, act: (index: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, (_, index) => act(index)));

/** Runs of commands that all succeeded. */
function runsOf(all: readonly Dispatched[]): string[] {
  for (const said of all) assert.equal(said.code, 0, `${said.stdout}\n${said.stderr}`);
  return all.map(({ runId }) => runId ?? "");
}

/** What the tasks themselves wrote, a line each. */
function marks(installed: Installation): string[] {
  const path = join(installed.home, "marks");
  return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n").sort() : [];
}

const marking = (installed: Installation, mark: string, first = "true"): string =>
  `${first}; echo ${mark} >> ${installed.home}/marks`;

/** From the log: how many workers were held at once at most, and each that was given to two runs at the same time. */
function holdings(events: readonly EventView[]): { most: number; doubles: string[] } {
  const held = new Map<string, string | null>();
  const doubles: string[] = [];
  let most = 0;
  for (const event of events) {
    if (event.kind === "run.assigned") {
      const worker = String(event.payload["worker"]);
      if (held.has(worker)) doubles.push(`${worker}: ${held.get(worker)} and ${event.run_id}`);
      held.set(worker, event.run_id);
      most = Math.max(most, held.size);
    } else if (event.kind === "run.finished" || event.kind === "run.requeued") {
      for (const [worker, run] of held) if (run === event.run_id) held.delete(worker);
    }
  }
  return { most, doubles };
}

const idsOf = (events: readonly EventView[], kind: string): (string | null)[] =>
  events.filter((event) => event.kind === kind).map((event) => event.run_id);

test("50 commands at once with no controller running: one controller, 5 workers, each task done once, in order", async () => {
  await using installed = installation({ repo: { maxWorkers: 5 } });
  const accepted = many(50, (index) =>
    dispatch(installed, "--command", marking(installed, `m${index}`)),
  );
  const runs = runsOf(await accepted);
  assert.equal(new Set(runs).size, 50);
  await until(() => marks(installed).length === 50, { what: "50 marks", timeoutMs: 600_000 });
  await cli(installed, ["stop"]);
  for (const run of runs) assert.equal((await installed.wait(run)).state, "completed");
  assert.equal(new Set(marks(installed)).size, 50, "no task ran twice");

  const events = await installed.events();
  assert.deepEqual(holdings(events), { most: 5, doubles: [] });
  assert.deepEqual(
    idsOf(events, "run.assigned"),
    idsOf(events, "run.queued"),
    "first come, first served",
  );
  const workers = await installed.call<{ worker: string }[]>("worker.list");
  assert.deepEqual(workers.map(({ worker }) => worker).sort(), folders(installed));
  assert.equal(workers.length, 5);
});

/** Local workers that are there. */
function folders(installed: Installation): string[] {
  return readdirSync(installed.paths.local)
    .filter((name) => /^kite-\d+$/.test(name))
    .sort();
}

test("6 commands at once without a cap get 6 different workers", async () => {
  await using installed = installation();
  const go = join(installed.home, "go");
  const waiting = `until [ -e ${go} ]; do sleep 0.1; done`;
  runsOf(
    await many(6, (index) =>
      dispatch(installed, "--command", marking(installed, `m${index}`, waiting)),
    ),
  );
  const listed = await cli(installed, ["run", "list", "--live", "--json"]);
  const workers = listed.stdout.match(/"worker":"kite-\d+"/g) ?? [];
  assert.equal(new Set(workers).size, 6, listed.stdout);
  writeFileSync(go, "");
  await until(() => marks(installed).length === 6, { what: "6 marks", timeoutMs: 60_000 });
  await cli(installed, ["stop"]);
  assert.deepEqual(holdings(await installed.events()), { most: 6, doubles: [] });
});

test("20 processes with one request id make one run; another task under that id is refused", async () => {
  await using installed = installation({ repo: { maxWorkers: 2 } });
  const command = marking(installed, "once");
  const runs = runsOf(
    await many(20, () => dispatch(installed, "--request-id", "same", "--command", command)),
  );
  assert.equal(new Set(runs).size, 1);
  const other = await dispatch(installed, "--request-id", "same", "--command", "true");
  assert.equal(other.code, 2, other.stdout);
  assert.match(other.stdout, /"code":"request_mismatch"/);
  const [run = ""] = runs;
  assert.equal((await cli(installed, ["run", "wait", run])).code, 0);
  const replayed = await dispatch(installed, "--request-id", "same", "--command", command);
  assert.equal(replayed.runId, run, "the answer is the same after the run has ended");
  await cli(installed, ["stop"]);
  assert.deepEqual(marks(installed), ["once"]);
});

test("a second controller on the same home exits with 11 and says why, and the first goes on", async () => {
  await using installed = installation();
  await using first = await controllerProcess(installed);
  const second = await cli(installed, ["serve"]);
  assert.equal(second.code, 11, second.stderr);
  assert.match(second.stderr, /another controller runs for /);
  const { code, stderr } = await dispatch(installed, "--command", "true", "--wait");
  assert.equal(code, 0, stderr);
  assert.ok(first.pid > 0);
});

test("the controller is stopped while tasks run and wait: the next one takes all of them up, each done once", async () => {
  await using installed = installation({ repo: { maxWorkers: 2 } });
  const go = join(installed.home, "go");
  const waiting = `until [ -e ${go} ]; do sleep 0.1; done`;
  const runs = runsOf(
    await many(4, (index) =>
      dispatch(installed, "--command", marking(installed, `m${index}`, waiting)),
    ),
  );
  assert.equal((await cli(installed, ["stop"])).code, 0);
  writeFileSync(go, "");
  for (const run of runs) {
    const { code, stderr } = await cli(installed, ["run", "wait", run]);
    assert.equal(code, 0, stderr);
  }
  await cli(installed, ["stop"]);
  assert.deepEqual(marks(installed), ["m0", "m1", "m2", "m3"]);
  assert.deepEqual(holdings(await installed.events()).doubles, []);
});
