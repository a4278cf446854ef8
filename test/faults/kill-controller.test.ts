import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { RunDetailView } from "../../src/operations/views.ts";
import { cli, controllerProcess } from "../support/controller-process.ts";
import { installation, type Installation } from "../support/installation.ts";

/** Every named place between two effects, in the order of a run (`failpoint` in src/). */
const FAILPOINTS = [
  "after-request",
  "before-create",
  "after-create",
  "after-adopt",
  "before-connect",
  "after-connect",
  "after-prepare",
  "after-intent",
  "before-start",
  "after-start",
  "after-fold",
  "after-fold:2",
  "after-fold:3",
  "before-finish",
  "after-save",
  "before-report",
  "after-report",
];
/** `npm run soak` asks for more. */
const MOMENTS = Number(process.env["SOAK_MOMENTS"] ?? "8");
const SEED = Number(process.env["SOAK_SEED"] ?? Math.floor(Math.random() * 2 ** 31));

/** Gives the task under a request id, again and again until somebody has accepted it, as a careful caller would. */
async function dispatch(installed: Installation, id: string, text: string): Promise<string> {
  for (let attempt = 0; attempt < 10; attempt += 1) {
    const said = await cli(installed, [
      "dispatch",
      "--repo",
      "kite",
      "--command",
      text,
      "--request-id",
      id,
      "--json",
    ]);
    const runId = /"run_id":"(run-[a-z0-9]+)"/.exec(said.stdout)?.[1];
    if (runId !== undefined) return runId;
  }
  throw new Error(`nobody accepted ${id}`);
}

/** Exactly one agent, delivered once, ended as it should, its steps run once per attempt, nothing left over. */
async function checkRun(
  installed: Installation,
  runId: string,
  mark: string,
): Promise<RunDetailView> {
  const run = await installed.wait(runId, "ended", 60_000).catch(async (error: unknown) => {
    const workers = await installed.call<unknown>("worker.list", { all: true });
    const events = await installed.events();
    throw new Error(
      `${String(error)}\n${JSON.stringify(workers)}\n${events.map((event) => JSON.stringify(event)).join("\n")}`,
    );
  });
  assert.equal(run.state, "completed", JSON.stringify(run, null, 1));
  assert.equal(run.receipt, "accepted");
  assert.equal(run.launch, 1);
  const home = installed.homeOf(run.worker ?? "");
  assert.equal(readFileSync(join(home, mark), "utf8"), "ran\n", "the task ran exactly once");
  const events = await installed.events(runId);
  assert.equal(events.filter(({ kind }) => kind === "run.delivered").length, 1);
  assert.equal(events.filter(({ kind }) => kind === "run.finished").length, 1);
  const launches = readdirSync(join(home, ".orchestrator", "runs", runId)).filter((name) =>
    name.startsWith("launch-"),
  );
  assert.deepEqual(launches, ["launch-1"]);
  for (const job of jobsOf(home, runId)) {
    const done = job
      .filter((line) => line.startsWith("start\t"))
      .map((line) => line.split("\t")[1]);
    assert.equal(new Set(done).size, done.length, `a step ran twice: ${done.join(" ")}`);
  }
  return run;
}

function jobsOf(home: string, runId: string): string[][] {
  const jobs = join(home, ".orchestrator", "jobs");
  return readdirSync(jobs)
    .filter((name) => name.startsWith(`${runId}-`))
    .map((name) => join(jobs, name, "progress"))
    .filter((path) => existsSync(path))
    .map((path) => readFileSync(path, "utf8").split("\n"));
}

async function checkFleet(installed: Installation, runs: number): Promise<void> {
  const workers = await installed.call<{ allocation: string; worker: string }[]>("worker.list");
  for (const worker of workers) assert.equal(worker.allocation, "free", JSON.stringify(worker));
  const all = await installed.call<unknown[]>("run.list", { limit: 1_000 });
  assert.equal(all.length, runs, "each accepted task is one run");
  assert.deepEqual(
    readdirSync(installed.paths.local)
      .filter((name) => /^kite-\d+$/.test(name))
      .sort(),
    workers.map(({ worker }) => worker).sort(),
    "no worker was lost or leaked",
  );
}

test("killed at any step, the controller goes on: one agent, one delivery, nothing twice", async (t) => {
  const chosen = process.env["KILL_AT"];
  for (const failpoint of chosen === undefined ? FAILPOINTS : [chosen]) {
    await t.test(failpoint, async () => {
      await using installed = installation();
      const mark = "mark";
      {
        await using doomed = await controllerProcess(installed, {
          ORCHESTRATOR_FAILPOINT: failpoint,
        });
        const first = cli(installed, [
          "dispatch",
          "--repo",
          "kite",
          "--command",
          `echo ran >> ~/${mark}`,
          "--request-id",
          "one",
          "--wait",
        ]);
        await doomed.ended;
        await first;
      }
      const runId = await dispatch(installed, "one", `echo ran >> ~/${mark}`);
      await cli(installed, ["stop"]);
      await checkRun(installed, runId, mark);
      await checkFleet(installed, 1);
    });
  }
});

test(`killed at ${MOMENTS} random moments under load, nothing is lost, doubled or leaked (SOAK_SEED=${SEED})`, async () => {
  await using installed = installation({ repo: { maxWorkers: 3 } });
  const random = generator(SEED);
  const accepted: { runId: string; mark: string }[] = [];
  for (let moment = 0; moment < MOMENTS; moment += 1) {
    await using doomed = await controllerProcess(installed);
    const mark = `mark-${moment}`;
    const asked = dispatch(installed, mark, `echo ran >> ~/${mark}`);
    await Promise.race([delay(random() * 1_500), asked]);
    if (random() < 0.7) await delay(random() * 600);
    await doomed.kill();
    accepted.push({ runId: await asked, mark });
    await cli(installed, ["stop"]);
  }
  for (const { runId, mark } of accepted) await checkRun(installed, runId, mark);
  await checkFleet(installed, MOMENTS);
});

test("kill -9 of the command line changes nothing for the run", async () => {
  await using installed = installation();
  await using controller = await controllerProcess(installed);
  assert.ok(controller.pid > 0);
  const runId = await dispatch(installed, "one", "sleep 0.5; echo ran >> ~/mark");
  const { spawn } = await import("node:child_process");
  const { MAIN } = await import("../support/controller-process.ts");
  const watcher = spawn(process.execPath, [MAIN, "run", "wait", runId], {
    env: installed.env,
    stdio: ["ignore", "pipe", "ignore"],
  });
  await new Promise((resolve) => watcher.once("spawn", resolve));
  watcher.kill("SIGKILL");
  await cli(installed, ["run", "wait", runId]);
  await controller.kill();
  await checkRun(installed, runId, "mark");
});

/** mulberry32: small, seeded, good enough to choose moments. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
