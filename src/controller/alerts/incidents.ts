import { UNREACHABLE } from "../../dispatch/decide.ts";
import { ALERT_CLEARED, ALERT_RAISED, isAlertKind, type AlertKind } from "../../domain/alert.ts";
import { cleanText } from "../../domain/text.ts";
import type { StoredEvent } from "../../store/store.ts";

/** A condition an operator is told of once. */
export interface Incident {
  readonly key: string;
  readonly kind: AlertKind;
  readonly title: string;
  readonly hint: string | null;
  readonly repo: string | null;
  readonly run_id: string | null;
  readonly worker: string | null;
  /** Event that began it, and its time. */
  readonly seq: number;
  readonly at: number;
  /** Not told of before it has stood so long (ms): what mends itself is no news. */
  readonly holdMs: number;
}

/** Kinds of events that incidents are made of. */
export const INCIDENT_EVENTS: readonly string[] = ["alert.", "run.", "worker.", "limit.", "pool."];

/** A worker that misses one connection is back before anybody could look. */
const UNREACHABLE_HOLD_MS = 45_000;

/** The incidents that stand, by key, while events are folded in order. */
export class OpenIncidents {
  readonly #open = new Map<string, Incident>();

  /** The incident that this event begins; null when it begins none that does not stand already. */
  fold(event: StoredEvent): Incident | null {
    const change = changeOf(event);
    if (change === null) return null;
    for (const key of change.ends) this.#open.delete(key);
    const { begins } = change;
    if (begins === null || this.#open.has(begins.key)) return null;
    if (change.stands) this.#open.set(begins.key, begins);
    return begins;
  }

  /** Whether it stands still, or is of a kind that merely happens. */
  isCurrent(incident: Incident): boolean {
    return incident.holdMs === 0 || this.#open.get(incident.key)?.seq === incident.seq;
  }

  /** Place of the oldest one that stands. */
  oldest(): number | undefined {
    const places = [...this.#open.values()].map(({ seq }) => seq);
    return places.length === 0 ? undefined : Math.min(...places);
  }
}

interface Change {
  readonly begins: Incident | null;
  /** It ends by a later event; else it happened, and that is all. */
  readonly stands: boolean;
  readonly ends: readonly string[];
}

const blockedKey = (runId: string | null) => `run_blocked:${runId ?? ""}`;
const unreachableKey = (workerId: string | null) => `worker_unreachable:${workerId ?? ""}`;

function changeOf(event: StoredEvent): Change | null {
  switch (event.kind) {
    case ALERT_RAISED:
      return raised(event);
    case ALERT_CLEARED:
      return ended([textOf(event, "key")]);
    case "run.blocked":
      return blocked(event);
    case "run.finished":
      if (event.payload["state"] !== "failed") return ended([blockedKey(event.run_id)]);
      return {
        begins: incident(event, `run_failed:${event.run_id ?? ""}`, "run_failed", {
          title: `run ${event.run_id ?? ""} failed${because(event)}`,
          hint: `orchestrator run show ${event.run_id ?? ""}`,
        }),
        stands: false,
        ends: [blockedKey(event.run_id)],
      };
    case "run.active":
    case "run.launched":
    case "run.delivered":
      return ended([blockedKey(event.run_id), unreachableKey(event.worker_id)]);
    case "run.finishing":
    case "run.cancelling":
    case "run.abandoned":
      return ended([blockedKey(event.run_id)]);
    case "limit.reached":
      return limitReached(event);
    case "limit.lifted":
      return ended([`limit:${textOf(event, "limit_id")}`]);
    case "pool.paused":
      return poolPaused(event);
    case "pool.resumed":
      return ended([`pool:${textOf(event, "pause_id")}`]);
    case "worker.unreachable":
      return {
        begins: unreachable(event, `worker ${textOf(event, "worker")} cannot be reached`),
        stands: true,
        ends: [],
      };
    case "worker.reachable":
    case "worker.destroyed":
      return ended([unreachableKey(event.worker_id)]);
    default:
      return null;
  }
}

const ended = (ends: readonly string[]): Change => ({ begins: null, stands: false, ends });

function raised(event: StoredEvent): Change | null {
  const { key, kind } = event.payload;
  if (typeof key !== "string" || key === "" || key.length > 200) return null;
  const hint = textOf(event, "hint");
  return {
    begins: incident(event, key, isAlertKind(kind) ? kind : "other", {
      title: textOf(event, "title"),
      hint: hint === "" ? null : hint,
    }),
    stands: true,
    ends: [],
  };
}

function limitReached(event: StoredEvent): Change {
  const isMended = ["credential", "billing"].includes(textOf(event, "kind"));
  return {
    begins: incident(
      event,
      `limit:${textOf(event, "limit_id")}`,
      isMended ? "credential" : "limit",
      {
        title: `${textOf(event, "account")}${because(event)}`,
        hint: "orchestrator limit list",
      },
    ),
    stands: true,
    ends: [],
  };
}

/** What the operator did needs no telling. */
function poolPaused(event: StoredEvent): Change | null {
  if (event.payload["cause"] === "operator") return null;
  return {
    begins: incident(event, `pool:${textOf(event, "pause_id")}`, "pool_paused", {
      title: `pool ${event.repo ?? ""} is paused${because(event)}`,
      hint: "orchestrator pool list",
    }),
    stands: true,
    ends: [],
  };
}

/** A run that waits for its worker is the worker's incident, whoever says it first; one that waits for an account is the account's. */
function blocked(event: StoredEvent): Change {
  if (textOf(event, "limit_id") !== "") return ended([blockedKey(event.run_id)]);
  const reason = textOf(event, "reason");
  const isLost = reason.startsWith(UNREACHABLE) && event.worker_id !== null;
  const title = `run ${event.run_id ?? ""} is blocked${because(event)}`;
  if (isLost)
    return { begins: { ...unreachable(event, title), holdMs: 0 }, stands: true, ends: [] };
  const hint = `orchestrator run show ${event.run_id ?? ""}`;
  return {
    begins: incident(event, blockedKey(event.run_id), "run_blocked", { title, hint }),
    stands: true,
    ends: [],
  };
}

function unreachable(event: StoredEvent, title: string): Incident {
  const key = unreachableKey(event.worker_id);
  const found = incident(event, key, "worker_unreachable", { title, hint: "orchestrator status" });
  return { ...found, holdMs: UNREACHABLE_HOLD_MS };
}

function incident(
  event: StoredEvent,
  key: string,
  kind: AlertKind,
  text: { readonly title: string; readonly hint: string | null },
): Incident {
  const worker = textOf(event, "worker");
  return {
    key,
    kind,
    title: cleanText(text.title, 300),
    hint: text.hint,
    repo: event.repo,
    run_id: event.run_id,
    worker: worker === "" ? null : worker,
    seq: event.seq,
    at: event.at,
    holdMs: 0,
  };
}

function because(event: StoredEvent): string {
  const reason = textOf(event, "reason");
  return reason === "" ? "" : `: ${reason}`;
}

function textOf(event: StoredEvent, key: string): string {
  const value = event.payload[key];
  return typeof value === "string" ? cleanText(value, 300) : "";
}
