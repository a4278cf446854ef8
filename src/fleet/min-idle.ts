import { OrchestratorError } from "../domain/errors.ts";
import type { Service } from "../platform/start-stop.ts";
import { whyNotIdle } from "./allocate.ts";
import { isClosed } from "./closed.ts";
import type { Connections } from "./connections.ts";
import type { FleetContext } from "./context.ts";
import type { Seeds } from "./prepare.ts";
import { makeReady, reserveIdleWorker } from "./ready.ts";
import { poolFacts } from "./workers.ts";

const LOOK_EVERY_MS = 5_000;

export interface MinIdleOptions {
  readonly fleet: FleetContext;
  readonly connections: Connections;
  readonly seeds: Seeds;
  poolFacts(repo: string): Promise<{ capacity: number | null; foreignNumbers: readonly number[] }>;
}

/**
 * Keeps `minIdle` workers of each pool ready: makes one at a time while fewer are idle or on their way. A failure to make one waits, growing
 * to five minutes; a set-up that fails leaves its worker `unready`, which counts against the cap but is not made again.
 */
export class MinIdle implements Service {
  readonly #options: MinIdleOptions;
  readonly #stopping = new AbortController();
  #done: Promise<void> | undefined;

  constructor(options: MinIdleOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    this.#done ??= this.#keep(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("stopping"));
    await this.#done;
  }

  async #keep(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options.fleet;
    let pauseMs = LOOK_EVERY_MS;
    while (!signal.aborted) {
      try {
        await this.#runOnce(signal);
        pauseMs = LOOK_EVERY_MS;
      } catch (error) {
        pauseMs = Math.min(300_000, pauseMs * 2);
        if (!(error instanceof OrchestratorError)) throw error;
        logger.warn("min_idle.failed", { error: error.message, again_in_ms: pauseMs });
      }
      await clock.sleep(pauseMs, signal).catch(() => {});
    }
  }

  async #runOnce(signal: AbortSignal): Promise<void> {
    const { fleet, connections, seeds, poolFacts: readFacts } = this.#options;
    for (const [repo, { minIdle }] of Object.entries(fleet.config().repos)) {
      if (minIdle > 0 && (await isClosed(fleet, repo))) continue;
      for (
        let missing = await this.#missing(repo, minIdle);
        missing > 0 && !signal.aborted;
        missing -= 1
      ) {
        const worker = await reserveIdleWorker(fleet, repo, await readFacts(repo));
        await makeReady(fleet, connections, seeds, worker, signal);
      }
    }
  }

  async #missing(repo: string, minIdle: number): Promise<number> {
    if (minIdle === 0) return 0;
    const { store, clock } = this.#options.fleet;
    const workers = await poolFacts(store.db, repo);
    const coming = workers.filter(
      (worker) =>
        whyNotIdle(worker, clock.now()) === null ||
        (worker.liveRun === null &&
          (worker.allocation === "creating" || worker.allocation === "preparing")),
    );
    return minIdle - coming.length;
  }
}
