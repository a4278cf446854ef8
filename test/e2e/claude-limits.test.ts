import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { OrchestratorError } from "../../src/domain/errors.ts";
import type { EventView, LimitView, PoolView, RunDetailView } from "../../src/operations/views.ts";
import { usageLimit, type Reply } from "../fakes/messages-script.ts";
import { NO_CREDIT } from "../fakes/messages-wire.ts";
import { DUMMY_KEY } from "../support/claude-cli.ts";
import { claudeFleet, skip, type ClaudeFleet } from "../support/claude-fleet.ts";
import { cli } from "../support/controller-process.ts";
import { until } from "../support/wait.ts";

const limitsOf = (fleet: ClaudeFleet, all = false) =>
  fleet.call<LimitView[]>("limit.list", { all });
const isBlocked = ({ state }: { state: string }) => state === "blocked";
const named = (events: readonly EventView[], kind: string) =>
  events.filter((event) => event.kind === kind);

test(
  "many runs that meet a limit are one limit and one alert; one tries first, and the others follow",
  { skip },
  async () => {
    let spent = true;
    await using fleet = await claudeFleet({
      api: { scenario: () => (spent ? { kind: "status", status: 429 } : undefined) },
      config: { delivery: { confirmSeconds: 90 }, limits: { retrySeconds: 3 } },
    });
    const runs = await Promise.all(
      [1, 2, 3].map((n) => fleet.start(`task ${n} [[text done ${n}]]`)),
    );
    const blocked = await Promise.all(
      runs.map(({ run_id }) => fleet.reaches(run_id, isBlocked, "blocked")),
    );
    for (const { state_reason: reason, status } of blocked) {
      assert.match(reason ?? "", /^limited until 20\d\d-\d\d-\d\d \d\d:\d\dZ: rate limit$/);
      assert.deepEqual([status?.status, status?.reason], ["blocked", "rate limit"]);
    }
    const [limit] = await limitsOf(fleet);
    assert.equal(limit?.kind, "rate_limit");
    assert.equal(limit.account, "claude, api-key env:AGENT_KEY");

    // It goes on by itself: whoever waits for it needs no person.
    await assert.rejects(
      fleet.call("run.wait", { run_id: runs[0]?.run_id, until: "settled", timeout_ms: 100 }),
      (error: OrchestratorError) => error.code === "nothing_available",
    );

    // It goes on by itself: whoever waits for it needs no person.
    await assert.rejects(
      fleet.call("run.wait", { run_id: runs[0]?.run_id, until: "settled", timeout_ms: 100 }),
      (error: OrchestratorError) => error.code === "nothing_available",
    );

    // What comes now waits in the queue, or is refused by name.
    const queued = await fleet.start("task 4 [[text done 4]]");
    assert.deepEqual([queued.state, queued.worker], ["queued", null]);
    assert.match(
      queued.reason ?? "",
      /^limited until .*: rate limit \(claude, api-key env:AGENT_KEY\)$/,
    );
    await assert.rejects(
      fleet.start("task 5", { on_full: "fail" }),
      (error: OrchestratorError) => error.code === "limited" && error.retryable,
    );
    const plan = await fleet.call<{ kind: string; reason: string }>("dispatch.plan", {
      repo: "kite",
    });
    assert.deepEqual([plan.kind, plan.reason.startsWith("limited until")], ["queue", true]);
    const [pool] = await fleet.call<PoolView[]>("pool.list");
    assert.deepEqual([pool?.admits, pool?.queued, pool?.pause], [false, 1, null]);

    // A first try meets it again, alone; the others wait longer, without a word each.
    await until(async () => named(await fleet.events(), "limit.extended").length > 0, {
      what: "a try that meets the limit again",
      timeoutMs: 60_000,
    });
    spent = false;
    const ended = await Promise.all([...runs, queued].map(({ run_id }) => fleet.ends(run_id)));
    assert.deepEqual(
      ended.map(({ state, report }) => [state, report?.summary]),
      [1, 2, 3, 4].map((n) => ["completed", n === 4 ? "done 4" : "Done."]),
      await fleet.history(runs[0]?.run_id ?? ""),
    );
    const events = await fleet.events();
    assert.equal(named(events, "limit.reached").length, 1, "one alert");
    const lifted = named(events, "limit.lifted");
    assert.equal(lifted.length, 1);
    const tries = named(events, "limit.probing");
    const again = named(events, "run.launched").filter(
      ({ payload, seq }) => Number(payload["launch"]) > 1 && seq < (lifted[0]?.seq ?? 0),
    );
    assert.deepEqual(
      again.map(({ run_id }) => run_id),
      tries.map(({ run_id }) => run_id),
      "before the limit was lifted, only the runs that tried were launched again",
    );
    assert.deepEqual(await limitsOf(fleet), []);
    const attempts = ended.map(({ steps }) => new Set(steps.map(({ attempt }) => attempt)).size);
    assert.deepEqual(attempts, [1, 1, 1, 1], "no attempt was burnt");
  },
);

