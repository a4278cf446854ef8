import type { RunState } from "../domain/run.ts";
import type { AgentStatus, EvidenceSource } from "../domain/status.ts";
import type { ProviderState } from "../domain/worker.ts";

/** No line of any source for so long (the guard pulses every 15 s): what was known is history. */
export const STALE_AFTER_MS = 45_000;

/** A started program shows its session by then, or a start dialog is in its way. */
export const START_LIMIT_MS = 30_000;

export interface StatusContext {
  /** Wall clock, ms. */
  readonly now: number;
  readonly runState: RunState;
  /** When the intent to launch was committed; null: not yet. */
  readonly launchIntendedAt: number | null;
  /** The launch that was intended last: evidence of an older one says nothing about it. */
  readonly launch?: number;
  /** What the provider says of the worker. */
  readonly provider?: ProviderState;
  /** The follower's connection to the worker. */
  readonly connection?: "up" | "down";
}

/** What a rule found; `since` and `at` are wall times (ms). */
export interface Finding {
  readonly rule: string;
  readonly status: AgentStatus;
  readonly reason: string;
  readonly source: EvidenceSource;
  readonly at: number;
  readonly since: number;
}
