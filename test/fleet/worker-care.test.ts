import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { OrchestratorError } from "../../src/domain/errors.ts";
import type { RecoveredView, RunView, WorkerView } from "../../src/operations/views.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { localProvider } from "../../src/providers/local/local.ts";
import { installation, type Installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

type RescuedView = WorkerView & { rescued_run: string; snapshot: string | null; skipped: string[] };

const refusedWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof OrchestratorError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  assert.doesNotMatch(error.hint ?? "", /destroy|force|reset --hard|rm /, "no hint destroys");
  return true;
};

/** A task that works until the test lets it go. */
function held(installed: Installation, name = "go"): { task: string; go(): void } {
  const path = join(installed.home, name);
  return {
    task: `until [ -e ${path} ]; do sleep 0.05; done`,
    go: () => writeFileSync(path, ""),
  };
}

const worker = (installed: Installation, operation: string, more = {}, name = "kite-1") =>
  installed.call<WorkerView>(`worker.${operation}`, { worker: name, ...more });
const exec = (installed: Installation, script: string) =>
  installed.call<{ code: number; stdout: string }>("worker.exec", {
    worker: "kite-1",
    argv: ["sh", "-ec", script],
  });
const kinds = async (installed: Installation, prefix: string) =>
  (await installed.events()).map(({ kind }) => kind).filter((kind) => kind.startsWith(prefix));

test("a cordoned worker gets no run until it is uncordoned; saying it twice says it once", async () => {
  await using installed = installation({ repo: { maxWorkers: 1 } });
  await installed.wait((await installed.dispatch("true")).run_id);
  const cordoned = await worker(installed, "cordon");
  assert.deepEqual(
    [cordoned.cordoned, cordoned.idle, cordoned.not_idle_because],
    [true, false, "cordoned"],
  );
  await worker(installed, "cordon");
  const waits = await installed.dispatch("true");
  assert.equal(waits.state, "queued");
  assert.match(waits.reason ?? "", /cordoned/);
  await worker(installed, "uncordon");
  assert.equal((await installed.wait(waits.run_id)).state, "completed");
  assert.deepEqual(await kinds(installed, "worker.cordoned"), ["worker.cordoned"]);
  await assert.rejects(
    worker(installed, "cordon", {}, "kite-7"),
    refusedWith("not_found", /no worker kite-7/),
  );
});

test("a draining worker gets no run, its run ends undisturbed, and only then it is destroyed", async () => {
  await using installed = installation();
  const { task, go } = held(installed);
  const run = await installed.dispatch(`${task}; echo work > work.txt`);
  await installed.wait(run.run_id, "delivered");
  await assert.rejects(
    worker(installed, "drain", { wait: true, timeout_ms: 50 }),
    refusedWith("nothing_available", new RegExp(`still draining: ${run.run_id}`)),
  );
  const destroyed = worker(installed, "drain", { destroy: true });
  const other = await installed.dispatch("true");
  assert.equal((await installed.wait(other.run_id)).worker, "kite-2");
  assert.equal((await worker(installed, "show")).allocation, "claimed");
  go();
  assert.equal((await destroyed).allocation, "destroyed");
  assert.equal((await installed.wait(run.run_id)).state, "completed");
  const { diff } = await installed.call<{ diff: string }>("run.diff", { run_id: run.run_id });
  assert.match(diff, /^\+work$/m);
  assert.deepEqual(await kinds(installed, "worker.draining"), ["worker.draining"]);
});

test("a drain does not wait for a run that waits for a person", async () => {
  await using installed = installation();
  const { task, go } = held(installed);
  const run = await installed.dispatch(task);
  await installed.wait(run.run_id, "delivered");
  const { store } = (await installed.controller()).services;
  const drained = worker(installed, "drain", { wait: true, timeout_ms: 30_000 });
  drained.catch(() => {});
  await store.mutate(async (tx) => {
    await tx.db.updateTable("runs").set({ state: "blocked", reason: "a question" }).execute();
    tx.event({ kind: "run.blocked" });
  });
  await assert.rejects(drained, refusedWith("needs_person", /is draining, but run-.* is blocked/));
  go();
  await installed.wait(run.run_id);
});