test(
  "a dead credential is one alert, and a new secret is tried by one run before the others",
  { skip },
  async () => {
    const mended = "another-key-of-the-tests-fedcba9876543210";
    let env: NodeJS.ProcessEnv = {};
    await using fleet = await claudeFleet({
      api: {
        scenario: () => (env["AGENT_KEY"] === mended ? undefined : { kind: "status", status: 401 }),
      },
      config: { delivery: { confirmSeconds: 90 }, limits: { retrySeconds: 3_600 } },
    });
    ({ env } = fleet);
    const runs = await Promise.all(
      [1, 2, 3].map((n) => fleet.start(`task ${n} [[text done ${n}]]`)),
    );
    for (const { run_id } of runs) {
      const { state_reason: reason } = await fleet.reaches(run_id, isBlocked, "blocked");
      assert.equal(reason, "limited until it is mended: API key refused");
    }
    const waited = await fleet.call<RunDetailView>("run.wait", {
      run_id: runs[0]?.run_id,
      until: "settled",
      timeout_ms: 5_000,
    });
    assert.deepEqual([waited.state, waited.limit?.until], ["blocked", null]);

    const queued = await fleet.start("task 4 [[text done 4]]");
    assert.match(queued.reason ?? "", /^limited until it is mended: API key refused/);
    fleet.env["AGENT_KEY"] = mended;
    const ended = await Promise.all([...runs, queued].map(({ run_id }) => fleet.ends(run_id)));
    for (const { state, run_id } of ended)
      assert.equal(state, "completed", await fleet.history(run_id));
    const events = await fleet.events();
    assert.deepEqual(
      ["limit.reached", "limit.secret_changed", "limit.probing", "limit.lifted"].map(
        (kind) => named(events, kind).length,
      ),
      [1, 1, 1, 1],
    );
    const stored = JSON.stringify([events, await limitsOf(fleet, true)]);
    assert.ok(!stored.includes(mended) && !stored.includes(DUMMY_KEY), "no secret is kept");
  },
);

describe("what the API answers, as the real Claude Code CLI tells it", { skip }, () => {
  let fleet: ClaudeFleet;
  let reply: Reply | undefined;
  before(async () => {
    fleet = await claudeFleet({
      api: { scenario: () => reply },
      config: { delivery: { confirmSeconds: 90 }, limits: { retrySeconds: 3_600 } },
    });
  });
  after(() => fleet[Symbol.asyncDispose]());

  const limits: readonly (readonly [string, Reply, string, RegExp])[] = [
    [
      "overload",
      { kind: "status", status: 529 },
      "overloaded",
      /^limited until 20.*Z: API overloaded$/,
    ],
    [
      "a refused key",
      { kind: "status", status: 401 },
      "credential",
      /it is mended: API key refused$/,
    ],
    [
      "a forbidden key",
      { kind: "status", status: 403 },
      "credential",
      /mended: credential refused$/,
    ],
    [
      "an empty balance",
      { kind: "status", status: 400, message: NO_CREDIT },
      "billing",
      /^limited until it is mended: credit balance too low$/,
    ],
  ];
  for (const [what, answer, kind, reason] of limits) {
    test(`${what} is a limit, never a completion, and goes when the operator clears it`, async () => {
      reply = answer;
      const run = await fleet.start("a task");
      const blocked = await fleet.reaches(run.run_id, isBlocked, "blocked");
      assert.match(blocked.state_reason ?? "", reason);
      const [limit] = await limitsOf(fleet);
      assert.deepEqual([limit?.kind, limit?.waiting], [kind, [run.run_id]]);
      reply = undefined;
      const cleared = await fleet.call<LimitView>("limit.clear", { limit_id: limit?.limit_id });
      assert.deepEqual(
        [cleared.state, cleared.lifted_because],
        ["lifted", "cleared by the operator"],
      );
      const ended = await fleet.ends(run.run_id);
      assert.deepEqual([ended.state, ended.launch], ["completed", 2]);
    });
  }

  for (const [stopReason, reason] of [
    ["refusal", "refused by the model"],
    ["max_tokens", "answer over its token limit"],
    ["model_context_window_exceeded", "context exhausted"],
  ] as const) {
    test(`answers that end as ${stopReason} block this run by that reason, and no other`, async () => {
      reply = { kind: "text", text: "partly", stopReason };
      const run = await fleet.start("a task");
      const blocked = await fleet.reaches(run.run_id, isBlocked, "blocked");
      assert.equal(blocked.state_reason, reason);
      assert.deepEqual(await limitsOf(fleet), []);
      reply = undefined;
      await fleet.call("run.resume", { run_id: run.run_id, text: "another way" });
      assert.equal((await fleet.ends(run.run_id)).state, "completed");
    });
  }

  test("a failure that nobody knows stays an error with its text", async () => {
    reply = { kind: "status", status: 400, message: "something nobody knows" };
    const run = await fleet.start("a task");
    const blocked = await fleet.reaches(run.run_id, isBlocked, "blocked");
    assert.deepEqual(
      [blocked.state_reason, blocked.status?.status],
      ["unknown: API Error: 400 something nobody knows", "error"],
    );
    assert.deepEqual(await limitsOf(fleet), []);
    reply = undefined;
    await fleet.call("run.cancel", { run_id: run.run_id });
    await fleet.ends(run.run_id);
  });
});

