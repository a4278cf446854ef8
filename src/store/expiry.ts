/** A moment on a machine's monotonic clock; moments compare only within one boot. */
export interface Moment {
  readonly bootId: string;
  /** Milliseconds. */
  readonly monotonic: number;
}

export type Expiry =
  | { readonly kind: "live"; readonly remainingMs: number }
  | { readonly kind: "expired" }
  /** The machine booted since the grant, so nobody knows how long ago that was: store `granted` and count from there. */
  | { readonly kind: "renewed"; readonly granted: Moment; readonly remainingMs: number };

/**
 * Says whether a grant of `ttlMs` has run out. Wall time plays no part, so a clock that jumps expires nothing early.
 * A new boot gives the holder one full TTL, once the caller has stored `granted`; until then each call gives it anew.
 */
export function expiry(granted: Moment, ttlMs: number, present: Moment): Expiry {
  if (granted.bootId !== present.bootId) {
    return { kind: "renewed", granted: present, remainingMs: ttlMs };
  }
  const remainingMs = granted.monotonic + ttlMs - present.monotonic;
  return remainingMs > 0
    ? { kind: "live", remainingMs: Math.min(remainingMs, ttlMs) }
    : { kind: "expired" };
}
