import type { SweepResult } from "../dispatch/check/check.ts";
import type { CheckView } from "./views.ts";

export function viewSweep({ workers, counts, ms, log, refused }: SweepResult): CheckView {
  const { leftAlone, ...rest } = counts;
  return {
    workers: workers.map((each) => ({
      worker: each.worker.name,
      repo: each.worker.repo,
      window: each.window,
      status: each.status,
      source: each.source,
      reason: each.reason,
      age_ms: each.ageMs,
      run_id: each.run?.run_id ?? null,
      machine: each.machine,
      was: each.was,
      found: [...each.found],
      changed: each.changed,
    })),
    counts: { ...rest, left_alone: leftAlone },
    ms,
    log,
    log_refused: refused,
  };
}
