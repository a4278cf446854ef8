import { OrchestratorError } from "../domain/errors.ts";
import { TERMINAL_RUN_STATES } from "../domain/run.ts";
import { cleanText } from "../domain/text.ts";
import type { Service } from "../platform/start-stop.ts";
import type { Connections } from "./connections.ts";
import { providerOf, type FleetContext } from "./context.ts";
import { isGone } from "./gone.ts";
import type { Seeds } from "./prepare.ts";
import { finishMaking } from "./ready.ts";
import { takeBack } from "./take-back.ts";
import { moveWorker, noteWorker, type Worker } from "./workers.ts";

const LOOK_EVERY_MS = 1_000;
/** Providers answer for money and under quotas: asked less often (ms). */
const ASK_EVERY_MS = 15_000;
/** Whoever reserved a worker says within this time that it is making it (ms). */
const YOUNG_MS = 1_000;

export interface UpkeepOptions {
  readonly fleet: FleetContext;
  readonly connections: Connections;
  readonly seeds: Seeds;
}

/**
 * Looks after workers that no run looks after: asks the providers how they are, without waking any, so that one that could not be reached
 * is used again and one that is gone is said to be; finishes making those whose maker was killed or whose run was cancelled; and takes
 * back those whose run was abandoned.
 */
export class Upkeep implements Service {
  readonly #options: UpkeepOptions;
  readonly #stopping = new AbortController();
  readonly #making = new Map<string, Promise<void>>();
  #done: Promise<void> | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    this.#done ??= this.#keep(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("stopping"));
    await this.#done;
    await Promise.all(this.#making.values());
  }

  async #keep(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options.fleet;
    while (!signal.aborted) {
      try {
        await this.runOnce(signal);
      } catch (error) {
        logger.warn("upkeep.failed", { error: messageOf(error) });
      }
      await clock.sleep(LOOK_EVERY_MS, signal).catch(() => {});
    }
  }

  async runOnce(signal: AbortSignal): Promise<void> {
    const { fleet } = this.#options;
    const asks = fleet.clock.monotonic() - this.#askedAt >= ASK_EVERY_MS;
    if (asks) this.#askedAt = fleet.clock.monotonic();
    const workers = await withoutRun(fleet);
    for (const worker of workers) {
      if (worker.allocation === "creating" || worker.allocation === "preparing") {
        this.#finishMaking(worker, signal);
      } else if (asks) {
        await this.#look(worker);
        if (worker.allocation === "claimed") this.#takeBack(worker);
      }
    }
  }

  async #look(worker: Worker): Promise<void> {
    const { fleet } = this.#options;
    if (worker.provider_id === null || worker.allocation === "destroying") return;
    const seen = await providerOf(fleet, worker.provider).get(worker.provider_id);
    if (seen === null || seen.state === "gone") {
      if (!(await isGone(fleet, worker))) return;
      await fleet.store.mutate((tx) =>
        moveWorker(tx, worker, "gone", { provider_state: "gone", provider_state_at: tx.now }),
      );
      return;
    }
    if (seen.state === worker.provider_state) return;
    await fleet.store.mutate(
      (tx) =>
        noteWorker(tx, worker.worker_id, {
          provider_state: seen.state,
          provider_state_at: tx.now,
        }),
      { quiet: true },
    );
  }

  #finishMaking(worker: Worker, signal: AbortSignal): void {
    const { fleet, connections, seeds } = this.#options;
    const isYoung = fleet.clock.now() - worker.updated_at < YOUNG_MS;
    if (isYoung || this.#making.has(worker.worker_id) || fleet.making.has(worker.worker_id)) return;
    this.#beside(worker, "upkeep.not_ready", () =>
      finishMaking(fleet, connections, seeds, worker, signal),
    );
  }

  #takeBack(worker: Worker): void {
    if (this.#making.has(worker.worker_id)) return;
    const { fleet, connections } = this.#options;
    this.#beside(worker, "upkeep.not_back", () => takeBack(fleet, connections, worker));
  }

  /** Does something that takes long for one worker; the others are looked at meanwhile. */
  #beside(worker: Worker, trouble: string, action: () => Promise<unknown>): void {
    const { logger } = this.#options.fleet;
    const act = async () => {
      try {
        await action();
      } catch (error) {
        logger.warn(trouble, { worker: worker.name, error: messageOf(error) });
      } finally {
        this.#making.delete(worker.worker_id);
      }
    };
    this.#making.set(worker.worker_id, act());
  }
}

const messageOf = (error: unknown): string =>
  cleanText(error instanceof OrchestratorError ? error.message : String(error), 300);

/** Workers that are there and that no live run has. */
async function withoutRun({ store }: FleetContext): Promise<Worker[]> {
  return store.db
    .selectFrom("workers")
    .selectAll("workers")
    .where("allocation", "!=", "destroyed")
    .where((where) =>
      where.not(
        where.exists(
          where
            .selectFrom("runs")
            .select("run_id")
            .whereRef("runs.worker_id", "=", "workers.worker_id")
            .where("runs.state", "not in", [...TERMINAL_RUN_STATES]),
        ),
      ),
    )
    .execute();
}
