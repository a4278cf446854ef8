import { OrchestratorError } from "../domain/errors.ts";
import type { Clock } from "../platform/clock.ts";

/** How often a waiting process looks whether another has committed. Half of what the contract allows. */
const LOOK_EVERY_MS = 50;

interface Waiter {
  readonly after: number;
  readonly wake: () => void;
  readonly fail: (reason: unknown) => void;
}

/** What the watch asks of the database; both are cheap. */
export interface Newest {
  /** Undefined when it cannot be told right now. */
  lastSeq(): number | undefined;
  /** A number that changes whenever any connection commits. */
  version(): number;
}

/** Wakes those who wait for events: at once on `wake`, and by looking while somebody waits and only then. */
export class EventWatch {
  readonly #clock: Clock;
  readonly #newest: Newest;
  readonly #waiters = new Set<Waiter>();
  readonly #closing = new AbortController();
  #looking: AbortController | undefined;

  constructor(clock: Clock, newest: Newest) {
    this.#clock = clock;
    this.#newest = newest;
  }

  async wait(after: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#closing.signal.throwIfAborted();
    if ((this.#newest.lastSeq() ?? 0) > after) return;
    const either = AbortSignal.any([signal, this.#closing.signal]);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { after, wake: resolve, fail: reject };
    const aborted = () => reject(either.reason);
    either.addEventListener("abort", aborted, { once: true });
    this.#waiters.add(waiter);
    this.#look();
    try {
      await promise;
    } finally {
      either.removeEventListener("abort", aborted);
      this.#waiters.delete(waiter);
      if (this.#waiters.size === 0) this.#looking?.abort();
    }
  }

  /** There is an event `seq` now. */
  wake(seq: number): void {
    for (const waiter of this.#waiters) if (seq > waiter.after) waiter.wake();
  }

  close(): void {
    this.#closing.abort(new OrchestratorError("unreachable", "the store was closed"));
  }

  #look(): void {
    if (this.#looking !== undefined && !this.#looking.signal.aborted) return;
    const looking = new AbortController();
    this.#looking = looking;
    void this.#lookUntil(looking.signal).catch((error: unknown) => {
      if (looking.signal.aborted) return;
      looking.abort();
      for (const waiter of this.#waiters) waiter.fail(error);
    });
  }

  async #lookUntil(signal: AbortSignal): Promise<void> {
    let version: number | undefined;
    while (!signal.aborted) {
      const present = this.#newest.version();
      if (present !== version) {
        const seq = this.#newest.lastSeq();
        if (seq !== undefined) {
          version = present;
          this.wake(seq);
        }
      }
      await this.#clock.sleep(LOOK_EVERY_MS, signal);
    }
  }
}
