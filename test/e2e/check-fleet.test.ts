import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { ensureKeys } from "../../src/config/keys.ts";
import { ensureHome } from "../../src/config/paths.ts";
import { asRunId, asWorkerId } from "../../src/domain/ids.ts";
import type { RunState } from "../../src/domain/run.ts";
import type { CheckView } from "../../src/operations/views.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import type { Dial } from "../../src/providers/provider.ts";
import { openStore } from "../../src/store/open.ts";
import { fakeCloud, type FakeCloud } from "../fakes/fake-provider.ts";
import { runRow, taskRow, workerRow } from "../store/rows.ts";
import { installation, type Installation } from "../support/installation.ts";
import { tmuxFarm } from "../support/tmux-farm.ts";

const ids = randomIds();
const clock = systemClock();

interface Planned {
  readonly provider: string;
  readonly dial: Dial | null;
  readonly state: "running" | "warm" | "cold";
  readonly run?: RunState;
}

/** Puts these workers into the store and to their providers; `kite-1` is the first. */
async function plant(
  installed: Installation,
  clouds: Readonly<Record<string, FakeCloud>>,
  dials: Map<string, Dial>,
  plan: readonly Planned[],
): Promise<void> {
  await ensureHome(installed.paths);
  const store = await openStore({ path: installed.paths.database, clock, ids });
  const now = clock.now();
  const rows = await Promise.all(
    plan.map(async ({ provider, dial, state, run }, index) => {
      const number = index + 1;
      const name = `kite-${number}`;
      const cloud = clouds[provider];
      const nonce = `nonce-${number}`;
      const request = { name, fleetId: store.fleetId, nonce, authorizedKey: "" };
      const made = await cloud?.provider.create(request);
      const id = made?.id ?? "";
      cloud?.setState(id, state);
      if (dial !== null) dials.set(name, dial);
      const runId = asRunId(`run-${String(number).padStart(12, "0")}`);
      const worker = workerRow(number, {
        worker_id: asWorkerId(`w-${number}`),
        provider,
        provider_id: id,
        nonce,
        provider_state: state,
        provider_state_at: now,
        host_key: dial?.hostKey ?? null,
        last_run_id: run === undefined ? null : runId,
      });
      const ended = run && runRow(runId, { state: run, worker_id: worker.worker_id, launch: 1 });
      return { worker, run: ended };
    }),
  );
  await store.mutate(async (tx) => {
    await tx.db.insertInto("tasks").values(taskRow("t-1")).execute();
    for (const { worker, run } of rows) {
      await tx.db.insertInto("workers").values(worker).execute();
      if (run !== undefined) await tx.db.insertInto("runs").values(run).execute();
    }
  });
  await store.close();
}

/** A peer that takes connections and never says a word. */
async function muteServer(): Promise<{ port: number; server: Server } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    server,
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const dialOf = (host: string, port: number, hostKey: string | null = null): Dial => ({
  address: { kind: "tcp", host, port, user: process.env["USER"] ?? "root" },
  hostKey,
});

/** Fields of a change line but for its time. */
const changes = (path: string) =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .filter((line) => line.includes(" kind=change "))
    .map((line) => /^time=\S+ kind=change (.*)$/.exec(line)?.[1] ?? "");

