import type { Clock } from "./clock.ts";
import type { Ids } from "./ids.ts";

export interface RetryPolicy {
  readonly attempts: number;
  readonly firstMs: number;
  readonly maxMs: number;
}

/**
 * Calls `action` until it succeeds, `retryable` says no, or the attempts are used up; then rejects with the last
 * error. Waits with full jitter, doubling from `firstMs` to `maxMs`, or as long as `retryAfterMs(error)` asks.
 */
export async function retry<T>(
  action: (attempt: number) => Promise<T>,
  policy: RetryPolicy,
  effects: { clock: Clock; ids: Ids },
  options: {
    retryable: (error: unknown) => boolean;
    retryAfterMs?: (error: unknown) => number | undefined;
    signal?: AbortSignal;
  },
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await action(attempt);
    } catch (error) {
      if (attempt >= policy.attempts || !options.retryable(error)) throw error;
      const ceiling = Math.min(policy.maxMs, policy.firstMs * 2 ** (attempt - 1));
      const asked = options.retryAfterMs?.(error);
      await effects.clock.sleep(
        asked ?? Math.ceil(ceiling * effects.ids.fraction()),
        options.signal,
      );
    }
  }
}
