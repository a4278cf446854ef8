import type { FailureCause } from "../domain/failure.ts";
import { RUN_TRANSITIONS } from "../domain/run.ts";
import { can } from "../domain/transition.ts";
import { accountOf, type Account } from "../fleet/account.ts";
import type { FleetContext } from "../fleet/context.ts";
import { findLimit, hitLimit, liftLimit, whyLimited, type Limit } from "../fleet/limits.ts";
import type { Ids } from "../platform/ids.ts";
import type { Db, Tx } from "../store/store.ts";
import type { DispatchContext } from "./context.ts";
import { moveRun, type Run } from "./runs.ts";

/** Runs that waited for the same limit go on this far apart, more or less (ms). */
const STAGGER_MS = 500;

/** What a blocked run knows of the limit it waits for. */
export interface LimitSeen {
  /** The run may go on now: the limit is over, or this run is the one that tries. */
  readonly admits: boolean;
  /** What the run is blocked for, in words. */
  readonly reason: string;
}

/** The account of a run; undefined when its repo is not configured any more. */
export function accountOfRun(
  { config }: Pick<FleetContext, "config">,
  run: Pick<Run, "repo" | "runtime">,
): Account | undefined {
  const repo = config().repos[run.repo];
  return repo === undefined ? undefined : accountOf(repo, run.runtime);
}

export async function limitSeen(db: Db, run: Run, now: number): Promise<LimitSeen | null> {
  if (run.limit_id === null || run.state !== "blocked") return null;
  const limit = await findLimit(db, run.limit_id);
  if (limit === undefined) return null;
  const isItsTurn =
    limit.state === "lifted"
      ? now >= (run.not_before ?? 0)
      : limit.state === "probing" && limit.probe_run === run.run_id;
  return { admits: isItsTurn, reason: whyLimited(limit) };
}

/** The run met a limit of its account: it is blocked for it, and so is, by the same row, everything else that uses the account. */
export async function blockLimited(
  context: DispatchContext,
  run: Run,
  cause: FailureCause,
): Promise<void> {
  const { fleet } = context;
  await fleet.store.mutate(async (tx) => {
    if (!can(RUN_TRANSITIONS, run.state, "stuck")) return;
    const limit = await hitByRun(tx, fleet, run, cause);
    const reason = limit === undefined ? cause.label : whyLimited(limit);
    await moveRun(tx, run, "stuck", {
      patch: {
        reason,
        limit_id: limit?.limit_id ?? null,
        not_before: limit?.state === "lifted" ? tx.now : null,
      },
      kind: "run.blocked",
      payload: {
        reason,
        ...(limit === undefined
          ? {}
          : { limit_id: limit.limit_id, limited_until: limit.limited_until }),
      },
    });
  });
  fleet.failpoint("after-limited");
}

/** Records the hit, and says its news on the runs that wait already. */
export async function hitByRun(
  tx: Tx,
  fleet: Pick<FleetContext, "config" | "ids">,
  run: Run,
  cause: FailureCause,
): Promise<Limit | undefined> {
  const account = accountOfRun(fleet, run);
  if (account === undefined) return undefined;
  const limit = await hitLimit(tx, fleet.ids, {
    account,
    cause,
    runId: run.run_id,
    launchedAt: run.launched_at ?? tx.now,
    digest: run.secret_digest,
    retryMs: fleet.config().limits.retrySeconds * 1_000,
  });
  if (limit.state !== "lifted") await sayReason(tx, limit);
  return limit;
}

/** A limit that lasts longer than was thought is no news for each of the runs that wait for it: their reason is set right. */
async function sayReason(tx: Tx, limit: Limit): Promise<void> {
  const reason = whyLimited(limit);
  await tx.db
    .updateTable("runs")
    .set({ reason })
    .where("limit_id", "=", limit.limit_id)
    .where("state", "=", "blocked")
    .where("reason", "!=", reason)
    .execute();
}

/** Ends a limit; the runs that waited for it go on one after the other. */
export async function liftAndWake(
  tx: Tx,
  ids: Pick<Ids, "fraction">,
  limit: Limit,
  because: string,
): Promise<void> {
  await liftLimit(tx, limit, because);
  const waiting = await waitingFor(tx.db, limit);
  for (const [place, { run_id: runId }] of waiting.entries()) {
    const notBefore = tx.now + Math.ceil(STAGGER_MS * (place + ids.fraction()));
    await tx.db
      .updateTable("runs")
      .set({ not_before: notBefore })
      .where("run_id", "=", runId)
      .execute();
  }
}

/** Runs that are blocked for a limit, oldest first. */
export async function waitingFor(db: Db, limit: Limit): Promise<Run[]> {
  return db
    .selectFrom("runs")
    .selectAll()
    .where("limit_id", "=", limit.limit_id)
    .where("state", "=", "blocked")
    .orderBy("created_at")
    .orderBy("run_id")
    .execute();
}
