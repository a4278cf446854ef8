import { OrchestratorError } from "../domain/errors.ts";
import { isTerminal } from "../domain/run.ts";
import { isLost } from "../operations/client.ts";
import type { EventView, RunDetailView, RunView } from "../operations/views.ts";
import type { Context } from "./context.ts";
import type { Session } from "./session.ts";
import { asEvent, asRunDetail } from "./views.ts";

/** How long a run that went back to the queue is watched for another worker (ms). */
const REQUEUED_MS = 5_000;
const TRIES = 5;

export interface Following {
  readonly runId: string;
  /** Only events after this place are shown. */
  readonly after: number;
  /** `delivered`: until the agent has the message; both also end when the run ends or needs a person. */
  readonly until: "delivered" | "ended";
  /** Number of the message; default: the one that the run's latest launch carries. */
  readonly message?: number | undefined;
  readonly signal: AbortSignal;
  show(event: EventView): void;
}

/**
 * Shows a run's events as they happen; resolves with the run as it then is, or undefined when the signal came first. A
 * lost controller is found again, or started, and the events go on where they were.
 */
export async function followRun(
  context: Context,
  session: Session,
  following: Following,
): Promise<RunDetailView | undefined> {
  let { after } = following;
  let tries = 0;
  while (!following.signal.aborted) {
    const patience = new AbortController();
    const either = AbortSignal.any([following.signal, patience.signal]);
    let requeued: AbortController | undefined;
    try {
      const events = session.stream("events.follow", { after, run_id: following.runId }, either);
      for await (const item of events) {
        const event = asEvent(item);
        tries = 0;
        after = event.seq;
        requeued?.abort();
        following.show(event);
        if (mayBeOver(event, following.until)) {
          const run = await show(session, following.runId);
          if (isOver(run, following)) return run;
        }
        if (event.kind === "run.requeued" && following.until === "delivered") {
          requeued = new AbortController();
          context
            .clock()
            .sleep(REQUEUED_MS, requeued.signal)
            .then(() => patience.abort())
            .catch(() => {});
        }
      }
    } catch (error) {
      if (following.signal.aborted) return undefined;
      if (patience.signal.aborted) return show(session, following.runId);
      tries += 1;
      if (!isLost(error) || tries >= TRIES) throw error;
    } finally {
      requeued?.abort();
    }
  }
  return undefined;
}

const show = async (session: Session, runId: string): Promise<RunDetailView> =>
  asRunDetail(await session.call("run.show", { run_id: runId }, { repeatable: true }));

/** Kinds after which it is worth looking at the run: an event may be old news, the run itself never is. */
function mayBeOver(event: EventView, until: Following["until"]): boolean {
  switch (event.kind) {
    case "run.delivered":
      return until === "delivered";
    case "run.blocked":
    case "run.finished":
    case "run.completed":
    case "run.failed":
    case "run.cancelled":
    case "run.abandoned":
      return true;
    default:
      return false;
  }
}

function isOver(run: RunDetailView, { until, message }: Following): boolean {
  if (isTerminal(run.state) || run.state === "blocked") return true;
  return until === "delivered" && receiptOf(run, message) === "accepted";
}

/** Receipt of one message of a run; without a number: of the one that its latest launch carries. */
export function receiptOf(run: RunDetailView, message: number | undefined): RunView["receipt"] {
  return run.messages.find(({ seq }) => seq === message)?.receipt ?? run.receipt;
}

export type Outcome = "delivered" | "queued" | "blocked" | "unconfirmed" | "ended";

/** How far the task of a run came, or one message of it, and the error to end with, if any. Pure. */
export function judge(
  run: RunDetailView,
  message?: number,
): {
  readonly outcome: Outcome;
  readonly error: OrchestratorError | undefined;
} {
  const receipt = receiptOf(run, message);
  if (message !== undefined && receipt === "refused") {
    return { outcome: "ended", error: refused(run) };
  }
  if (isTerminal(run.state)) {
    return { outcome: "ended", error: run.state === "completed" ? undefined : failed(run) };
  }
  if (run.state === "blocked") {
    const unconfirmed = run.receipt === "unknown" || run.receipt === "typed_only";
    return unconfirmed
      ? { outcome: "unconfirmed", error: unconfirmedDelivery(run) }
      : { outcome: "blocked", error: blocked(run) };
  }
  return { outcome: receipt === "accepted" ? "delivered" : "queued", error: undefined };
}

/** The run ended while the message waited for its turn. */
export function refused(run: RunView): OrchestratorError {
  return new OrchestratorError(
    "not_claimable",
    `the message was not delivered: run ${run.run_id} ended before its turn came`,
    {
      hint: "send it again: it then continues the conversation in a new run",
      details: { run_id: run.run_id },
    },
  );
}

function failed(run: RunDetailView): OrchestratorError {
  return new OrchestratorError(
    "run_failed",
    `run ${run.run_id} ${run.state === "failed" ? "failed" : `was ${run.state}`}${because(run)}`,
    {
      hint: `'orchestrator run logs ${run.run_id}' shows what happened`,
      details: { run_id: run.run_id, state: run.state },
    },
  );
}

function blocked(run: RunDetailView): OrchestratorError {
  const attach = run.attach === null ? "" : `look with '${run.attach}', then `;
  return new OrchestratorError("needs_person", `run ${run.run_id} is blocked${because(run)}`, {
    hint: `${attach}go on with 'orchestrator run resume ${run.run_id}'`,
    details: { run_id: run.run_id, receipt: run.receipt },
  });
}

function unconfirmedDelivery(run: RunDetailView): OrchestratorError {
  return new OrchestratorError(
    "delivery_unconfirmed",
    `nothing proves that the agent of run ${run.run_id} has the task${because(run)}`,
    {
      hint: `'orchestrator status ${run.run_id} --explain' shows what is known; it is not sent a second time by itself`,
      details: { run_id: run.run_id, receipt: run.receipt },
    },
  );
}

const because = (run: RunDetailView): string =>
  run.state_reason === null ? "" : `: ${run.state_reason}`;
