import type { Selectable } from "kysely";
import { isLimit, type FailureCause, type LimitKind } from "../domain/failure.ts";
import type { RunId } from "../domain/ids.ts";
import type { Ids } from "../platform/ids.ts";
import type { LimitsTable } from "../store/schema.ts";
import type { Db, Tx } from "../store/store.ts";
import type { Account } from "./account.ts";

/*
 * Limits of accounts. One row is open per account at a time, whatever number of runs met it: its first hit is the one `limit.reached` event, the
 * alert. It is lifted by proof that the account works again (or by the operator's word), never by time alone: time only lets one run try.
 */

export type Limit = Readonly<Selectable<LimitsTable>>;

/** A limit that keeps being met is tried ever more rarely, but at least so often (ms). */
const MAX_WAIT_MS = 60 * 60_000;
const MIN_JITTER_MS = 250;
const MAX_JITTER_MS = 60_000;

export interface Hit {
  readonly account: Account;
  readonly cause: FailureCause;
  readonly runId: RunId;
  /** When the launch that met it was intended. */
  readonly launchedAt: number;
  readonly digest: string | null;
  /** First wait when the vendor names no time (ms). */
  readonly retryMs: number;
}

export async function openLimits(db: Db): Promise<Limit[]> {
  return db
    .selectFrom("limits")
    .selectAll()
    .where("state", "!=", "lifted")
    .orderBy("created_at")
    .execute();
}

export async function openLimit(db: Db, account: string): Promise<Limit | undefined> {
  return db
    .selectFrom("limits")
    .selectAll()
    .where("account", "=", account)
    .where("state", "!=", "lifted")
    .executeTakeFirst();
}

export async function findLimit(db: Db, limitId: string): Promise<Limit | undefined> {
  return db.selectFrom("limits").selectAll().where("limit_id", "=", limitId).executeTakeFirst();
}

