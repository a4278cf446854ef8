import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { RunDetailView, RunView, WorkerView } from "../../src/operations/views.ts";
import { isTerminal } from "../../src/domain/run.ts";
import { hostInput } from "../support/ssh-fleet.ts";
import { sshInstallation } from "../support/ssh-installation.ts";
import type { SshMachine } from "../support/ssh-machine.ts";
import { powerCut } from "../support/sshds.ts";
import { until } from "../support/wait.ts";

/*
 * A day of a small team: ten workers, of this machine and over SSH, and a silent check every half hour (DAY_SWEEPS=48; fewer by default). Between two checks tasks come, are
 * held up, fail; hosts go away and come back, some with another key; workers lose all their processes; the controller is restarted. What
 * each line of the check must say is known from what was done here, never from what the product says of it.
 */

const SWEEPS = Number(process.env["DAY_SWEEPS"] ?? 8);
const LOCAL = 6;
const HOSTS = 4;
const BACK_MS = 60_000;

type Fate = "works" | "fails" | "is held up";

interface Task {
  readonly id: string;
  readonly fate: Fate;
  readonly runId: string;
  /** The tick of its dispatch. */
  readonly since: number;
  /** Its worker's processes were killed while it was held up. */
  cut: boolean;
  released: boolean;
}

/** The same day for the same seed. */
function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
}

