import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { readEnv } from "../../src/config/env.ts";
import { checkConfig } from "../../src/config/load.ts";
import { Alerts } from "../../src/controller/alerts/alerts.ts";
import { alertCleared, alertRaised } from "../../src/domain/alert.ts";
import type { RunId, WorkerId } from "../../src/domain/ids.ts";
import { systemClock, type Clock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import type { LogFields, Logger } from "../../src/platform/logger.ts";
import { openStore } from "../../src/store/open.ts";
import type { NewEvent } from "../../src/store/store.ts";
import { until } from "../support/wait.ts";

const RUN = "run-000000000001" as RunId;
const WORKER = "worker-000000001" as WorkerId;
const ids = randomIds();

interface Logged {
  readonly event: string;
  readonly fields: LogFields;
}

/** A store, and alerts over it that can be started and stopped as a controller does. */
async function rig(alerts: (folder: string) => unknown[], speed = 1) {
  const folder = await mkdtemp(join(tmpdir(), "al-"));
  const real = systemClock();
  // Waits pass faster, so that retries and holds take no minutes.
  const clock: Clock = {
    ...real,
    now: () => real.now() + offset,
    sleep: (ms, signal) => real.sleep(ms / speed, signal),
  };
  let offset = 0;
  const logged: Logged[] = [];
  const write = (event: string, fields: LogFields = {}) => void logged.push({ event, fields });
  const logger: Logger = { info: write, warn: write, error: write };
  const store = await openStore({ path: join(folder, "c.db"), clock, ids });
  const env = readEnv({
    HOME: folder,
    PATH: `${folder}/bin:/usr/bin:/bin`,
    SECRET_KEY: "do-not-tell",
    HOOK_URL: "http://127.0.0.1:1/secret-path",
  });
  let config = checkConfig({ alerts: alerts(folder) }, "test");
  let running: Alerts | undefined;
  const start = async () => {
    running = new Alerts({
      store,
      clock,
      ids,
      logger,
      config: () => config,
      senders: { env, logger },
    });
    await running.start();
    // Its places are there once it has looked.
    await until(
      async () =>
        (await store.db.selectFrom("cursors").select("name").execute()).length >
        config.alerts.length,
      { what: "the places" },
    );
  };
  const stop = async () => {
    await running?.stop();
    running = undefined;
  };
  return {
    folder,
    store,
    logged,
    start,
    stop,
    configure(value: unknown[]) {
      config = checkConfig({ alerts: value }, "test");
    },
    later(ms: number) {
      offset += ms;
    },
    event: (...events: NewEvent[]) =>
      store.mutate(async (tx) => {
        for (const event of events) tx.event(event);
      }),
    sent: () => logged.filter(({ event }) => event === "alert.sent").length,
    /** Lines of the file that the command of a test appends to. */
    async told(file = "told"): Promise<Array<Record<string, unknown>>> {
      const text = await readFile(join(folder, file), "utf8").catch(() => "");
      return text
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line) as Record<string, unknown>);
    },
    async [Symbol.asyncDispose]() {
      await stop();
      await store.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

const toFile = (folder: string, more: object = {}) => ({
  command: `cat >> ${folder}/told`,
  ...more,
});
const run = (kind: string, payload: Record<string, unknown> = {}): NewEvent => ({
  kind,
  repo: "kite",
  run_id: RUN,
  worker_id: WORKER,
  payload,
});
const keysOf = (told: ReadonlyArray<Record<string, unknown>>) =>
  told.map(({ incident }) => incident);

test("one message an incident: again only once its condition has ended", async () => {
  await using r = await rig((folder) => [toFile(folder)]);
  await r.start();
  await r.event(run("run.blocked", { reason: "asks: Bash", screen: "SECRET SCREEN" }));
  await until(async () => (await r.told()).length === 1, { what: "the first" });
  await r.event(
    run("run.blocked", { reason: "dialog: question" }),
    run("run.status", { status: "blocked" }),
  );
  await r.event(run("run.active"), run("run.blocked", { reason: "rate_limit" }));
  await until(async () => (await r.told()).length === 2, { what: "the second" });
  await r.event(run("run.finished", { state: "failed", reason: "exit 7" }));
  await until(async () => (await r.told()).length === 3, { what: "the end" });
  await r.event(run("run.finished", { state: "completed" }));
  const told = await r.told();
  assert.deepEqual(keysOf(told), [`run_blocked:${RUN}`, `run_blocked:${RUN}`, `run_failed:${RUN}`]);
  assert.deepEqual(told[0], {
    v: 1,
    incident: `run_blocked:${RUN}`,
    kind: "run_blocked",
    title: `run ${RUN} is blocked: asks: Bash`,
    hint: `orchestrator run show ${RUN}`,
    repo: "kite",
    run_id: RUN,
    worker: null,
    at: told[0]?.["at"],
    seq: 1,
    fleet_id: r.store.fleetId,
  });
  assert.equal(told[2]?.["title"], `run ${RUN} failed: exit 7`);
});

test("what others raise is told once until they clear it, whatever its words", async () => {
  await using r = await rig((folder) => [toFile(folder)]);
  await r.start();
  const dead = (title: string) =>
    alertRaised({ key: "credential:kite", kind: "credential", title, repo: "kite" });
  await r.event(dead("the API refuses the key"), dead("the API refuses the key still"));
  await r.event(alertCleared("credential:wren"));
  await r.event(dead("again"));
  await r.event(
    alertRaised({ key: "x", kind: "limit", title: "\u001b[2Jquota\u202e spent\n\n now" }),
  );
  await until(async () => (await r.told()).length === 2, { what: "two messages" });
  await r.event(alertCleared("credential:kite"));
  await r.event(dead("dead again"));
  await until(async () => (await r.told()).length === 3, { what: "the third" });
  const told = await r.told();
  assert.deepEqual(
    told.map(({ kind, title }) => [kind, title]),
    [
      ["credential", "the API refuses the key"],
      ["limit", "quota spent now"],
      ["credential", "dead again"],
    ],
  );
  await r.event(
    { kind: "alert.raised", payload: {} },
    { kind: "alert.raised", payload: { key: 7 } },
  );
});

test("a limit is one incident however many runs wait for it, and so is a pause", async () => {
  await using alerts = await rig((folder) => [toFile(folder)]);
  await alerts.start();
  const limit = { limit_id: "limit-1", account: "claude, api-key env:KEY" };
  const waits = run("run.blocked", { reason: "limited until it is mended", limit_id: "limit-1" });
  await alerts.event(
    { kind: "limit.reached", payload: { ...limit, kind: "credential", reason: "key refused" } },
    waits,
    { ...waits, run_id: "run-000000000002" as RunId },
  );
  const pause = { pause_id: "pause-1", reason: "set-up failed alike on kite-1 and kite-2" };
  const paused = (cause: string): NewEvent => ({
    kind: "pool.paused",
    repo: "kite",
    payload: { ...pause, cause },
  });
  await alerts.event(paused("operator"), paused("setup"), paused("setup"));
  await until(async () => (await alerts.told()).length === 2, { what: "both" });
  await alerts.event(
    { kind: "limit.lifted", payload: { ...limit, because: "the key works" } },
    { kind: "limit.reached", payload: { ...limit, kind: "usage_limit", reason: "5 hours" } },
  );
  await until(async () => (await alerts.told()).length === 3, { what: "the next limit" });
  const told = await alerts.told();
  assert.deepEqual(
    told.map(({ kind }) => kind),
    ["credential", "pool_paused", "limit"],
  );
  assert.match(String(told[0]?.["title"]), /env:KEY: key refused/);
});

test("a worker that is back soon is no news; one that stays away is told of once, also by its run", async () => {
  await using r = await rig((folder) => [toFile(folder)], 1_000);
  await r.start();
  const worker = (kind: string): NewEvent => ({
    kind,
    repo: "kite",
    worker_id: WORKER,
    payload: { worker: "kite-1" },
  });
  await r.event(worker("worker.unreachable"));
  await r.event(worker("worker.reachable"));
  r.later(60_000);
  await r.event(worker("worker.unreachable"));
  await r.event(run("run.blocked", { reason: "unreachable: no connection to the worker" }));
  r.later(60_000);
  await until(async () => (await r.told()).length === 1, { what: "the message" });
  const [told] = await r.told();
  assert.deepEqual([told?.["kind"], told?.["worker"]], ["worker_unreachable", "kite-1"]);
});

test("a restart repeats nothing and forgets nothing, and a history starts no storm", async () => {
  await using r = await rig((folder) => [toFile(folder)]);
  for (let n = 0; n < 50; n += 1)
    await r.event({ ...run("run.blocked", { reason: "old" }), run_id: `run-old-${n}` as RunId });
  await r.start();
  await r.event(run("run.blocked", { reason: "asks: Bash" }));
  await until(() => r.sent() === 1, { what: "the first" });
  await r.stop();
  // While no controller was there: the same incident says more, and another begins.
  await r.event(run("run.blocked", { reason: "asks: Edit" }));
  await r.event(alertRaised({ key: "limit:kite", kind: "limit", title: "spent" }));
  await r.start();
  await until(() => r.sent() === 2, { what: "the second" });
  await r.stop();
  await r.start();
  await r.event(run("run.active"), run("run.blocked", { reason: "asks: Write" }));
  await until(() => r.sent() === 3, { what: "the third" });
  assert.deepEqual(keysOf(await r.told()), [
    `run_blocked:${RUN}`,
    "limit:kite",
    `run_blocked:${RUN}`,
  ]);
});

test("a message under way when the controller ends is told after its next start", async () => {
  await using r = await rig((folder) => [
    { command: `touch ${folder}/begun; sleep 30; cat >> ${folder}/told` },
  ]);
  await r.start();
  await r.event(run("run.blocked", { reason: "asks: Bash" }));
  await until(() => existsSync(join(r.folder, "begun")), { what: "the message under way" });
  await r.stop();
  assert.deepEqual(await r.told(), []);
  // The condition ended meanwhile: it is told all the same.
  await r.event(run("run.active"));
  const file = join(r.folder, "told");
  const before = await r.store.db.selectFrom("cursors").selectAll().execute();
  assert.ok(
    before.every(({ seq }) => seq <= 1),
    JSON.stringify(before),
  );
  await mkdir(join(r.folder, "bin"));
  await writeFile(join(r.folder, "bin", "sleep"), "#!/bin/sh\nexit 0\n");
  await chmod(join(r.folder, "bin", "sleep"), 0o755);
  await r.start();
  await until(async () => (await readFile(file, "utf8").catch(() => "")) !== "", {
    what: "the message",
  });
  assert.equal((await r.told()).length, 1);
});

test("a command gets the message on standard input, and no secret of the controller's environment", async () => {
  await using r = await rig((folder) => [
    { command: `env > ${folder}/env; cat >> ${folder}/told` },
  ]);
  process.env["ALERT_TEST_SECRET"] = "do-not-tell";
  await r.start();
  await r.event(run("run.blocked", { reason: "$(touch /tmp/never) 'quoted'" }));
  await until(async () => (await r.told()).length === 1, { what: "the message" });
  const env = await readFile(join(r.folder, "env"), "utf8");
  assert.doesNotMatch(env, /do-not-tell|SECRET|asks|quoted|run-0/);
  assert.match(env, /^PATH=/m);
});

test("a way that fails is tried again, said once in the log, and holds up no other", async () => {
  await using r = await rig(
    (folder) => [{ command: "cat > /dev/null; exit 3" }, { ...toFile(folder), kinds: ["limit"] }],
    1_000,
  );
  await r.start();
  for (const key of ["a", "b", "c"]) await r.event(alertRaised({ key, kind: "limit", title: key }));
  await r.event(alertRaised({ key: "d", kind: "credential", title: "d" }));
  await until(async () => (await r.told()).length === 3, { what: "the other way" });
  const failed = () => r.logged.filter(({ event }) => event === "alert.not_sent");
  await until(() => failed().length > 0, { what: "the log" });
  const cursors = () =>
    r.store.db.selectFrom("cursors").select("seq").where("name", "like", "alerts:%").execute();
  await until(async () => (await cursors()).every(({ seq }) => seq >= 4), { what: "all given up" });
  assert.equal(failed().length, 1);
  assert.partialDeepStrictEqual(failed()[0]?.fields, {
    way: "command cmd:cat …",
    tries: 5,
    why: "ended with 3",
  });
  assert.deepEqual(keysOf(await r.told()), ["a", "b", "c"], "only the kinds asked for");
});

async function webhook(
  answers: number[],
): Promise<{ url: string; bodies: string[]; server: Server }> {
  const bodies: string[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += chunk.toString()));
    request.on("end", () => {
      bodies.push(body);
      response.statusCode = answers.shift() ?? 200;
      response.end("ok");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return { url: `http://127.0.0.1:${address.port}/hooks/secret-token`, bodies, server };
}

test("a webhook is posted JSON, again after a 503, not after a 404, and its path is in no log", async () => {
  const hook = await webhook([503, 429, 200, 404]);
  try {
    await using r = await rig(() => [{ webhook: hook.url }], 1_000);
    await r.start();
    await r.event(alertRaised({ key: "a", kind: "limit", title: "spent" }));
    await until(() => hook.bodies.length === 3, { what: "three tries" });
    await r.event(alertRaised({ key: "b", kind: "limit", title: "gone" }));
    await until(() => r.logged.some(({ event }) => event === "alert.not_sent"), {
      what: "the log",
    });
    assert.equal(hook.bodies.length, 4);
    const bodies = hook.bodies.map((body) => JSON.parse(body) as Record<string, unknown>);
    assert.deepEqual(keysOf(bodies), ["a", "a", "a", "b"]);
    assert.doesNotMatch(JSON.stringify(r.logged), /secret-token/);
    assert.match(JSON.stringify(r.logged), /webhook http:\/\/127\.0\.0\.1:\d+\/…/);
  } finally {
    hook.server.close();
  }
});

test("a webhook by reference that cannot be reached is given up after its tries, without its URL", async () => {
  await using r = await rig(() => [{ webhook: "env:HOOK_URL" }, { webhook: "env:ABSENT" }], 10_000);
  await r.start();
  await r.event(alertRaised({ key: "a", kind: "limit", title: "spent" }));
  const failed = () => r.logged.filter(({ event }) => event === "alert.not_sent");
  await until(() => failed().length === 2, { what: "both given up" });
  assert.deepEqual(
    failed()
      .map(({ fields }) => `${fields["way"]} ${fields["tries"]}`)
      .toSorted(),
    ["webhook env:ABSENT 1", "webhook env:HOOK_URL 5"],
  );
  assert.doesNotMatch(JSON.stringify(r.logged), /secret-path/);
});

test("the desktop is told by notify-send where there is one, with texts that are no options", async () => {
  await using r = await rig(() => [{ desktop: true }]);
  await r.start();
  await r.event(alertRaised({ key: "a", kind: "limit", title: "nobody shows it" }));
  await until(
    () => r.logged.some(({ fields }) => fields["why"] === "notify-send is not installed"),
    {
      what: "the log",
    },
  );
  await mkdir(join(r.folder, "bin"));
  const program = join(r.folder, "bin", "notify-send");
  await writeFile(program, `#!/bin/sh\nprintf '%s\\n' "$@" >> ${r.folder}/shown\n`);
  await chmod(program, 0o755);
  await r.event(alertRaised({ key: "b", kind: "limit", title: "--icon=/etc/passwd" }));
  const shown = () => readFile(join(r.folder, "shown"), "utf8").catch(() => "");
  await until(async () => (await shown()) !== "", { what: "the notification" });
  assert.equal(await shown(), "--app-name\nSprite Orchestrator\n--\n--icon=/etc/passwd\n\n");
});

test("a way that is new in the configuration hears of what begins from then on", async () => {
  await using r = await rig((folder) => [toFile(folder)]);
  await r.start();
  await r.event(run("run.blocked", { reason: "before" }));
  await until(async () => (await r.told()).length === 1, { what: "the first" });
  const names = async () =>
    (await r.store.db.selectFrom("cursors").select("name").execute())
      .map(({ name }) => name)
      .join();
  const before = await names();
  r.configure([{ command: `cat >> ${r.folder}/other` }]);
  await until(async () => (await names()).split(",").length === 2 && (await names()) !== before, {
    what: "the change",
  });
  await r.event(alertRaised({ key: "a", kind: "limit", title: "after" }));
  await until(async () => (await r.told("other")).length === 1, { what: "the other way" });
  assert.deepEqual(keysOf(await r.told("other")), ["a"]);
  assert.equal((await r.told()).length, 1);
});

test("an alert has one way, and its address no credential", () => {
  const refused: ReadonlyArray<readonly [unknown, RegExp]> = [
    [{}, /alerts.*must have one of command, webhook and desktop/],
    [{ command: "x", desktop: true }, /must have one of/],
    [{ webhook: "https://user:pass@example.com/" }, /URL without a credential/],
    [{ webhook: "ftp://example.com" }, /must be an http or https URL/],
    [{ command: "x", kinds: ["everything"] }, /kinds/],
    [{ command: "x", kinds: [] }, /kinds/],
    [{ comand: "x" }, /comand/],
  ];
  for (const [alert, message] of refused)
    assert.throws(
      () => checkConfig({ alerts: [alert] }, "config.yaml"),
      message,
      JSON.stringify(alert),
    );
});
