/*
 * Alerts: what an operator is told of once, when it begins. Whoever finds a condition appends `alert.raised` in the transaction that records it, and
 * `alert.cleared` when it has ended:
 *
 *   tx.event(alertRaised({ key: "credential:kite", kind: "credential", title: "the API refuses the key of kite", repo: "kite" }));
 *   tx.event(alertCleared("credential:kite"));
 *
 * `key` names the incident: raised again while it stands, it is the same one and nobody is told again. So raise on change, not on every look.
 * Blocked and failed runs and unreachable workers need no such event: their own events say it (controller/alerts/incidents.ts).
 */

export const ALERT_KINDS = [
  "run_blocked",
  "run_failed",
  "worker_unreachable",
  "credential",
  "limit",
  "pool_paused",
  "other",
] as const;

export type AlertKind = (typeof ALERT_KINDS)[number];

export const ALERT_RAISED = "alert.raised";
export const ALERT_CLEARED = "alert.cleared";

export interface AlertFacts {
  /** The incident, for example `credential:kite`; at most 200 characters. */
  readonly key: string;
  readonly kind: AlertKind;
  /** One sentence that names the thing, cleaned; no secret. */
  readonly title: string;
  /** What to do, where that is known. */
  readonly hint?: string;
  readonly repo?: string;
}

/** The event that begins an incident. */
export function alertRaised({ repo, ...payload }: AlertFacts) {
  return { kind: ALERT_RAISED, ...(repo === undefined ? {} : { repo }), payload };
}

/** The event that ends it; nothing happens when it does not stand. */
export function alertCleared(key: string) {
  return { kind: ALERT_CLEARED, payload: { key } };
}

export function isAlertKind(value: unknown): value is AlertKind {
  return ALERT_KINDS.some((kind) => kind === value);
}