test("a sweep over 100 workers, 30 of them dead or mute, and 20 that sleep: true lines, in bounded time, nobody woken", async () => {
  const dials = new Map<string, Dial>();
  const dial = ({ name }: { name: string }) => dials.get(name) ?? dialOf("127.0.0.1", 1);
  const steady = fakeCloud({ capabilities: { sleeps: false }, dial });
  const sleepy = fakeCloud({ capabilities: { sleeps: true }, dial });
  const clouds = { steady, sleepy };
  await using installed = installation({
    overrides: {
      providers: new Map([
        ["steady", steady.provider],
        ["sleepy", sleepy.provider],
        // The pool's own; asked for capacity only.
        ["local", fakeCloud().provider],
      ]),
    },
  });
  const log = join(installed.home, "..", "the-status.log");
  installed.configure({}, { check: { log, workerSeconds: 10 } });
  await ensureHome(installed.paths);
  const keys = await ensureKeys(installed.paths, ids);
  using farm = await tmuxFarm(70, keys.publicLine);
  await using mute = await muteServer();

  const expected = new Map<string, string>();
  const plan: Planned[] = [];
  const add = (planned: Planned, line: (run: string) => string) => {
    plan.push(planned);
    const number = plan.length;
    const run = planned.run === undefined ? "-" : `run-${String(number).padStart(12, "0")}`;
    expected.set(`kite-${number}`, `worker=kite-${number} ${line(run)}`);
  };
  farm.workers.forEach((worker, index) => {
    const planned = {
      provider: "steady",
      state: "running",
      dial: dialOf(worker.host, worker.port, farm.hostKey),
    } as const;
    const show = (name: string) => farm.tmux(worker, "rename-window", "-t", "=kite-dev:1", name);
    if (index < 20) {
      return add(
        planned,
        () =>
          'window=agent:waiting status=- source=tmux age_s=0 run=- machine=running was=- found=ok reason="no run yet"',
      );
    }
    const state = index % 2 === 0 ? "completed" : "failed";
    const status = state === "completed" ? "completed" : "error";
    const isWrong = index >= 60;
    show(isWrong ? "agent:running" : `agent:${status}`);
    add(
      { ...planned, run: state },
      (run) =>
        `window=agent:${status} status=${status} source=controller age_s=# run=${run} machine=running was=${isWrong ? "agent:running" : "-"} found=${isWrong ? "corrected" : "ok"} reason="run ${state}"`,
    );
  });
  for (let index = 0; index < 30; index += 1) {
    const isMute = index % 2 === 0;
    const why = isMute ? "no answer in time" : "refused";
    add(
      {
        provider: "steady",
        state: "running",
        dial: dialOf("127.0.0.1", isMute ? mute.port : 1, farm.hostKey),
      },
      () =>
        `window=- status=- source=controller age_s=0 run=- machine=running was=- found=unreachable reason="no run yet; ${why}"`,
    );
  }
  for (let index = 0; index < 20; index += 1) {
    const state = (["cold", "warm", "running"] as const)[index % 3] ?? "cold";
    const [found, why] =
      state === "running"
        ? ["left_alone", "awake without a run: it may fall asleep"]
        : ["asleep", `the worker is asleep (${state})`];
    add(
      { provider: "sleepy", state, dial: null, run: "completed" },
      (run) =>
        `window=- status=completed source=controller age_s=# run=${run} machine=${state} was=- found=${found} reason="run completed; ${why}"`,
    );
  }
  await plant(installed, clouds, dials, plan);
  await installed.controller();

  const began = performance.now();
  const { counts, ms } = await installed.call<CheckView>("check");
  const took = performance.now() - began;
  assert.deepEqual(
    { ...counts },
    {
      workers: 120,
      read: 70,
      asleep: 14,
      unreachable: 30,
      left_alone: 6,
      missing: 0,
      changed: 120,
      corrected: 10,
      repaired: 0,
    },
  );
  assert.ok(took < 45_000, `${took} ms; mute workers cost one deadline, not one each`);
  assert.ok(ms <= took);
  const lines = changes(log);
  assert.equal(lines.length, 120);
  for (const line of lines) {
    const name = /^worker=(\S+)/.exec(line)?.[1] ?? "";
    const pattern = (expected.get(name) ?? "no such worker")
      .replace(/[.*+?^${}[\]\\]/g, "\\$&")
      .replace("age_s=#", "age_s=\\d+")
      .replace(/\((cold|warm)\)/, "\\($1\\)");
    assert.match(line, new RegExp(`^${pattern}$`));
  }
  assert.equal(new Set(lines.map((line) => line.split(" ")[0])).size, 120);
  farm.workers.forEach((worker, index) => {
    const state = index % 2 === 0 ? "completed" : "error";
    const shown = farm.tmux(worker, "display-message", "-p", "-t", "=kite-dev:1", "#{window_name}");
    assert.equal(shown.trim(), index < 20 ? "agent:waiting" : `agent:${state}`);
  });
  assert.deepEqual(
    // `get` wakes nobody: it is the upkeep's.
    sleepy.calls.filter((call) => !/^(create|get) /.test(call)),
    ["list kite-"],
    "a worker that may sleep is not dialled",
  );

  const again = await installed.call<CheckView>("check");
  assert.equal(again.counts.changed, 0, JSON.stringify(again.workers.filter((w) => w.changed)));
  assert.equal(changes(log).length, 120);
  const events = (await installed.events()).filter(({ kind }) => kind === "run.window_corrected");
  assert.equal(events.length, 10);
});

test("a sweep ends at its own time, and says whom it did not look at", async () => {
  await using mute = await muteServer();
  const cloud = fakeCloud({
    capabilities: { sleeps: false },
    dial: () => dialOf("127.0.0.1", mute.port),
  });
  await using installed = installation({
    overrides: {
      providers: new Map([
        ["steady", cloud.provider],
        ["local", fakeCloud().provider],
      ]),
    },
  });
  const log = join(installed.home, "..", "the-status.log");
  const check = { log, parallel: 2, workerSeconds: 1.5, sweepSeconds: 4 };
  installed.configure({}, { check });
  const planned: Planned = { provider: "steady", dial: null, state: "running" };
  await plant(
    installed,
    { steady: cloud },
    new Map(),
    Array.from({ length: 40 }, () => planned),
  );
  await installed.controller();
  const { counts, ms, workers } = await installed.call<CheckView>("check");
  assert.ok(ms < 10_000, `${ms} ms`);
  assert.ok(counts.unreachable > 0 && counts.left_alone > 20, JSON.stringify(counts));
  assert.equal(counts.unreachable + counts.left_alone, 40);
  assert.match(workers.at(-1)?.reason ?? "", /ran out of time/);
});

test("a provider that does not answer holds nobody up, and nobody is taken to be awake for it", async () => {
  const hanging = { kind: "slow", until: new Promise(() => {}) } as const;
  const steady = fakeCloud({ capabilities: { sleeps: false } });
  const sleepy = fakeCloud({ capabilities: { sleeps: true } });
  await using installed = installation({
    overrides: {
      providers: new Map([
        ["steady", steady.provider],
        ["sleepy", sleepy.provider],
        ["local", fakeCloud().provider],
      ]),
    },
  });
  const log = join(installed.home, "..", "the-status.log");
  installed.configure({}, { check: { log, workerSeconds: 1 } });
  const planned = (provider: string): Planned => ({ provider, dial: null, state: "running" });
  const plan = [planned("steady"), planned("sleepy")];
  await plant(installed, { steady, sleepy }, new Map(), plan);
  await installed.controller();
  steady.script("list", hanging);
  sleepy.script("list", hanging);
  const { workers, ms } = await installed.call<CheckView>("check");
  assert.ok(ms < 5_000, `${ms} ms`);
  assert.deepEqual(
    workers.map(({ machine, found }) => [machine, found]),
    [
      [null, ["unreachable"]],
      [null, ["left_alone"]],
    ],
  );
  assert.ok(!sleepy.calls.some((call) => call.startsWith("dial ")));
});
