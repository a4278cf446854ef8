import type { Connections } from "../fleet/connections.ts";
import type { FleetContext } from "../fleet/context.ts";
import type { Seeds } from "../fleet/prepare.ts";

/** Everything dispatch acts through. */
export interface DispatchContext {
  readonly fleet: FleetContext;
  readonly connections: Connections;
  readonly seeds: Seeds;
  /** Bounds how many workers are prepared at the same time. */
  limitPreparing<T>(action: () => Promise<T>): Promise<T>;
  /** Bounds how many snapshots are fetched at the same time. */
  limitFetching<T>(action: () => Promise<T>): Promise<T>;
}

/** How long one preparation job may take beside the set-up script (ms). */
export const PREPARE_TIMEOUT_MS = 60 * 60_000;
