import type { Table } from "./transition.ts";

export type TaskState =
  | "open"
  | "claimed"
  | "blocked"
  | "handoff_pending"
  | "review_ready"
  | "in_review"
  | "done"
  | "cancelled"
  | "dead_letter";

export type TaskEvent =
  | "claim"
  | "lease_ended"
  | "run_blocked"
  | "run_active"
  | "finish"
  | "request_review"
  | "attempt_failed"
  | "attempts_exhausted"
  | "handoff"
  | "handoff_claimed"
  | "handoff_withdrawn"
  | "block"
  | "unblock"
  | "review_claimed"
  | "approve"
  | "request_changes"
  | "review_lost"
  | "cancel"
  | "redrive";

/** A task on the board, from reference/states.md. `planned`, `ready` and `changes_requested` are views of `open`. */
export const TASK_TRANSITIONS: Table<TaskState, TaskEvent> = {
  open: { claim: "claimed", block: "blocked", cancel: "cancelled" },
  claimed: {
    lease_ended: "open",
    run_blocked: "blocked",
    finish: "done",
    request_review: "review_ready",
    attempt_failed: "open",
    attempts_exhausted: "dead_letter",
    handoff: "handoff_pending",
    cancel: "cancelled",
  },
  blocked: {
    run_active: "claimed",
    finish: "done",
    request_review: "review_ready",
    attempt_failed: "open",
    attempts_exhausted: "dead_letter",
    unblock: "open",
    cancel: "cancelled",
  },
  handoff_pending: { handoff_claimed: "claimed", handoff_withdrawn: "open", cancel: "cancelled" },
  review_ready: { review_claimed: "in_review", cancel: "cancelled" },
  in_review: {
    approve: "done",
    request_changes: "open",
    review_lost: "review_ready",
    cancel: "cancelled",
  },
  done: {},
  cancelled: {},
  dead_letter: { redrive: "open" },
};
