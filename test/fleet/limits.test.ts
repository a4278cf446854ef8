import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { checkConfig } from "../../src/config/load.ts";
import type { FailureKind } from "../../src/domain/failure.ts";
import { asRunId } from "../../src/domain/ids.ts";
import { accountOf, secretDigester } from "../../src/fleet/account.ts";
import {
  findLimit,
  hitLimit,
  liftLimit,
  openLimits,
  probeLimit,
  whyLimited,
  type Hit,
  type Limit,
} from "../../src/fleet/limits.ts";
import { randomIds } from "../../src/platform/ids.ts";
import type { Store } from "../../src/store/store.ts";
import { open, tempFolder } from "../store/rig.ts";
import { runRow, taskRow } from "../store/rows.ts";

const ids = randomIds();
const ACCOUNT = { key: "account-1", label: "claude, api-key env:KEY" };
const HOUR = 3_600_000;

async function store(t: TestContext): Promise<Store> {
  const opened = await open(`${tempFolder(t)}/coordination.db`);
  t.after(() => opened.close());
  await opened.mutate(async (tx) => {
    await tx.db.insertInto("tasks").values(taskRow("t-1")).execute();
    for (const id of ["r-1", "r-2"])
      await tx.db
        .insertInto("runs")
        .values({ ...runRow(id), task_id: taskRow("t-1").task_id })
        .execute();
  });
  return opened;
}

const cause = (kind: FailureKind, until: number | null = null) => ({ kind, label: kind, until });

async function hit(of: Store, more: Partial<Hit> = {}): Promise<Limit> {
  const { value } = await of.mutate((tx) =>
    hitLimit(tx, ids, {
      account: ACCOUNT,
      cause: cause("rate_limit"),
      runId: asRunId("r-1"),
      launchedAt: tx.now,
      digest: "digest",
      retryMs: 60_000,
      ...more,
    }),
  );
  return value;
}

const kinds = async (of: Store) =>
  (await of.readEvents(0)).map(({ kind }) => kind).filter((kind) => kind.startsWith("limit."));

test("hits of one account are one limit and one event, those of another another", async (t) => {
  const one = await store(t);
  const first = await hit(one);
  for (let n = 0; n < 20; n += 1) assert.equal((await hit(one)).limit_id, first.limit_id);
  await hit(one, { account: { key: "account-2", label: "other" } });
  assert.equal((await openLimits(one.db)).length, 2);
  assert.equal((await findLimit(one.db, first.limit_id))?.hits, 21);
  assert.deepEqual(await kinds(one), ["limit.reached", "limit.reached"]);
});

test("a limit ends when the vendor says, and is looked at a little later, never before", async (t) => {
  const one = await store(t);
  const until = Date.now() + 5 * HOUR;
  const limit = await hit(one, { cause: cause("usage_limit", until) });
  assert.equal(limit.limited_until, until);
  const late = (limit.check_at ?? 0) - until;
  assert.ok(late > 0 && late <= 60_000, `${late} ms`);
});

test("one that names no time is tried ever more rarely, at least every hour", async (t) => {
  const one = await store(t);
  let limit = await hit(one);
  const waits = [(limit.limited_until ?? 0) - limit.hit_at];
  for (let n = 0; n < 8; n += 1) {
    await one.mutate((tx) => probeLimit(tx, limit, asRunId("r-1")));
    limit = await hit(one);
    assert.deepEqual([limit.state, limit.failures], ["limited", n + 1]);
    waits.push((limit.limited_until ?? 0) - limit.hit_at);
  }
  assert.deepEqual(waits.slice(0, 4), [60_000, 120_000, 240_000, 480_000]);
  assert.equal(waits.at(-1), HOUR);
});

test("while one run tries, what others met before changes nothing", async (t) => {
  const one = await store(t);
  const limit = await hit(one);
  await one.mutate((tx) => probeLimit(tx, limit, asRunId("r-1")));
  const other = await hit(one, { runId: asRunId("r-2"), cause: cause("billing") });
  assert.deepEqual([other.state, other.probe_run, other.kind], ["probing", "r-1", "rate_limit"]);
});

test("a harder limit takes the place of a softer one, not the other way round", async (t) => {
  const one = await store(t);
  await hit(one);
  const harder = await hit(one, { cause: cause("billing") });
  assert.deepEqual([harder.kind, harder.limited_until, harder.check_at], ["billing", null, null]);
  assert.equal((await hit(one, { cause: cause("rate_limit") })).kind, "billing");
  assert.deepEqual(await kinds(one), ["limit.reached"]);
});

test("news of a launch that is older than the end of its limit opens no second one", async (t) => {
  const one = await store(t);
  const limit = await hit(one);
  const before = Date.now() - 1_000;
  await one.mutate((tx) => liftLimit(tx, limit, "r-1 was answered"));
  const late = await hit(one, { launchedAt: before });
  assert.deepEqual([late.limit_id, late.state], [limit.limit_id, "lifted"]);
  const fresh = await hit(one, { launchedAt: Date.now() + 1_000 });
  assert.notEqual(fresh.limit_id, limit.limit_id);
});

test("what people read of a limit says until when and why", () => {
  const limited = { limited_until: Date.UTC(2026, 10, 25, 15, 1), reason: "5-hour usage limit" };
  assert.equal(whyLimited(limited as Limit), "limited until 2026-11-25 15:01Z: 5-hour usage limit");
  assert.equal(
    whyLimited({ limited_until: null, reason: "API key refused" } as Limit),
    "limited until it is mended: API key refused",
  );
});

test("repos that log in with the same credential share an account; its label shows no secret", () => {
  const auth = { kind: "api-key", secret: "env:KEY" } as const;
  const repo = (more: object) =>
    checkConfig({ repos: { kite: { url: "/r.git", auth, ...more } } }, "test").repos["kite"]!;
  const [one, other] = [
    accountOf(repo({}), "claude"),
    accountOf(repo({ url: "/s.git" }), "claude"),
  ];
  assert.equal(one.key, other.key);
  for (const more of [
    { auth: { ...auth, kind: "auth-token" } },
    { auth: { ...auth, secret: "env:OTHER" } },
    { auth: { ...auth, baseUrl: "http://127.0.0.1:1" } },
    { auth: undefined },
  ])
    assert.notEqual(accountOf(repo(more), "claude").key, one.key);
  assert.notEqual(accountOf(repo({}), "shell").key, one.key);
  const command = accountOf(repo({ auth: { ...auth, secret: "cmd:vault get s3cr3t" } }), "claude");
  assert.equal(command.label, "claude, api-key cmd:vault …");
});

test("a digest tells secrets apart, and says nothing without the controller's key", () => {
  const [one, other] = [secretDigester("private key"), secretDigester("another private key")];
  assert.equal(one("secret"), one("secret"));
  assert.notEqual(one("secret"), one("secret "));
  assert.notEqual(one("secret"), other("secret"));
  assert.ok(!one("secret").includes("secret"));
});
