/** What ended an agent's turn, where that was positively identified; anything else stays an error with its text. */
export type FailureKind =
  | "usage_limit"
  | "rate_limit"
  | "overloaded"
  | "credential"
  | "billing"
  | "context"
  | "output"
  | "refusal"
  | "max_turns";

export interface FailureCause {
  readonly kind: FailureKind;
  /** A short phrase for people, e.g. `5-hour usage limit`. */
  readonly label: string;
  /** Wall time (ms) from which it is over, where the vendor named one. */
  readonly until: number | null;
}

export type LimitKind = Extract<
  FailureKind,
  "usage_limit" | "rate_limit" | "overloaded" | "credential" | "billing"
>;

/** Causes that lie with the account: every run that uses its credential meets them, whatever its task. */
export const LIMIT_KINDS: ReadonlySet<FailureKind> = new Set<LimitKind>([
  "usage_limit",
  "rate_limit",
  "overloaded",
  "credential",
  "billing",
]);

export function isLimit(kind: FailureKind): kind is LimitKind {
  return LIMIT_KINDS.has(kind);
}