/** Records that a run met a limit of its account. Returns the limit it belongs to: one that was lifted since its launch is over for it, too. */
export async function hitLimit(tx: Tx, ids: Ids, hit: Hit): Promise<Limit> {
  const { account, cause } = hit;
  if (!isLimit(cause.kind)) throw new Error(`${cause.kind} is no limit of an account`);
  const open = await openLimit(tx.db, account.key);
  if (open !== undefined) return hitAgain(tx, ids, open, hit);
  const last = await tx.db
    .selectFrom("limits")
    .selectAll()
    .where("account", "=", account.key)
    .orderBy("lifted_at", "desc")
    .executeTakeFirst();
  if (last?.lifted_at != null && last.lifted_at >= hit.launchedAt) return last;
  const times = timesOf(tx.now, ids, cause.kind, cause.until, hit.retryMs, 0);
  const limit = await tx.db
    .insertInto("limits")
    .values({
      limit_id: ids.next("limit"),
      account: account.key,
      label: account.label,
      kind: cause.kind,
      state: "limited",
      reason: cause.label,
      ...times,
      secret_digest: hit.digest,
      probe_run: null,
      probe_at: null,
      hits: 1,
      failures: 0,
      created_at: tx.now,
      hit_at: tx.now,
      lifted_at: null,
      lifted_because: null,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
  tx.event({
    kind: "limit.reached",
    run_id: hit.runId,
    payload: {
      limit_id: limit.limit_id,
      account: account.label,
      kind: cause.kind,
      reason: cause.label,
      until: limit.limited_until,
    },
  });
  return limit;
}

async function hitAgain(tx: Tx, ids: Ids, open: Limit, hit: Hit): Promise<Limit> {
  const { cause, runId } = hit;
  const kind = isLimit(cause.kind) ? cause.kind : open.kind;
  const isProbe = open.state === "probing" && open.probe_run === runId;
  const failures = open.failures + (isProbe ? 1 : 0);
  const times = timesOf(tx.now, ids, kind, cause.until, hit.retryMs, failures);
  const isHarder = isLonger(times.limited_until, open.limited_until);
  const extends_ = isProbe || (open.state === "limited" && isHarder);
  const limit = await tx.db
    .updateTable("limits")
    .set({
      hits: open.hits + 1,
      hit_at: tx.now,
      ...(extends_ ? { ...times, kind, reason: cause.label, secret_digest: hit.digest } : {}),
      ...(isProbe ? { state: "limited", probe_run: null, probe_at: null, failures } : {}),
    })
    .where("limit_id", "=", open.limit_id)
    .returningAll()
    .executeTakeFirstOrThrow();
  if (isProbe) {
    tx.event({
      kind: "limit.extended",
      run_id: runId,
      payload: {
        limit_id: limit.limit_id,
        account: limit.label,
        reason: limit.reason,
        until: limit.limited_until,
        failures,
      },
    });
  }
  return limit;
}

/** `null` is until somebody mends it. */
const isLonger = (until: number | null, than: number | null): boolean =>
  than !== null && (until === null || until > than);

function timesOf(
  now: number,
  ids: Ids,
  kind: LimitKind,
  named: number | null,
  retryMs: number,
  failures: number,
): Pick<Limit, "limited_until" | "check_at"> {
  const wait = Math.min(MAX_WAIT_MS, retryMs * 2 ** Math.min(failures, 20));
  switch (kind) {
    case "billing":
      return { limited_until: null, check_at: null };
    case "credential":
      return { limited_until: null, check_at: now + wait };
    case "usage_limit":
    case "rate_limit":
    case "overloaded": {
      const until = named !== null && named > now ? named : now + wait;
      return { limited_until: until, check_at: until + jitter(ids, until - now) };
    }
  }
}

/** Some of what is waited for anyhow: accounts whose windows end together are not tried together. */
function jitter(ids: Ids, waitMs: number): number {
  return Math.ceil(ids.fraction() * Math.min(MAX_JITTER_MS, Math.max(MIN_JITTER_MS, waitMs / 20)));
}

/** Lets one run try; the others go on waiting for what comes of it. */
export async function probeLimit(tx: Tx, limit: Limit, runId: RunId): Promise<void> {
  await tx.db
    .updateTable("limits")
    .set({ state: "probing", probe_run: runId, probe_at: tx.now })
    .where("limit_id", "=", limit.limit_id)
    .execute();
  tx.event({
    kind: "limit.probing",
    run_id: runId,
    payload: { limit_id: limit.limit_id, account: limit.label, reason: limit.reason },
  });
}

/** The limit is looked at then, and not before; a probe that showed nothing is given up. */
export async function postponeLimit(tx: Tx, limit: Limit, checkAt: number | null): Promise<void> {
  await tx.db
    .updateTable("limits")
    .set({ state: "limited", probe_run: null, probe_at: null, check_at: checkAt })
    .where("limit_id", "=", limit.limit_id)
    .execute();
}

/** Another secret than the one that met the limit is there: it is tried at once. */
export async function noteSecret(tx: Tx, limit: Limit, digest: string): Promise<void> {
  await tx.db
    .updateTable("limits")
    .set({ secret_digest: digest, check_at: tx.now, failures: 0 })
    .where("limit_id", "=", limit.limit_id)
    .execute();
  tx.event({
    kind: "limit.secret_changed",
    payload: { limit_id: limit.limit_id, account: limit.label, reason: limit.reason },
  });
}

/** Ends a limit. */
export async function liftLimit(tx: Tx, limit: Limit, because: string): Promise<void> {
  await tx.db
    .updateTable("limits")
    .set({
      state: "lifted",
      probe_run: null,
      probe_at: null,
      check_at: null,
      lifted_at: tx.now,
      lifted_because: because,
    })
    .where("limit_id", "=", limit.limit_id)
    .execute();
  tx.event({
    kind: "limit.lifted",
    payload: { limit_id: limit.limit_id, account: limit.label, because },
  });
}

/** `limited until 2026-11-25 15:01Z: 5-hour usage limit`. */
export function whyLimited({ limited_until: until, reason }: Limit): string {
  const when =
    until === null
      ? "it is mended"
      : `${new Date(until).toISOString().slice(0, 16).replace("T", " ")}Z`;
  return `limited until ${when}: ${reason}`;
}