test("a spent window stands until the time that the program names", { skip }, async () => {
  await using fleet = await claudeFleet({
    authKind: "oauth-token",
    api: { scenario: () => usageLimit("five_hour", 3_600) },
  });
  const asked = Date.now();
  const run = await fleet.start("a task");
  const blocked = await fleet.reaches(run.run_id, isBlocked, "blocked");
  assert.match(blocked.state_reason ?? "", /^limited until 20.*Z: 5-hour usage limit$/);
  const [limit] = await limitsOf(fleet);
  const waitMs = (limit?.limited_until ?? 0) - asked;
  assert.ok(waitMs > 3_600_000 && waitMs < 3_690_000, `${waitMs} ms`);
  assert.ok((limit?.check_at ?? 0) > (limit?.limited_until ?? 0), "not on the second");
  await fleet.stopController();
  const shown = await cli(fleet, ["status"]);
  assert.match(
    shown.stdout,
    /^limit-\w+ +limited .*5-hour usage limit \(claude, oauth-token env:AGENT_KEY\)/m,
  );
  const settled = await cli(fleet, ["run", "wait", run.run_id, "--timeout", "1s"]);
  assert.equal(settled.code, 3, "waited for, until the time is over");
  await cli(fleet, ["stop"]);
  const listed = await cli(fleet, ["limit", "list", "--json"]);
  assert.equal((JSON.parse(listed.stdout) as LimitView).kind, "usage_limit");
});

test(
  "a credential that dies while runs wait sends them back to the queue, and a mended one lets them on",
  { skip },
  async () => {
    const [dead, mended] = [
      "dead-key-of-the-tests-0000000000000000",
      "mended-key-of-the-tests-11111111111111",
    ];
    await using fleet = await claudeFleet({
      api: {
        otherStatus: ({ headers }) => (headers["x-api-key"] === dead ? 401 : 200),
        scenario: ({ prompt }) =>
          prompt.includes("hold") ? { kind: "text", text: "held", delayMs: 4_000 } : undefined,
      },
      repo: { maxWorkers: 1 },
    });
    const first = await fleet.start("hold it");
    await fleet.shows(first.run_id, "running");
    const waiting = await fleet.start("next [[text next done]]");
    fleet.env["AGENT_KEY"] = dead;
    await fleet.ends(first.run_id);
    const back = await fleet.reaches(
      waiting.run_id,
      ({ state, reason }) =>
        state === "queued" && (reason ?? "").startsWith("limited until it is mended"),
      "the queue again",
    );
    assert.equal(back.worker, null);
    await assert.rejects(
      fleet.start("never [[text never]]"),
      (error: OrchestratorError) => error.code === "unauthorized",
    );
    fleet.env["AGENT_KEY"] = mended;
    const ended = await fleet.ends(waiting.run_id);
    assert.deepEqual(
      [ended.state, ended.worker, ended.launch],
      ["completed", first.worker, 1],
      await fleet.history(waiting.run_id),
    );
    assert.equal(named(await fleet.events(), "limit.reached").length, 1);
  },
);
