/** Lines of several sources for one reader who may be slow: beyond `most` waiting lines the newest are left out, and said to be. */
export class LogQueue<T> {
  readonly #waiting: T[] = [];
  readonly #most: number;
  #wake = () => {};
  #ended = false;
  #failure: unknown;

  constructor(most = 10_000) {
    this.#most = most;
  }

  /** False when the line was left out. */
  push(line: T): boolean {
    if (this.#ended || this.#waiting.length >= this.#most) return false;
    this.#waiting.push(line);
    this.#wake();
    return true;
  }

  /** What waits is still read. */
  end(failure?: unknown): void {
    this.#ended = true;
    this.#failure = failure;
    this.#wake();
  }

  async *lines(signal: AbortSignal): AsyncGenerator<T> {
    const stop = () => this.#wake();
    signal.addEventListener("abort", stop);
    try {
      while (!signal.aborted) {
        yield* this.#waiting.splice(0);
        if (this.#waiting.length > 0) continue;
        if (this.#ended) break;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      signal.removeEventListener("abort", stop);
    }
    if (this.#failure !== undefined) throw this.#failure;
  }
}
