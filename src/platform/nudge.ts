/** A wake-up that is never lost: `nudge` before `wait` makes the next `wait` return at once. One waiter. */
export class Nudge {
  #pending = false;
  #wake: (() => void) | undefined;

  nudge(): void {
    this.#pending = true;
    this.#wake?.();
  }

  /** Resolves at the next nudge, or when `other` settles, or when the signal aborts; never rejects. */
  async wait(other: Promise<unknown>, signal: AbortSignal): Promise<void> {
    // Also when it is not waited for: a timer that is called off later must not count as an unhandled failure.
    other.catch(() => {});
    if (!this.#pending && !signal.aborted) {
      const nudged = new Promise<void>((resolve) => {
        this.#wake = resolve;
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
      await Promise.race([nudged, other.catch(() => {})]);
      this.#wake = undefined;
    }
    this.#pending = false;
  }
}
