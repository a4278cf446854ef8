import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { EventView, RunDetailView, RunView, WorkerView } from "../../src/operations/views.ts";
import { isAlive } from "../support/agent-window.ts";
import { installation, type Installation } from "../support/installation.ts";
import { TOOLCHAINS } from "../support/provision-rig.ts";
import { makeRemote, type Fixture, type Remote } from "../support/repos.ts";
import { until } from "../support/wait.ts";

/** Pools of the example repositories; stand-ins for toolchains come first, so that no test needs the network. */
async function pools(fixtures: readonly Fixture[], more: Readonly<Record<string, unknown>> = {}) {
  const folder = mkdtempSync(join(tmpdir(), "remotes-"));
  const remotes = new Map<Fixture, Remote>();
  for (const fixture of fixtures) remotes.set(fixture, await makeRemote(folder, fixture));
  const installed = installation({
    env: { PATH: [TOOLCHAINS, process.env["PATH"]].join(delimiter) },
  });
  const repos = [...remotes].map(([name, { url }]) => [name, { url, runtime: "shell", ...more }]);
  installed.configure({}, { repos: Object.fromEntries(repos) as Record<string, unknown> });
  return {
    installed,
    remote: (fixture: Fixture) => remotes.get(fixture)!,
    async run(repo: Fixture, text: string): Promise<RunDetailView> {
      const { run } = await installed.call<{ run: RunView }>("dispatch", { repo, text });
      return installed.wait(run.run_id);
    },
    log: (run: RunView) =>
      readFileSync(
        join(installed.homeOf(run.worker ?? ""), `.orchestrator/jobs/${run.run_id}-1/setup.log`),
        "utf8",
      ),
    logs: async (run: RunView) =>
      (await installed.call<{ text: string }>("run.logs", { run_id: run.run_id })).text,
    async [Symbol.asyncDispose]() {
      await installed[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const stateOf = (run: RunDetailView, step: string) =>
  run.steps.find((seen) => seen.step === step)?.state;

const failureOf = async (installed: Installation, run: RunView): Promise<EventView["payload"]> =>
  (await installed.events(run.run_id)).find(
    ({ payload }) => payload["step"] === "setup" && payload["tail"] !== undefined,
  )?.payload ?? {};

describe("example repositories, through the product", () => {
  let fleet: Awaited<ReturnType<typeof pools>>;
  before(async () => {
    fleet = await pools(["sonar", "kite", "no-script", "not-executable", "failing"]);
  });
  after(() => fleet[Symbol.asyncDispose]());

  test("Python with Poetry: the set-up ran before the task, its output is in the step's log, and it is not repeated", async () => {
    const run = await fleet.run("sonar", "ls -d .venv");
    assert.equal(run.state, "completed", JSON.stringify(run));
    assert.match(run.report?.summary ?? "", /^\.venv$/m);
    assert.equal(stateOf(run, "setup"), "done");
    const said = [
      "Setting up Python environment...",
      "Python 3.11.0 (stand-in)",
      "(stand-in) pip would install: poetry",
      "(stand-in) poetry would install what poetry.lock names",
      "✅ Ready",
    ];
    assert.equal(fleet.log(run), `${said.join("\n")}\n`);
    assert.ok(
      (await fleet.logs(run)).includes(`--- setup of ${run.run_id} ---\n${said.join("\n")}\n`),
    );

    const again = await fleet.run("sonar", "ls -d .venv");
    assert.equal(again.worker, run.worker);
    assert.equal(stateOf(again, "setup"), "skipped");
    await fleet.remote("sonar").commit("Lock", { "poetry.lock": "# another\n" });
    const anew = await fleet.run("sonar", "true");
    assert.equal(stateOf(anew, "setup"), "done", "another lock file");
  });

  test("Elixir with Mix: the set-up ran before the task, and its output is in the step's log", async () => {
    const run = await fleet.run("kite", "ls -d deps _build");
    assert.equal(run.state, "completed", JSON.stringify(run));
    assert.match(run.report?.summary ?? "", /_build\s+deps/);
    assert.equal(stateOf(run, "setup"), "done");
    const said = [
      "Setting up Elixir environment...",
      "(stand-in) mix would get the dependencies",
      "(stand-in) mix would compile",
      "✅ Ready",
    ];
    assert.equal(fleet.log(run), `${said.join("\n")}\n`);
    assert.ok((await fleet.logs(run)).includes(said.join("\n")));
  });

  test("a script that may not be executed is run by bash", async () => {
    const run = await fleet.run("not-executable", "true");
    assert.equal(run.state, "completed", JSON.stringify(run));
    assert.equal(stateOf(run, "setup"), "done");
    assert.equal(fleet.log(run), "up and ready\n");
  });

  test("a repository without a script is worked in as it is, and the step says why it was skipped", async () => {
    const run = await fleet.run("no-script", "cat README.md");
    assert.equal(run.state, "completed", JSON.stringify(run));
    assert.match(run.report?.summary ?? "", /needs no set-up/);
    const step = run.steps.find(({ step }) => step === "setup");
    assert.deepEqual([step?.state, step?.detail], ["skipped", "there is no scripts/dev-setup.sh"]);
    assert.doesNotMatch(await fleet.logs(run), /--- setup/);
  });

  test("a script that fails ends the run with step, exit code and last lines, before the agent starts", async () => {
    const run = await fleet.run("failing", "true");
    assert.deepEqual([run.state, run.launch], ["failed", 0]);
    assert.equal(
      run.state_reason,
      "setup failed with code 50: scripts/dev-setup.sh ended with exit code 3: the package index cannot be reached",
    );
    assert.equal(stateOf(run, "setup"), "failed");
    assert.equal(stateOf(run, "agent"), undefined);
    assert.deepEqual(await failureOf(fleet.installed, run), {
      outcome: "failed",
      reason: run.state_reason,
      step: "setup",
      code: 50,
      tail: [
        "fetching things",
        "the package index cannot be reached",
        "scripts/dev-setup.sh ended with exit code 3",
      ],
    });
    assert.match(await fleet.logs(run), /--- setup .*\nfetching things\nthe package index/);
    const [worker] = await fleet.installed.call<WorkerView[]>("worker.list", { repo: "failing" });
    assert.equal(worker?.allocation, "unready");
    assert.match(worker.reason ?? "", /ended with exit code 3/);
  });
});

test("a set-up that takes longer than setupMinutes is ended on the worker, and the run fails with step, reason and last lines", async () => {
  await using fleet = await pools(["kite"], { setupMinutes: 0.05, maxWorkers: 1 });
  const { installed } = fleet;
  await fleet.remote("kite").commit("Hang", {
    "scripts/dev-setup.sh": `#!/bin/bash
[ -e "$HOME/quick" ] && exit 0
touch "$HOME/quick"
mkdir "$HOME/pids"
echo "waiting for the package index"
setsid sh -c 'echo $$ >"$HOME/pids/child"; exec sleep 1000' &
echo $$ >"$HOME/pids/script"
wait
`,
  });
  const run = await fleet.run("kite", "true");
  assert.deepEqual([run.state, run.launch], ["failed", 0], JSON.stringify(run));
  assert.equal(
    run.state_reason,
    "setup failed with code 51: scripts/dev-setup.sh was ended: it took longer than 3 s (setupMinutes): waiting for the package index",
  );
  const { code, tail } = await failureOf(installed, run);
  assert.deepEqual(
    [code, tail],
    [
      51,
      [
        "waiting for the package index",
        "scripts/dev-setup.sh was ended: it took longer than 3 s (setupMinutes)",
      ],
    ],
  );
  const pids = join(installed.homeOf("kite-1"), "pids");
  assert.deepEqual(readdirSync(pids).sort(), ["child", "script"]);
  for (const name of readdirSync(pids)) {
    assert.equal(isAlive(Number(readFileSync(join(pids, name), "utf8"))), false, name);
  }
  assert.equal(existsSync(join(installed.homeOf("kite-1"), "kite")), true, "the clone stays");
  const [worker] = await installed.call<WorkerView[]>("worker.list");
  assert.equal(worker?.allocation, "unready");

  const mended = await installed.call<WorkerView>("worker.setup", { worker: "kite-1" });
  assert.equal(mended.allocation, "free");
  assert.equal((await fleet.run("kite", "true")).state, "completed");
});

test("a worker that is made without a task has no more time for its set-up", async () => {
  await using fleet = await pools(["kite"], { setupMinutes: 0.05, minIdle: 1 });
  await fleet.remote("kite").commit("Hang", { "scripts/dev-setup.sh": "#!/bin/sh\nsleep 1000\n" });
  await fleet.installed.controller();
  const worker = await until(
    async () => {
      const [seen] = await fleet.installed.call<WorkerView[]>("worker.list");
      return seen?.allocation === "unready" ? seen : undefined;
    },
    { what: "the worker that could not be set up", timeoutMs: 60_000 },
  );
  assert.match(worker.reason ?? "", /setup failed with code 51/);
});
