import { systemClock, type Clock } from "../../src/platform/clock.ts";

/** The system's clock, whose wall time the test moves; monotonic time and sleeping stay what they are. */
export class MovedClock implements Clock {
  readonly #system = systemClock();
  offset = 0;
  now = () => Date.now() + this.offset;
  monotonic = () => this.#system.monotonic();
  bootId = () => this.#system.bootId();
  sleep = (ms: number, signal?: AbortSignal) => this.#system.sleep(ms, signal);
}
