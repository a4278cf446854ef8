import { OrchestratorError } from "../domain/errors.ts";
import { waitingFor } from "../dispatch/limited.ts";
import { findLimit, type Limit } from "../fleet/limits.ts";
import type { Db } from "../store/store.ts";
import type { Services } from "./services.ts";
import type { LimitView } from "./views.ts";

/** Limits, newest first. */
export async function listLimits(
  { store }: Pick<Services, "store">,
  input: { all: boolean },
): Promise<LimitView[]> {
  let query = store.db.selectFrom("limits").selectAll();
  if (!input.all) query = query.where("state", "!=", "lifted");
  const limits = await query.orderBy("created_at", "desc").limit(200).execute();
  return Promise.all(limits.map((limit) => viewLimit(store.db, limit)));
}

export async function requireLimit(db: Db, limitId: string): Promise<Limit> {
  const limit = await findLimit(db, limitId);
  if (limit !== undefined) return limit;
  throw new OrchestratorError("not_found", `there is no limit ${limitId}`, {
    hint: "'orchestrator limit list --all' shows the limits",
  });
}

export async function viewLimit(db: Db, limit: Limit): Promise<LimitView> {
  return {
    limit_id: limit.limit_id,
    account: limit.label,
    kind: limit.kind,
    state: limit.state,
    reason: limit.reason,
    limited_until: limit.limited_until,
    check_at: limit.check_at,
    probe_run: limit.probe_run,
    hits: limit.hits,
    waiting: (await waitingFor(db, limit)).map(({ run_id: runId }) => runId),
    created_at: limit.created_at,
    lifted_at: limit.lifted_at,
    lifted_because: limit.lifted_because,
  };
}
