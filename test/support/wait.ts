import { setTimeout as delay } from "node:timers/promises";

export interface WaitOptions {
  /** Default 10 s. */
  readonly timeoutMs?: number;
  /** What is waited for, for the error message. */
  readonly what: string;
}

/** Polls until `condition` gives a truthy value, and returns it; rejects after the deadline. */
export async function until<T>(
  condition: () => T | Promise<T>,
  options: WaitOptions,
): Promise<NonNullable<T>> {
  const { timeoutMs = 10_000, what } = options;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await delay(5);
  }
}