test("a day of ten workers, with checks, reboots and dead hosts: nothing is lost and every line is true", async (t) => {
  const seed = Number(process.env["DAY_SEED"] ?? Date.now() % 1_000_000);
  t.diagnostic(`DAY_SEED=${seed} DAY_SWEEPS=${SWEEPS}`);
  const roll = dice(seed);
  await using installed = sshInstallation();
  const folder = join(installed.home, "..");
  const log = join(folder, "day.log");
  const machines = await Promise.all(
    Array.from({ length: HOSTS }, (_, index) => installed.machines.machine(`host-${index + 1}`)),
  );
  const repo = { url: installed.remote, runtime: "shell" };
  installed.configure(
    {},
    {
      repos: {
        kite: { ...repo, maxWorkers: LOCAL },
        reef: { ...repo, provider: "ssh", maxWorkers: HOSTS },
      },
      providers: { ssh: { hosts: machines.map((machine) => hostInput(machine)) } },
      check: { log, workerSeconds: 5 },
    },
  );
  const tasks: Task[] = [];
  const show = (runId: string) => installed.call<RunDetailView>("run.show", { run_id: runId });
  const doneBy = (id: string) => join(folder, `go-${id}`);

  /** What is down, by the worker that lives there. */
  const down = new Map<string, { machine: SshMachine; until: number; otherKey: boolean }>();
  const hostOf = new Map<string, SshMachine>();

  const dispatch = async (pool: string, tick: number) => {
    const id = `t${tasks.length + 1}`;
    const fate = (["works", "works", "fails", "is held up"] as const)[roll(4)] ?? "works";
    const text = {
      works: `echo ${id} > ${id}.txt`,
      fails: `echo ${id} > ${id}.txt; exit 3`,
      "is held up": `echo ${id} > ${id}.txt; until [ -e ${doneBy(id)} ]; do sleep 0.1; done`,
    }[fate];
    const run = await installed.dispatch(text, { repo: pool });
    tasks.push({ id, fate, runId: run.run_id, since: tick, cut: false, released: false });
  };

  const release = (task: Task) => {
    writeFileSync(doneBy(task.id), "");
    task.released = true;
  };

  /** Until everything that can go on has. */
  const settle = async () => {
    const workers = await installed.call<WorkerView[]>("worker.list", {});
    for (const { worker, repo: pool } of workers) {
      if (pool !== "reef" || hostOf.has(worker)) continue;
      const machine = machines.find(
        ({ home }) => readdirSync(home).includes("reef") && claimedBy(home, worker),
      );
      if (machine !== undefined) hostOf.set(worker, machine);
    }
    for (const task of tasks) {
      await until(
        async () => {
          const run = await show(task.runId);
          if (isTerminal(run.state)) return true;
          // Nobody can give it a worker while all are held up, and nothing moves where nobody is.
          if (run.state === "queued" || (run.worker !== null && down.has(run.worker))) return true;
          return task.fate === "is held up" && !task.released && !task.cut
            ? run.state === "active" && run.status?.status === "running"
            : false;
        },
        { what: `${task.id} (${task.fate}) to settle`, timeoutMs: BACK_MS },
      ).catch(async (error: unknown) => {
        throw new Error(`${String(error)}: ${JSON.stringify(await show(task.runId))}`);
      });
    }
  };

  const sweep = async (tick: number) => {
    const before = linesOf(log).length;
    await installed.call("check");
    const lines = linesOf(log);
    assert.ok(
      lines.slice(before).some((line) => / kind=sweep scope=all /.test(line)),
      "a heartbeat",
    );
    const said = new Map(
      lines.flatMap((line) => {
        const { kind, worker = "", ...fields } = fieldsOf(line);
        return kind === "change" ? [[worker, fields] as const] : [];
      }),
    );
    const runs = await Promise.all(
      tasks.map(async (task) => ({ task, run: await show(task.runId) })),
    );
    const live = runs.filter(
      ({ run }) => run.worker !== null && !isTerminal(run.state) && run.state !== "queued",
    );
    assert.equal(new Set(live.map(({ run }) => run.worker)).size, live.length, "one run a worker");
    for (const { worker } of await installed.call<WorkerView[]>("worker.list", {})) {
      const line = said.get(worker);
      assert.ok(line !== undefined, `tick ${tick}: ${worker} has a line`);
      const where = `tick ${tick}, ${worker}: ${JSON.stringify(line)}`;
      if (down.has(worker)) {
        assert.match(line["found"] ?? "", /unreachable/, where);
        continue;
      }
      assert.doesNotMatch(line["found"] ?? "", /unreachable|missing|differs/, where);
      const last = runs.filter(({ run }) => run.worker === worker).at(-1);
      if (last === undefined) continue;
      const { task } = last;
      if (task.cut) {
        // The session went with the machine, and the next task makes another.
        assert.deepEqual([line["window"], line["status"]], ["-", "error"], where);
        continue;
      }
      const wanted =
        task.fate === "is held up" && !task.released
          ? "agent:running"
          : task.fate === "fails"
            ? "agent:error"
            : "agent:completed";
      assert.equal(line["window"], wanted, where);
    }
  };

  for (let tick = 0; tick < SWEEPS; tick += 1) {
    for (const [worker, outage] of down) {
      if (outage.until > tick) continue;
      if (outage.otherKey) {
        await outage.machine.stop();
        outage.machine.changeHostKey("former");
      }
      await outage.machine.start();
      down.delete(worker);
    }
    for (const task of tasks) {
      if (task.fate === "is held up" && !task.released && task.since + 2 <= tick) release(task);
    }
    for (let count = roll(4); count > 0; count -= 1)
      await dispatch(roll(3) === 0 ? "reef" : "kite", tick);
    await settle();
    const event = roll(5);
    if (event === 0) await installed.stopController();
    if (event === 1) {
      const held = tasks.find((task) => task.fate === "is held up" && !task.released && !task.cut);
      const run = held === undefined ? undefined : await show(held.runId);
      if (
        held !== undefined &&
        run?.worker?.startsWith("kite-") === true &&
        run.state === "active"
      ) {
        held.cut = true;
        powerCut(installed, run.worker);
      }
    }
    const [worker, machine] = [...hostOf][roll(HOSTS)] ?? [];
    if (event === 2 && worker !== undefined && machine !== undefined && !down.has(worker)) {
      const otherKey = roll(2) === 0;
      await machine.stop();
      if (otherKey) {
        machine.changeHostKey("new");
        await machine.start();
      }
      down.set(worker, { machine, until: tick + 2, otherKey });
    }
    await settle();
    await sweep(tick);
  }

  for (const { machine, otherKey } of down.values()) {
    if (otherKey) {
      await machine.stop();
      machine.changeHostKey("former");
    }
    await machine.start();
  }
  down.clear();
  for (const task of tasks) release(task);
  const ended = await Promise.all(
    tasks.map(async (task) => ({ task, run: await installed.wait(task.runId, "ended", 120_000) })),
  );
  for (const { task, run } of ended) {
    const state = task.fate === "fails" || task.cut ? "failed" : "completed";
    assert.equal(run.state, state, `${task.id} (${task.fate}): ${JSON.stringify(run)}`);
    assert.equal(run.unrescued, false, task.id);
    const { diff } = await installed.call<{ diff: string }>("run.diff", { run_id: task.runId });
    assert.match(
      diff,
      new RegExp(`^\\+${task.id}$`, "m"),
      `the work of ${task.id} is in the mirror`,
    );
  }
  const all = await installed.call<RunView[]>("run.list", { limit: 1_000 });
  assert.equal(all.length, tasks.length, "one run a task");
  await sweep(SWEEPS);
  t.diagnostic(`${tasks.length} tasks, ${SWEEPS} checks, ${linesOf(log).length} lines`);
});

const linesOf = (path: string): string[] => {
  try {
    return readFileSync(path, "utf8").split("\n").filter(Boolean);
  } catch {
    return [];
  }
};

const fieldsOf = (line: string): Record<string, string> =>
  Object.fromEntries(
    line
      .replace(/ (reason|message)=".*$/, "")
      .split(" ")
      .map((field) => [field.slice(0, field.indexOf("=")), field.slice(field.indexOf("=") + 1)]),
  );

/** The claim on a host names the worker that lives there. */
function claimedBy(home: string, worker: string): boolean {
  try {
    return readFileSync(join(home, ".orchestrator", "claim"), "utf8").includes(worker);
  } catch {
    return false;
  }
}
