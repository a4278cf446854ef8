import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { OrchestratorError } from "../../src/domain/errors.ts";
import type { PoolView, RunDetailView, WorkerView } from "../../src/operations/views.ts";
import { cli } from "../support/controller-process.ts";
import { installation, type Installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

const FAILING = `#!/bin/bash
echo "asking at $(date +%N) for $HOME/.cache/$RANDOM"
echo "error: the registry refused $HOME/x-$RANDOM" >&2
exit 1
`;

const pools = (installed: Installation) => installed.call<PoolView[]>("pool.list");
const show = (installed: Installation, runId: string) =>
  installed.call<RunDetailView>("run.show", { run_id: runId });
const fails = async (installed: Installation) => {
  const run = await installed.dispatch("true");
  const ended = await installed.wait(run.run_id);
  assert.equal(ended.state, "failed");
  return ended;
};

/** Replaces the set-up script at the remote. */
function pushSetup(installed: Installation, text: string): void {
  const work = mkdtempSync(join(tmpdir(), "so-push-"));
  const git = (...args: string[]) =>
    execFileSync("git", ["-c", "user.name=T", "-c", "user.email=t@example.invalid", ...args], {
      cwd: work,
      stdio: "ignore",
    });
  git("clone", "-q", installed.remote, ".");
  writeFileSync(join(work, "scripts/dev-setup.sh"), text);
  chmodSync(join(work, "scripts/dev-setup.sh"), 0o755);
  git("commit", "-qam", "Change the set-up");
  git("push", "-q", "origin", "HEAD:main");
  rmSync(work, { recursive: true });
}

test("the same set-up failure on a second worker pauses the pool: one alert, and nothing more is tried", async () => {
  await using installed = installation({ files: { "scripts/dev-setup.sh": FAILING } });
  const first = await fails(installed);
  assert.deepEqual((await pools(installed))[0]?.pause, null);
  const second = await fails(installed);
  assert.deepEqual([first.worker, second.worker], ["kite-1", "kite-2"]);
  const [pool] = await pools(installed);
  assert.equal(pool?.admits, false);
  assert.match(
    pool.pause?.reason ?? "",
    /^set-up failed alike on kite-1 and kite-2: setup failed with code 50: .*the registry refused/,
  );

  const queued = await installed.dispatch("true");
  assert.equal(queued.state, "queued");
  assert.match(queued.reason ?? "", /^pool kite is paused: set-up failed alike/);
  await assert.rejects(
    installed.dispatch("true", { on_full: "fail" }),
    (error: OrchestratorError) => error.code === "limited",
  );
  const events = await installed.events();
  const alerts = events.filter(({ kind }) => kind === "pool.paused");
  assert.deepEqual(
    alerts.map(({ run_id }) => run_id),
    [second.run_id],
  );
  const workers = await installed.call<WorkerView[]>("worker.list");
  assert.equal(workers.length, 2, "no third worker was spent on it");

  // Seen from the command line, and over a restart.
  await installed.stopController();
  assert.match((await cli(installed, ["status"])).stdout, /^kite +paused .*set-up failed alike/m);
  const refused = await cli(installed, [
    "--repo",
    "kite",
    "--command",
    "true",
    "--on-full",
    "fail",
  ]);
  assert.equal(refused.code, 16, refused.stderr);
  const resumed = await cli(installed, ["pool", "resume", "kite"]);
  assert.match(resumed.stdout, /^pool kite takes runs$/m);
  await cli(installed, ["stop"]);
  const tried = await installed.wait(queued.run_id);
  assert.deepEqual([tried.state, tried.worker], ["failed", "kite-3"], "by the operator's word");
});

test("a paused pool finds out by a worker, not by a task, that its base was mended", async () => {
  await using installed = installation({ files: { "scripts/dev-setup.sh": FAILING } });
  await fails(installed);
  await fails(installed);
  const queued = await installed.dispatch("true");
  // A look that finds nothing changed resumes nothing, however often it comes.
  await installed.stopController();
  await installed.controller();
  await delay(1_500);
  assert.equal((await show(installed, queued.run_id)).state, "queued");

  // Another base that fails as well is tried on a worker, and the pause stands.
  pushSetup(installed, `${FAILING}# still broken\n`);
  await installed.stopController();
  await installed.controller();
  await until(
    async () =>
      (await installed.events()).filter(
        ({ kind, payload }) => kind === "worker.unready" && payload["worker"] === "kite-1",
      ).length === 2,
    { what: "the second failure of kite-1", timeoutMs: 30_000 },
  );
  assert.equal((await show(installed, queued.run_id)).state, "queued");
  assert.equal((await pools(installed))[0]?.admits, false);

  pushSetup(installed, "#!/bin/sh\necho ready > .setup-ran\n");
  await installed.stopController();
  await installed.controller();
  const ended = await installed.wait(queued.run_id, "ended", 60_000);
  assert.deepEqual([ended.state, ended.worker], ["completed", "kite-1"]);
  const resumed = (await installed.events()).filter(({ kind }) => kind === "pool.resumed");
  assert.deepEqual(
    resumed.map(({ payload }) => payload["because"]),
    ["kite-1 was set up"],
  );
});

test("the operator pauses a pool: what runs goes on, what comes waits, and a follow-up waits, too", async () => {
  await using installed = installation();
  const before = await installed.wait((await installed.dispatch("true")).run_id);
  await installed.call("pool.pause", { repo: "kite", reason: "a move of house" });
  await installed.call("pool.pause", { repo: "kite", reason: "said twice" });
  const run = await installed.dispatch("true");
  assert.equal(run.reason, "pool kite is paused: a move of house");
  const followUp = await installed.call<RunDetailView>("send", {
    target: before.run_id,
    text: "true",
  });
  assert.equal(followUp.state, "queued");
  const resumed = await installed.call<PoolView>("pool.resume", { repo: "kite" });
  assert.deepEqual([resumed.pause, resumed.admits], [null, true]);
  await installed.call("pool.resume", { repo: "kite" });
  for (const { run_id } of [run, followUp])
    assert.equal((await installed.wait(run_id)).state, "completed");
  const kinds = (await installed.events()).map(({ kind }) => kind);
  assert.equal(kinds.filter((kind) => kind === "pool.paused").length, 1);
  assert.equal(kinds.filter((kind) => kind === "pool.resumed").length, 1);
});
