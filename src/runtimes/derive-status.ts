import type { TerminalRunState } from "../domain/run.ts";
import { isTerminal } from "../domain/run.ts";
import type { AgentStatus, StatusVerdict } from "../domain/status.ts";
import type { Evidence } from "./evidence.ts";
import { explainReadings } from "./explain.ts";
import { liveStatus } from "./live-status.ts";
import { STALE_AFTER_MS, START_LIMIT_MS } from "./status-context.ts";
import type { Finding, StatusContext } from "./status-context.ts";

/**
 * The agent's status from all that is known, in one place. Pure. Strongest evidence first: the run's end, a worker that is
 * gone, a dead process, then silence (nothing fresh is `stale`, never a guess), then the turn as hooks and registry tell it.
 */
export function deriveStatus(evidence: Evidence, context: StatusContext): StatusVerdict {
  const known = isOfLaunch(evidence, context) ? evidence : null;
  const finding =
    ended(context, evidence) ??
    goneWorker(context, evidence) ??
    (known === null || known.lastAt === null ? unseen(context) : null) ??
    (known === null
      ? null
      : (deadProcess(known) ?? silent(known, context) ?? liveStatus(known, context)));
  return verdict(finding ?? unseen(context), evidence, context);
}

function isOfLaunch(evidence: Evidence, context: StatusContext): boolean {
  return context.launch === undefined || evidence.launch >= context.launch;
}

function verdict(finding: Finding, evidence: Evidence, context: StatusContext): StatusVerdict {
  return {
    status: finding.status,
    reason: finding.reason,
    source: finding.source,
    ageMs: Math.max(0, context.now - finding.at),
    sinceMs: Math.min(finding.since, context.now),
    explain: [
      `rule: ${finding.rule} -> ${finding.status} (${finding.reason})`,
      ...explainReadings(evidence, context),
    ],
  };
}

const ENDS: Readonly<Record<TerminalRunState, AgentStatus>> = {
  completed: "completed",
  failed: "error",
  cancelled: "interrupted",
  abandoned: "unknown",
};

/** A terminal run has its end on record: later readings of its worker belong to somebody else. */
function ended(context: StatusContext, evidence: Evidence): Finding | null {
  if (!isTerminal(context.runState)) return null;
  const at = evidence.lastAt ?? context.launchIntendedAt ?? context.now;
  const status = ENDS[context.runState];
  const reason = `run ${context.runState}`;
  return { rule: "run-ended", status, reason, source: "controller", at, since: at };
}

function goneWorker(context: StatusContext, evidence: Evidence): Finding | null {
  if (context.provider !== "gone") return null;
  const since = evidence.lastAt ?? context.now;
  const rest = { source: "provider", at: context.now, since } as const;
  return { rule: "worker-gone", status: "error", reason: "worker gone", ...rest };
}

/** Nothing was heard of the launch in question. */
function unseen(context: StatusContext): Finding {
  const { launchIntendedAt: at, now } = context;
  const source = "controller";
  if (at === null) {
    const reason = context.runState === "queued" ? "run queued" : "not launched yet";
    return { rule: "not-launched", status: "starting", reason, source, at: now, since: now };
  }
  if (now - at <= START_LIMIT_MS) {
    const reason = "launched, no sign yet";
    return { rule: "just-launched", status: "starting", reason, source, at, since: at };
  }
  const reason = silence(context) ?? "no sign of the agent since its launch";
  return { rule: "never-seen", status: "unknown", reason, source, at, since: at };
}

/** Death does not grow stale. */
function deadProcess(evidence: Evidence): Finding | null {
  const { process, turn } = evidence;
  if (process === null || process.value.alive) return null;
  const { exitCode, signal } = process.value;
  const how =
    signal !== null ? `signal ${signal}` : exitCode !== null ? `exit ${exitCode}` : "gone";
  const found = { source: "process", at: process.at, since: process.since } as const;
  if (turn?.value.phase === "ended" && turn.value.background === 0) {
    const since = turn.since;
    const reason = `turn ended, process ${how}`;
    return { ...found, rule: "over-after-stop", status: "completed", reason, since };
  }
  if (turn?.value.phase === "failed") {
    const reason = `${turn.value.cause?.label ?? turn.value.detail}, process ${how}`;
    return { ...found, rule: "over-after-failure", status: "error", reason };
  }
  const doing =
    turn === null
      ? "before its session began"
      : turn.value.phase === "ended"
        ? "with background work unfinished"
        : "without the end of a turn";
  const reason = `process ${how} ${doing}`;
  return { ...found, rule: "process-dead", status: "error", reason };
}

function silent(evidence: Evidence, context: StatusContext): Finding | null {
  const at = evidence.lastAt ?? 0;
  if (context.now - at <= STALE_AFTER_MS) return null;
  const reason = silence(context) ?? "no pulse from the worker";
  const source = context.provider === undefined ? "controller" : "provider";
  return { rule: "stale", status: "stale", reason, source, at, since: at };
}

/** Why there may be no news, as far as provider and connection tell. */
function silence(context: StatusContext): string | null {
  switch (context.provider) {
    case "warm":
      return "worker asleep (warm)";
    case "cold":
      return "worker asleep (cold): its processes are gone";
    case "unreachable":
      return "worker unreachable";
    default:
      return context.connection === "down" ? "no connection to the worker" : null;
  }
}