test("reset: a worker is as a new one again, under a higher epoch, and its work is in the mirror", async () => {
  await using installed = installation();
  const run = await installed.dispatch(
    "echo one > one.txt; git checkout -qb mine; echo kept > .setup-ran",
  );
  await installed.wait(run.run_id);
  await exec(installed, "cd kite && echo later > later.txt && git stash list");
  const before = await worker(installed, "show");
  const after = await worker(installed, "reset");
  assert.deepEqual(
    [after.allocation, after.idle, after.worker_id],
    ["free", true, before.worker_id],
  );
  assert.ok(after.epoch > before.epoch);
  const { stdout } = await exec(installed, "cd kite && git status --porcelain --branch; ls -a");
  assert.match(stdout, /^## main/);
  assert.doesNotMatch(stdout, /one\.txt|later\.txt/);
  assert.match(stdout, /\.setup-ran/, "ignored files stay");
  const folder = join(installed.home, "back");
  await installed.call<RecoveredView>("run.recover", { run_id: run.run_id, folder });
  assert.equal(readFileSync(join(folder, "one.txt"), "utf8"), "one\n");
  assert.equal(readFileSync(join(folder, "later.txt"), "utf8"), "later\n");
  assert.equal((await installed.wait((await installed.dispatch("true")).run_id)).worker, "kite-1");
});

/** What makes a worker unsafe to touch: brought about, and taken back. */
interface Danger {
  readonly name: string;
  readonly reason: RegExp;
  bring(installed: Installation): Promise<() => Promise<unknown>>;
}

const DANGERS: readonly Danger[] = [
  {
    name: "a live run",
    reason: /run-.* runs on it/,
    async bring(installed) {
      const { task, go } = held(installed, "danger");
      const run = await installed.dispatch(task);
      await installed.wait(run.run_id, "delivered");
      return async () => {
        go();
        await installed.wait(run.run_id);
      };
    },
  },
  {
    name: "an operator attached",
    reason: /an operator is attached/,
    async bring(installed) {
      const { command } = await installed.call<{ command: string }>("worker.attach", {
        worker: "kite-1",
      });
      const terminal = spawn("script", ["-qfec", command, "/dev/null"], {
        stdio: ["pipe", "ignore", "ignore"],
        env: { ...process.env, TERM: "xterm" },
      });
      const clients = async () => (await exec(installed, "tmux list-clients")).stdout;
      await until(async () => (await clients()) !== "", { what: "the client" });
      return async () => {
        terminal.kill();
        await until(async () => (await clients()) === "", { what: "the client to leave" });
      };
    },
  },
  {
    name: "a turn that is not ours",
    reason: /not ours: the agent is in a turn/,
    async bring(installed) {
      const agent = stranger(installed);
      const sessions = join(installed.homeOf("kite-1"), ".claude/sessions");
      mkdirSync(sessions, { recursive: true });
      const cwd = join(installed.homeOf("kite-1"), "kite");
      writeFileSync(join(sessions, `${agent.pid}.json`), JSON.stringify({ status: "busy", cwd }));
      return async () => agent.kill();
    },
  },
  {
    name: "a live agent of which nobody knows what it does",
    reason: /its agent runs, and does not say what it does/,
    async bring(installed) {
      const agent = stranger(installed);
      const orchestrator = join(installed.homeOf("kite-1"), ".orchestrator");
      const [run = "", launch = ""] = readFileSync(join(orchestrator, "current"), "utf8")
        .trim()
        .split(" ");
      const gate = join(orchestrator, "runs", run, `launch-${launch}`);
      const former = readFileSync(gate, "utf8");
      const stat = readFileSync(`/proc/${agent.pid}/stat`, "utf8");
      const started = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
      const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
      writeFileSync(gate, `${agent.pid} ${started} ${boot} -\n`);
      return async () => {
        writeFileSync(gate, former);
        agent.kill();
      };
    },
  },
  {
    name: "work that cannot be saved",
    reason: /its work is not saved: big\.bin could not be saved: large/,
    async bring(installed) {
      await exec(
        installed,
        "cd kite && truncate -s 52428801 big.bin && git add big.bin && echo x >>big.bin",
      );
      return () => exec(installed, "cd kite && git rm -qf --cached big.bin && rm big.bin");
    },
  },
];

function stranger(installed: Installation): ChildProcess {
  return spawn("sleep", ["600"], {
    cwd: join(installed.homeOf("kite-1"), "kite"),
    stdio: "ignore",
  });
}

describe("what may not be touched is not touched", { concurrency: 2 }, () => {
  for (const { name, reason, bring } of DANGERS) {
    test(`reset and destroy are refused with ${name}, and done without`, async () => {
      await using installed = installation();
      const first = await installed.dispatch("echo precious > work.txt");
      await installed.wait(first.run_id);
      const before = await worker(installed, "show");
      const end = await bring(installed);
      try {
        const during = await worker(installed, "show");
        for (const operation of ["reset", "destroy"])
          await assert.rejects(worker(installed, operation), refusedWith("needs_person", reason));
        assert.deepEqual(
          [await worker(installed, "show").then((now) => [now.allocation, now.epoch])],
          [[during.allocation, during.epoch]],
          "it is as it was",
        );
        if (name !== "a live run") {
          const { stdout } = await exec(installed, "cat kite/work.txt");
          assert.equal(stdout, "precious\n");
        }
      } finally {
        await end();
      }
      const after = await worker(installed, "reset");
      assert.equal(after.worker_id, before.worker_id);
      assert.equal((await worker(installed, "destroy")).allocation, "destroyed");
    });
  }
});

test("rescue: what cannot be saved is named, what was mended is saved, and the worker is used again", async () => {
  await using installed = installation();
  const run = await installed.dispatch(
    "echo precious > p.txt; echo s3cret > .env; truncate -s 52428801 big.bin; git add -f big.bin; echo x >> big.bin",
  );
  const ended = await installed.wait(run.run_id);
  assert.deepEqual([ended.state, ended.unrescued], ["completed", true]);
  const aside = await worker(installed, "show");
  assert.equal(aside.allocation, "unready");
  assert.match(aside.reason ?? "", /^unrescued: big\.bin could not be saved: large/);
  await assert.rejects(worker(installed, "rescue"), (error) => {
    refusedWith("needs_person", /was not rescued: big\.bin could not be saved: large/)(error);
    assert.ok(error instanceof OrchestratorError);
    assert.deepEqual(error.details, { unsaved: [{ path: "big.bin", why: "large" }] });
    return true;
  });
  assert.equal((await exec(installed, "cat kite/p.txt")).stdout, "precious\n");
  await exec(installed, "cd kite && git rm -qf --cached big.bin && rm big.bin");
  const rescued = await installed.call<RescuedView>("worker.rescue", { worker: "kite-1" });
  assert.deepEqual(
    [rescued.allocation, rescued.idle, rescued.rescued_run, rescued.skipped],
    ["free", true, run.run_id, ["secret .env"]],
  );
  const after = await installed.call<RunView & { report: { snapshot: string | null } }>(
    "run.show",
    {
      run_id: run.run_id,
    },
  );
  assert.deepEqual([after.unrescued, after.report.snapshot], [false, rescued.snapshot]);
  const { diff } = await installed.call<{ diff: string }>("run.diff", { run_id: run.run_id });
  assert.match(diff, /^\+precious$/m);
  assert.doesNotMatch(diff, /s3cret/);
  const { stdout } = await exec(installed, "cat kite/.env; ls kite");
  assert.match(stdout, /^s3cret\n/, "a secret stays in its place");
  assert.doesNotMatch(stdout, /p\.txt/);
  await assert.rejects(
    worker(installed, "rescue"),
    refusedWith("not_claimable", /is free, not unready/),
  );
});

test("adopt: a machine that the store forgot comes back with its work, one of another fleet never", async () => {
  await using installed = installation();
  // So that the worker has seen a higher epoch than a new row has.
  await installed.wait((await installed.dispatch("true")).run_id);
  const run = await installed.dispatch("echo precious > p.txt");
  await installed.wait(run.run_id);
  await installed.stopController();
  const { store } = (await installed.controller()).services;
  // As after an older store was restored.
  await store.mutate(async (tx) => {
    for (const table of ["messages", "steps", "runs", "tasks", "workers"] as const)
      await tx.db.deleteFrom(table).execute();
  });
  writeFileSync(join(installed.homeOf("kite-1"), "kite/later.txt"), "later\n");
  const adopted = await worker(installed, "adopt");
  assert.equal(adopted.allocation, "unready");
  assert.match(adopted.reason ?? "", /nothing proves its work saved/);
  assert.equal((await worker(installed, "adopt")).worker_id, adopted.worker_id);
  const other = await installed.dispatch("true");
  assert.equal((await installed.wait(other.run_id)).worker, "kite-2", "it is not used yet");
  const rescued = await installed.call<RescuedView>("worker.rescue", { worker: "kite-1" });
  assert.deepEqual([rescued.allocation, rescued.rescued_run], ["free", run.run_id]);
  const folder = join(installed.home, "back");
  await installed.call("run.recover", { run_id: run.run_id, folder });
  assert.equal(readFileSync(join(folder, "later.txt"), "utf8"), "later\n");
  assert.ok(!existsSync(join(installed.homeOf("kite-1"), "kite/later.txt")));

  const provider = localProvider({
    root: installed.paths.local,
    clock: systemClock(),
    ids: randomIds(),
  });
  const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGy3nN3Hl4cTfVw0pXl8VQm3rJm4v0X3kE6hS1b2c3d4";
  await provider.create({ name: "kite-9", fleetId: "theirs", nonce: "n", authorizedKey: key });
  await assert.rejects(
    worker(installed, "adopt", {}, "kite-9"),
    refusedWith("forbidden", /belongs to another fleet/),
  );
  await assert.rejects(
    worker(installed, "adopt", {}, "kite-8"),
    refusedWith("not_found", /has no worker kite-8/),
  );
  assert.equal((await installed.call<WorkerView[]>("worker.list")).length, 2);
});
