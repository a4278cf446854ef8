import type { StatusVerdict } from "../domain/status.ts";
import type { Receipt } from "../domain/message.ts";
import type { RunState } from "../domain/run.ts";
import { isLimit, type FailureCause } from "../domain/failure.ts";
import type { LimitSeen } from "./limited.ts";
import type { Evidence } from "../runtimes/evidence.ts";

/** What the supervisor looks at in one moment of a launched, active or blocked run. */
export interface Moment {
  readonly now: number;
  readonly state: RunState;
  readonly reason: string | null;
  readonly verdict: StatusVerdict;
  readonly evidence: Evidence;
  readonly launch: number;
  readonly launchedAt: number;
  /** Receipt of the message that the latest launch carries. */
  readonly receipt: Receipt | null;
  /** A follow-up waits for the turn to end. */
  readonly followUpWaits: boolean;
  readonly confirmMs: number;
  /** After how long an unreachable worker counts as lost (ms); null: its run waits. */
  readonly lostAfterMs: number | null;
  /** The connection to the worker stands, as far as is known. */
  readonly connected: boolean;
  /** The runtime can continue a conversation; where it cannot, a failed turn is the end. */
  readonly resumes: boolean;
  /** The limit that a blocked run waits for. */
  readonly limit: LimitSeen | null;
  /** What keeps the worker from being reached and does not pass by itself: another host key, a login that is refused. */
  readonly obstacle?: string | null;
}

export type Decision =
  | { readonly kind: "wait" }
  | { readonly kind: "block"; readonly reason: string; readonly receipt: Receipt | null }
  /** The agent met a limit of its account. */
  | { readonly kind: "limited"; readonly cause: FailureCause }
  /** What the run waited for is over: its conversation goes on. */
  | { readonly kind: "resume" }
  | { readonly kind: "active-again" }
  | { readonly kind: "next-message" }
  | {
      readonly kind: "finish";
      readonly outcome: "completed" | "failed";
      readonly reason: string | null;
    }
  /** The agent's process is gone without having shown the prompt: prove it, then fail. */
  | { readonly kind: "prove-never-started" }
  /** The worker counts as lost: the run is given up, and another one takes its task. */
  | { readonly kind: "abandon" };

const WAIT: Decision = { kind: "wait" };

/** How the reason of a run begins that waits for its worker. */
export const UNREACHABLE = "unreachable: ";

/** How long an agent may be unheard before its run says so (ms). */
export const UNREACHABLE_AFTER_MS = 45_000;

/** How long a stopped turn must have kept still before the next message ends its process (ms). */
const AT_REST_AFTER_MS = 3_000;

/** What follows from the facts, by reference/states.md. Pure. */
export function decide(moment: Moment): Decision {
  if (isLost(moment)) return { kind: "abandon" };
  if (moment.receipt !== "accepted" && moment.receipt !== null) return decideUndelivered(moment);
  const { verdict } = moment;
  const cause = limitMet(moment);
  if (cause !== null) return decideLimited(moment, cause);
  switch (verdict.status) {
    case "completed":
      return moment.followUpWaits
        ? { kind: "next-message" }
        : { kind: "finish", outcome: "completed", reason: null };
    case "running":
    case "starting":
      return moment.state === "blocked" ? { kind: "active-again" } : WAIT;
    case "waiting":
    case "interrupted":
      if (moment.followUpWaits) return isAtRest(moment) ? { kind: "next-message" } : WAIT;
      return moment.state === "blocked" ? { kind: "active-again" } : WAIT;
    case "error":
      if (!moment.resumes) return { kind: "finish", outcome: "failed", reason: verdict.reason };
      return block(moment, verdict.reason);
    case "blocked":
      return block(moment, verdict.reason);
    case "stale":
    case "unknown":
      return moment.now - (moment.evidence.lastAt ?? moment.launchedAt) > UNREACHABLE_AFTER_MS
        ? block(moment, `${UNREACHABLE}${moment.obstacle ?? verdict.reason}`)
        : WAIT;
  }
}

/** Only a run that is already said to be blocked, without a word and without a connection for long. */
function isLost(moment: Moment): boolean {
  const { verdict, evidence, lostAfterMs, connected } = moment;
  const isSilent = verdict.status === "stale" || verdict.status === "unknown";
  if (moment.state !== "blocked" || connected || lostAfterMs === null || !isSilent) return false;
  return moment.now - (evidence.lastAt ?? moment.launchedAt) > lostAfterMs;
}

/** The limit that ended the turn of the latest launch, as long as nothing newer is known of the agent. */
function limitMet({ verdict, evidence, launch, resumes }: Moment): FailureCause | null {
  const stands = verdict.status === "blocked" || verdict.status === "error";
  const turn = evidence.launch === launch ? evidence.turn?.value : undefined;
  const cause = turn?.phase === "failed" ? turn.cause : null;
  return stands && resumes && cause != null && isLimit(cause.kind) ? cause : null;
}

function decideLimited(moment: Moment, cause: FailureCause): Decision {
  if (moment.limit === null) {
    // Blocked by a controller, or for a repo, that knows of no account: it is the operator's to resume.
    if (moment.state === "blocked" && moment.reason === cause.label) return WAIT;
    return { kind: "limited", cause };
  }
  if (moment.limit.admits) return { kind: "resume" };
  return block(moment, moment.limit.reason);
}

/** A registry that is slow to say busy must not get the turn ended that it is late for. */
function isAtRest({ now, evidence: { registry, turn } }: Moment): boolean {
  return now - Math.max(registry?.since ?? 0, turn?.since ?? 0) > AT_REST_AFTER_MS;
}

/** The launch is intended, and the agent has not shown that it has the message. */
function decideUndelivered(moment: Moment): Decision {
  const { verdict, evidence } = moment;
  if (verdict.status === "blocked") return block(moment, verdict.reason, "blocked");
  const heard = evidence.launch >= moment.launch;
  if (heard && evidence.process?.value.alive === false) {
    return moment.state === "launched"
      ? { kind: "prove-never-started" }
      : block(moment, verdict.reason, "unknown");
  }
  if (moment.now - moment.launchedAt > moment.confirmMs) {
    return block(moment, `delivery not confirmed: ${verdict.reason}`, "unknown");
  }
  return WAIT;
}

function block(moment: Moment, reason: string, receipt: Receipt | null = null): Decision {
  // Said once: a blocked run is moved again only when there is something new to say.
  if (moment.state === "blocked" && moment.reason === reason) return WAIT;
  return { kind: "block", reason, receipt };
}
