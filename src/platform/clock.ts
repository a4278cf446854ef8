import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

/**
 * Time, handed in wherever it is needed. `now` is wall time for people (ms since 1970); `monotonic` only ever rises
 * while `bootId` stays the same (ms), and is what expiry is measured with.
 */
export interface Clock {
  now(): number;
  monotonic(): number;
  bootId(): string;
  /** Resolves after `ms`; rejects with the signal's reason when aborted first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The machine's clock. On Linux `monotonic` counts from boot, so that it can be compared between processes. */
export function systemClock(): Clock {
  const boot = readBootId();
  return {
    now: () => Date.now(),
    monotonic: () => Number(process.hrtime.bigint() / 1_000_000n),
    bootId: () => boot,
    sleep: (ms, signal) => delay(ms, undefined, signal ? { signal } : {}),
  };
}

function readBootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return `process-${process.pid}`;
  }
}
