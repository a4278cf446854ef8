import type { Table } from "./transition.ts";

export type RunState =
  | "queued"
  | "driving"
  | "launched"
  | "active"
  | "blocked"
  | "cancelling"
  | "finishing"
  | "completed"
  | "failed"
  | "cancelled"
  | "abandoned";

export type TerminalRunState = "completed" | "failed" | "cancelled" | "abandoned";

export type RunEvent =
  | "assigned"
  | "requeued"
  | "launch_intended"
  | "prompt_seen"
  | "stuck"
  | "resumed"
  | "running_again"
  | "stopped"
  | "failed"
  | "cancel"
  | "proven_over"
  | "abandon"
  | "reported_completed"
  | "reported_failed"
  | "reported_cancelled";

/**
 * A run, from reference/states.md. `finishing` carries its coming end in the row's `outcome`; `blocked` and the ends
 * carry a `reason`. Self-transitions (a step retried, launch n again, a follow-up message) are listed.
 */
export const RUN_TRANSITIONS: Table<RunState, RunEvent> = {
  // `failed`: a run whose worker is gone, or a follow-up whose conversation is, can never be assigned.
  queued: { assigned: "driving", cancel: "cancelled", failed: "finishing" },
  driving: {
    requeued: "queued",
    launch_intended: "launched",
    failed: "finishing",
    cancel: "cancelling",
    stuck: "blocked",
  },
  launched: {
    launch_intended: "launched",
    prompt_seen: "active",
    stuck: "blocked",
    failed: "finishing",
    cancel: "cancelling",
  },
  active: {
    launch_intended: "active",
    stopped: "finishing",
    failed: "finishing",
    stuck: "blocked",
    cancel: "cancelling",
  },
  blocked: {
    stuck: "blocked",
    prompt_seen: "active",
    running_again: "active",
    resumed: "active",
    launch_intended: "launched",
    stopped: "finishing",
    failed: "finishing",
    cancel: "cancelling",
    abandon: "abandoned",
  },
  cancelling: { cancel: "cancelling", proven_over: "finishing" },
  finishing: {
    reported_completed: "completed",
    reported_failed: "failed",
    reported_cancelled: "cancelled",
  },
  completed: {},
  failed: {},
  cancelled: {},
  abandoned: {},
};

export const TERMINAL_RUN_STATES: ReadonlySet<RunState> = new Set([
  "completed",
  "failed",
  "cancelled",
  "abandoned",
]);

export function isTerminal(state: RunState): state is TerminalRunState {
  return TERMINAL_RUN_STATES.has(state);
}
