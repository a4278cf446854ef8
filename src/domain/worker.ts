import type { Table } from "./transition.ts";

/** What the provider says of a worker. `unreachable` is never `gone` and never `empty`. */
export type ProviderState = "running" | "warm" | "cold" | "unreachable" | "gone";

export type Allocation =
  | "creating"
  | "preparing"
  | "unready"
  | "free"
  | "claimed"
  | "destroying"
  | "destroyed";

export type WorkerEvent =
  | "adopted"
  | "create_failed"
  | "prepared_for_run"
  | "prepared"
  | "step_failed"
  | "setup"
  | "claim"
  | "release"
  | "release_unrescued"
  | "reset"
  | "destroy"
  | "destroy_refused"
  | "gone";

/** Worker allocation, from reference/states.md. `cordoned` and `draining` are flags beside it. */
export const WORKER_TRANSITIONS: Table<Allocation, WorkerEvent> = {
  creating: { adopted: "preparing", create_failed: "destroyed", gone: "destroyed" },
  preparing: {
    prepared_for_run: "claimed",
    prepared: "free",
    step_failed: "unready",
    gone: "destroyed",
  },
  unready: { setup: "preparing", reset: "preparing", destroy: "destroying", gone: "destroyed" },
  free: { claim: "claimed", reset: "preparing", destroy: "destroying", gone: "destroyed" },
  claimed: { release: "free", release_unrescued: "unready", gone: "destroyed" },
  destroying: { destroy_refused: "unready", gone: "destroyed" },
  destroyed: {},
};

/** Allocations that count against `maxWorkers`. */
export const COUNTS_AGAINST_CAP: ReadonlySet<Allocation> = new Set([
  "creating",
  "preparing",
  "unready",
  "free",
  "claimed",
  "destroying",
]);
