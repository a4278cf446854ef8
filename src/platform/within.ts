import type { Clock } from "./clock.ts";

export const TOO_LATE = "too-late" as const;

/**
 * Resolves with what `action` gives, or with TOO_LATE after `ms` or when the outer signal aborts; `action` is then told by its signal and
 * what becomes of it is not waited for.
 */
export async function within<T>(
  clock: Clock,
  ms: number,
  outer: AbortSignal,
  action: (signal: AbortSignal) => Promise<T>,
): Promise<T | typeof TOO_LATE> {
  if (outer.aborted) return TOO_LATE;
  const late = new AbortController();
  const done = new AbortController();
  const signal = AbortSignal.any([outer, late.signal]);
  const acted = action(signal);
  // When it is too late nobody listens any more.
  acted.catch(() => {});
  const timer = clock.sleep(ms, AbortSignal.any([outer, done.signal])).then(
    () => TOO_LATE,
    () => TOO_LATE,
  );
  try {
    return await Promise.race([acted, timer]);
  } finally {
    done.abort(new Error("done"));
    late.abort(new Error(`not done within ${ms} ms`));
  }
}
