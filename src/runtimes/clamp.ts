import type { Evidence, Reading } from "./evidence.ts";

/**
 * The evidence with no time later than `now`: what was taken before the wall clock went back counts as taken now, so that it ages
 * from here on instead of looking fresh until the clock has caught up. The same object when nothing was later. Pure.
 */
export function clampEvidence(evidence: Evidence, now: number): Evidence {
  const latest = Math.max(
    evidence.startedAt ?? 0,
    evidence.lastAt ?? 0,
    ...[evidence.turn, evidence.registry, evidence.process, evidence.tmux].map(
      (reading) => reading?.at ?? 0,
    ),
    evidence.startDialog?.at ?? 0,
    evidence.costShown?.at ?? 0,
  );
  if (latest <= now) return evidence;
  const orNull = (at: number | null) => (at === null ? null : Math.min(at, now));
  const within = <T extends { readonly at: number }>(seen: T): T => ({
    ...seen,
    at: Math.min(seen.at, now),
  });
  const reading = <T>(seen: Reading<T> | null): Reading<T> | null =>
    seen === null ? null : { ...within(seen), since: Math.min(seen.since, now) };
  return {
    ...evidence,
    startedAt: orNull(evidence.startedAt),
    lastAt: orNull(evidence.lastAt),
    turn: reading(evidence.turn),
    registry: reading(evidence.registry),
    process: reading(evidence.process),
    tmux: reading(evidence.tmux),
    prompts: evidence.prompts.map(within),
    startDialog: evidence.startDialog === null ? null : within(evidence.startDialog),
    costShown: evidence.costShown === null ? null : within(evidence.costShown),
  };
}
