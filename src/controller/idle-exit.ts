import type { Clock } from "../platform/clock.ts";
import type { Service } from "../platform/start-stop.ts";

export interface IdleExitOptions {
  readonly clock: Clock;
  /** Minutes without a live run after which the controller ends; null: never. */
  minutes(): number | null;
  isBusy(): Promise<boolean>;
  finish(): void;
}

/** Ends a controller that was started on demand once nothing has been going on for the configured time. */
export class IdleExit implements Service {
  readonly #options: IdleExitOptions;
  readonly #stopping = new AbortController();
  #done: Promise<void> | undefined;

  constructor(options: IdleExitOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    this.#done ??= this.#watch(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("stopping"));
    await this.#done;
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { clock, minutes, isBusy, finish } = this.#options;
    let idleSince = clock.monotonic();
    while (!signal.aborted) {
      const limit = minutes();
      const checkEvery =
        limit === null ? 60_000 : Math.min(60_000, Math.max(100, (limit * 60_000) / 10));
      await clock.sleep(checkEvery, signal).catch(() => {});
      if (limit === null || signal.aborted) continue;
      if (await isBusy().catch(() => true)) idleSince = clock.monotonic();
      else if (clock.monotonic() - idleSince >= limit * 60_000) return finish();
    }
  }
}
