import type { Env } from "../config/env.ts";
import { loadConfig } from "../config/load.ts";
import { ensureHome, type HomePaths } from "../config/paths.ts";
import type { Clock } from "../platform/clock.ts";
import type { Ids } from "../platform/ids.ts";
import { openStore } from "../store/open.ts";
import type { Client } from "./client.ts";
import { findOperation, performOnce, performStream } from "./perform.ts";
import { OPERATIONS } from "./registry.ts";
import type { Services } from "./services.ts";

export interface InProcessOptions {
  readonly env: Env;
  readonly paths: HomePaths;
  readonly version: string;
  readonly clock: Clock;
  readonly ids: Ids;
}

/**
 * Performs operations over the store in this process; those that need the controller reject with `unreachable`. Loads
 * the store and every schema: only for when no controller answers.
 */
export async function openInProcess(options: InProcessOptions): Promise<Client> {
  const { paths, clock, ids } = options;
  const config = await loadConfig(paths.config, options.env);
  await ensureHome(paths);
  const store = await openStore({ path: paths.database, clock, ids });
  return clientOver({
    store,
    clock,
    config,
    orchestration: undefined,
    pid: process.pid,
    version: options.version,
    startedAt: clock.now(),
  });
}

/** The client of services that live in this process; closing it closes their store. */
export function clientOver(services: Services): Client {
  const closing = new AbortController();
  let closed: Promise<void> | undefined;
  const together = (signal: AbortSignal | undefined) =>
    signal === undefined ? closing.signal : AbortSignal.any([signal, closing.signal]);
  return {
    async call(op, input, signal) {
      return performOnce(findOperation(OPERATIONS, op), services, input, together(signal));
    },
    stream: (op, input, signal) =>
      performStream(findOperation(OPERATIONS, op), services, input, together(signal)),
    close() {
      closing.abort(new Error("closed"));
      closed ??= services.store.close();
      return closed;
    },
  };
}
