import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import { Repeating } from "../platform/repeating.ts";
import type { Connections } from "./connections.ts";
import type { FleetContext } from "./context.ts";
import { notePauseBase, openPauses, resumePool, type Pause } from "./pauses.ts";
import type { Seeds } from "./prepare.ts";
import { setUpAgain } from "./ready.ts";
import type { Worker } from "./workers.ts";

const LOOK_EVERY_MS = 30_000;

export interface PoolKeeperOptions {
  readonly fleet: FleetContext;
  readonly connections: Connections;
  readonly seeds: Seeds;
}

/**
 * Watches pools that their set-up has paused. When the base branch has moved, or another script is configured, one worker whose set-up failed is set up
 * again: it resumes the pool when it passes, and no task is spent on finding out. Time alone resumes nothing, and no sleeping worker is woken to look.
 */
export class PoolKeeper extends Repeating {
  readonly #options: PoolKeeperOptions;

  constructor(options: PoolKeeperOptions) {
    super({ clock: options.fleet.clock, everyMs: LOOK_EVERY_MS });
    this.#options = options;
  }

  async runOnce(signal: AbortSignal): Promise<void> {
    const { fleet } = this.#options;
    for (const pause of await openPauses(fleet.store.db)) {
      if (pause.cause !== "setup") continue;
      await this.#look(pause, signal).catch((error: unknown) => {
        const message = cleanText(error instanceof Error ? error.message : String(error), 300);
        fleet.logger.info("pool.still_paused", { repo: pause.repo, error: message });
      });
    }
  }

  protected failed(error: unknown): void {
    const message = cleanText(error instanceof Error ? error.message : String(error), 300);
    this.#options.fleet.logger.warn("pauses.failed", { error: message });
  }

  async #look(pause: Pause, signal: AbortSignal): Promise<void> {
    const { fleet, connections, seeds } = this.#options;
    const repo = fleet.config().repos[pause.repo];
    if (repo === undefined) return;
    const isOtherScript = pause.setup !== null && repo.setup !== pause.setup;
    const failed = await failedWorkers(fleet, pause.repo);
    const [worker] = failed;
    if (worker === undefined) {
      // Those that failed are gone: with another script there is nothing left that speaks against it.
      if (!isOtherScript) return;
      await fleet.store.mutate((tx) =>
        resumePool(tx, pause, "another set-up script is configured"),
      );
      return;
    }
    const transport = await connections.reach(worker.worker_id);
    const base = await fleet.provisioner.remoteBase(transport, {
      url: repo.url,
      branch: repo.branch ?? "",
    });
    if (base === null) return;
    if (pause.base === null) {
      await fleet.store.mutate((tx) => notePauseBase(tx, pause, base), { quiet: true });
    }
    const hasMoved = pause.base !== null && base !== pause.base;
    if (!hasMoved && !isOtherScript) return;
    fleet.logger.info("pool.checked", { repo: pause.repo, worker: worker.name, base });
    try {
      // Resumes the pool when it passes.
      await setUpAgain(fleet, connections, seeds, worker, signal);
    } catch (error) {
      if (!(error instanceof OrchestratorError) || signal.aborted) throw error;
      await fleet.store.mutate(
        (tx) =>
          tx.db
            .updateTable("pool_pauses")
            .set({ base, setup: repo.setup })
            .where("pause_id", "=", pause.pause_id)
            .execute(),
        { quiet: true },
      );
      throw error;
    }
  }
}

/** Workers of the pool that are awake and whose set-up failed. */
async function failedWorkers({ store }: FleetContext, repo: string): Promise<Worker[]> {
  return store.db
    .selectFrom("workers")
    .selectAll("workers")
    .innerJoin("setup_failures", "setup_failures.worker_id", "workers.worker_id")
    .where("workers.repo", "=", repo)
    .where("workers.allocation", "=", "unready")
    .where("workers.provider_state", "=", "running")
    .orderBy("workers.number")
    .execute();
}
