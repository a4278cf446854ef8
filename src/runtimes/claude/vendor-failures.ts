import type { FailureKind } from "../../domain/failure.ts";

/*
 * How Claude Code says why a turn failed: `StopFailure.error` and the words of its own last message (never the model's). Recorded from 2.1.329
 * against a stub of the API (test/fixtures/failures/claude/2.1.329); rows marked `program` are texts found in that program that no stub brings
 * about. The first row that fits counts; what fits none is no known cause.
 */
export interface FailureShape {
  /** Null: known, and no cause of ours (an error of the network or of a configuration). */
  readonly kind: FailureKind | null;
  readonly label: string;
  /** `StopFailure.error` must be one of these. */
  readonly errors: readonly string[];
  /** What the message says; absent: the error's name is enough. A group named `name` is put before the label. */
  readonly says?: RegExp;
  readonly from: "recorded" | "program";
}

const AUTH = ["authentication_failed", "oauth_org_not_allowed"];

export const FAILURES: readonly FailureShape[] = [
  {
    kind: "usage_limit",
    label: "usage limit",
    errors: ["rate_limit"],
    says: /^You've (?:hit|reached) your (?<name>.{0,40}?) ?(?:usage )?limit\b/,
    from: "recorded",
  },
  {
    kind: "billing",
    label: "out of usage credits",
    errors: ["rate_limit", "billing_error"],
    says: /^(?:You're out of (?:usage credits|extra usage)|Your org(?:anization)? is out of usage)/,
    from: "program",
  },
  {
    kind: "billing",
    label: "usage not included or disabled",
    errors: ["rate_limit", "billing_error"],
    says: /^(?:Your seat type doesn't include (?:usage|extra usage)|Your usage allocation has been disabled|Your group's usage limit is set to \$0)/,
    from: "program",
  },
  {
    kind: "overloaded",
    label: "API overloaded",
    errors: ["rate_limit"],
    says: /Server is temporarily limiting requests \(not your usage limit\)/,
    from: "program",
  },
  { kind: "rate_limit", label: "rate limit", errors: ["rate_limit"], from: "recorded" },
  {
    kind: "overloaded",
    label: "API overloaded",
    errors: ["server_error", "overloaded"],
    says: /^(?:API Error: )?(?:529\b|Repeated 529 Overloaded|\w+ is experiencing high load)/,
    from: "recorded",
  },
  { kind: "overloaded", label: "API overloaded", errors: ["overloaded"], from: "program" },
  {
    kind: "billing",
    label: "credit balance too low",
    errors: ["billing_error"],
    says: /^Credit balance is too low/,
    from: "recorded",
  },
  { kind: "billing", label: "billing error", errors: ["billing_error"], from: "program" },
  {
    kind: null,
    label: "network not allowed",
    errors: AUTH,
    says: /the network this request came from isn't allowed/,
    from: "program",
  },
  {
    kind: "credential",
    label: "API key refused",
    errors: AUTH,
    says: /^Invalid API key/,
    from: "recorded",
  },
  {
    kind: "credential",
    label: "login revoked",
    errors: AUTH,
    says: /token (?:has been )?revoked/i,
    from: "recorded",
  },
  {
    kind: "credential",
    label: "login expired",
    errors: AUTH,
    says: /token has expired/i,
    from: "recorded",
  },
  { kind: "credential", label: "credential refused", errors: AUTH, from: "recorded" },
  {
    kind: "context",
    label: "context exhausted",
    errors: ["invalid_request"],
    says: /^Prompt is too long/,
    from: "recorded",
  },
  {
    kind: "context",
    label: "context exhausted",
    errors: ["max_output_tokens"],
    says: /reached its context window limit/,
    from: "recorded",
  },
  {
    kind: "output",
    label: "answer over its token limit",
    errors: ["max_output_tokens"],
    from: "recorded",
  },
  {
    kind: "refusal",
    label: "refused by the model",
    errors: ["invalid_request"],
    says: /safeguards (?:flagged|stopped)|violate our Usage Policy|^Output blocked by content filtering policy/,
    from: "recorded",
  },
  {
    kind: "max_turns",
    label: "turn limit reached",
    errors: ["max_turns", "unknown", "invalid_request"],
    says: /^(?:Error: )?Reached max(?:imum number of)? turns/,
    from: "program",
  },
];

/** `resets 1:20pm (UTC)`, `resets 3pm (Europe/Vienna)`, `resets Nov 27, 8:38pm (UTC)`. */
export const RESET =
  /\bresets (?:(?<month>[A-Z][a-z]{2}) (?<day>\d{1,2})(?:, (?<year>\d{4}))?(?:,| at) )?(?<hour>\d{1,2})(?::(?<minute>\d{2}))? ?(?<half>am|pm)?(?: \((?<zone>[A-Za-z0-9_+/-]{1,40})\))?/;
