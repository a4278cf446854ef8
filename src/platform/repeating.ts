import type { Clock } from "./clock.ts";
import type { Service } from "./start-stop.ts";

export interface Pace {
  readonly clock: Clock;
  /** From the end of one turn to the next (ms). */
  readonly everyMs: number;
  /** Before the first turn (ms). */
  readonly firstAfterMs?: number;
}

/** Does one thing again and again until it is stopped. A turn that fails is told of, and the next comes all the same. */
export abstract class Repeating implements Service {
  readonly #pace: Pace;
  readonly #stopping = new AbortController();
  #done: Promise<void> | undefined;

  constructor(pace: Pace) {
    this.#pace = pace;
  }

  abstract runOnce(signal: AbortSignal): Promise<void>;
  protected abstract failed(error: unknown): void;

  async start(): Promise<void> {
    this.#done ??= this.#keep(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("stopping"));
    await this.#done;
  }

  async #keep(signal: AbortSignal): Promise<void> {
    const { clock, everyMs, firstAfterMs = 0 } = this.#pace;
    if (firstAfterMs > 0) await clock.sleep(firstAfterMs, signal).catch(() => {});
    while (!signal.aborted) {
      try {
        await this.runOnce(signal);
      } catch (error) {
        this.failed(error);
      }
      await clock.sleep(everyMs, signal).catch(() => {});
    }
  }
}
