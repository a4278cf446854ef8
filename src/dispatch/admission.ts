import type { FleetContext } from "../fleet/context.ts";
import { openLimits, whyLimited, type Limit } from "../fleet/limits.ts";
import { openPause, whyPaused } from "../fleet/pauses.ts";
import type { Db } from "../store/store.ts";
import { accountOfRun } from "./limited.ts";
import type { Run } from "./runs.ts";

export type Applicant = Pick<Run, "run_id" | "repo" | "runtime" | "resumes">;

/** Why a run is not given a worker now, whoever is idle; null when nothing keeps it. */
export type Admission = (run: Applicant | Omit<Applicant, "run_id">) => string | null;

/**
 * What keeps the runs of a pool in the queue at this moment: a pause of the pool, or a limit of the account that a run's agent would use. The run that
 * tries whether a limit is over passes it. A follow-up needs no set-up, and so passes a pause that a set-up caused.
 */
export async function admissionTo(
  db: Db,
  context: Pick<FleetContext, "config">,
  repo: string,
): Promise<Admission> {
  const pause = await openPause(db, repo);
  const limits = await openLimits(db);
  return (run) => {
    if (pause !== undefined && (pause.cause === "operator" || run.resumes === null)) {
      return whyPaused(pause);
    }
    const limit = limits.length === 0 ? undefined : limitOf(context, limits, run);
    if (limit === undefined || ("run_id" in run && limit.probe_run === run.run_id)) return null;
    return `${whyLimited(limit)} (${limit.label})`;
  };
}

function limitOf(
  context: Pick<FleetContext, "config">,
  limits: readonly Limit[],
  run: Pick<Run, "repo" | "runtime">,
): Limit | undefined {
  const account = accountOfRun(context, run)?.key;
  return limits.find((limit) => limit.account === account);
}
