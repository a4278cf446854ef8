import { cleanText } from "../domain/text.ts";
import { OrchestratorError } from "../domain/errors.ts";
import { parseWindowName, windowStatus } from "../domain/status.ts";
import type { StatusVerdict } from "../domain/status.ts";
import { runtimeOf, sessionName } from "../fleet/context.ts";
import type { OpenStart } from "../provisioner/provisioner.ts";
import { whyFull } from "../fleet/disk.ts";
import { findWorker } from "../fleet/workers.ts";
import type { Transport } from "../transport/transport.ts";
import { nudgeToCommit } from "./commit-rule.ts";
import type { DispatchContext } from "./context.ts";
import { decide, type Decision, type Moment } from "./decide.ts";
import { currentStatus, isNews, noteStatus, type FollowNews } from "./follow.ts";
import { ensureStarted } from "./launch.ts";
import { lookAtStart, moveToBlocked } from "./blocked.ts";
import { evidenceOf, findRun, messageOf, moveRun, waitingMessage, type Run } from "./runs.ts";
import { proveOver } from "./prove-over.ts";
import { abandonLost, lostAfterMs } from "./replace.ts";
import { prepareRelaunch } from "./relaunch.ts";
import { verifyRun } from "./verify.ts";
import { correctWindow } from "./window.ts";

/** How long the events of a worker that answers again may take to arrive (ms). */
const CATCH_UP_MS = 5_000;

/** What the supervisor keeps in mind about a run between looks; losing it costs a repeated, idempotent call. */
export interface Attention extends FollowNews {
  /** The start of the first launch, which waits on the worker for its files. */
  ahead: OpenStart | undefined;
  /** The launch that is known to have been started. */
  started: number;
  connection: "up" | "down";
  /** Since when the events are followed over this connection (monotonic ms); undefined: not yet. */
  followedSince: number | undefined;
  /** What the run was blocked for last, in the words of the facts: said once. */
  blockedFor: string | undefined;
  /** Since when the window name disagrees with the derived status (monotonic ms), if it does. */
  windowDiffersSince: number | undefined;
  /** The agent works, and only its silence could change anything: whatever it says ends the wait for the next look. */
  calm: boolean;
  /** Uptime of the reading that was corrected last: only another one can disagree again. */
  windowCorrectedUp: number | undefined;
}

/** One look at a launched, active or blocked run: starts what must be started, then does what the facts decide. */
export async function attend(
  context: DispatchContext,
  run: Run,
  attention: Attention,
  signal: AbortSignal,
): Promise<void> {
  if (attention.quiet || (await startIfDue(context, run, attention, signal))) return;
  const { store, clock } = context.fleet;
  await lookAtStart(context, run);
  const fresh = await findRun(store.db, run.run_id);
  if (fresh.state !== run.state || fresh.launch !== run.launch) return;
  const { connection } = attention;
  const verdict = await currentStatus(store.db, fresh, { now: clock.now(), connection });
  if (isNews(attention, verdict)) {
    // As it is now: the follower may have stored more since.
    await store.mutate(
      async (tx) => noteStatus(tx, await findRun(tx.db, run.run_id), attention, connection),
      { quiet: true },
    );
  }
  const moment = await look(context, fresh, verdict, connection);
  const decision = decide(moment);
  const isSaid =
    decision.kind === "block" &&
    fresh.state === "blocked" &&
    attention.blockedFor === decision.reason;
  if (decision.kind === "wait" || isSaid) {
    await watchWindow(context, fresh, verdict, attention);
    attention.calm =
      fresh.state === "active" &&
      moment.receipt === "accepted" &&
      verdict.status === "running" &&
      connection === "up" &&
      attention.windowDiffersSince === undefined;
    return;
  }
  const isSilent = verdict.status === "stale";
  if (isSilent && isCatchingUp(attention, clock.monotonic())) return;
  const explained = await explainSilence(context, moment, fresh, decision);
  if (isSilent && (await isHeardAgain(context, fresh, attention))) return;
  attention.blockedFor = decision.kind === "block" ? decision.reason : undefined;
  await act(context, fresh, explained, attention);
}

/** While the worker was asked about a silence, more may have been heard, or may be about to. */
async function isHeardAgain(
  context: DispatchContext,
  looked: Run,
  attention: Attention,
): Promise<boolean> {
  const { store, clock } = context.fleet;
  const now = await findRun(store.db, looked.run_id);
  return (
    evidenceOf(now).lastAt !== evidenceOf(looked).lastAt ||
    isCatchingUp(attention, clock.monotonic())
  );
}

/** What happened while nobody listened is still being read: an agent's silence so far says nothing. */
function isCatchingUp({ connection, followedSince }: Attention, now: number): boolean {
  if (connection === "down") return false;
  return followedSince === undefined || now - followedSince < CATCH_UP_MS;
}

/** A worker that answers is not unreachable: when only its agent is silent, what it says of the agent's process counts. */
async function explainSilence(
  context: DispatchContext,
  moment: Moment,
  run: Run,
  decision: Exclude<Decision, { kind: "wait" }>,
): Promise<Exclude<Decision, { kind: "wait" }>> {
  const isSilent = moment.verdict.status === "stale";
  if (decision.kind !== "block" || run.worker_id === null) return decision;
  if (!isSilent && decision.receipt !== "unknown") return decision;
  const transport = await context.connections.kept(run.worker_id);
  if (transport === undefined) return decision;
  const full = await fullDisk(context, run, transport);
  if (full !== null) return { ...decision, reason: `${full}: ${decision.reason}` };
  if (!isSilent) return decision;
  try {
    const { agent } = await context.fleet.provisioner.probe(transport, sessionName(run.repo), {
      run: run.run_id,
      launch: run.launch,
    });
    if (agent === null) return decision;
    if (agent.alive) {
      return { ...decision, reason: "no pulse from the worker's guard; the agent's process lives" };
    }
    const reason = "the agent's process is dead, and nobody saw it end";
    return moment.resumes ? { ...decision, reason } : { kind: "finish", outcome: "failed", reason };
  } catch (error) {
    if (error instanceof OrchestratorError) return decision;
    throw error;
  }
}

/** A full disk takes the agent's words away, and those of the worker's scripts. */
async function fullDisk(
  context: DispatchContext,
  run: Run,
  transport: Transport,
): Promise<string | null> {
  if (run.worker_id === null) return null;
  return whyFull(transport, (await findWorker(context.fleet.store.db, run.worker_id)).name);
}

/** Starts the latest launch when nobody has yet. True when the run was moved. */
async function startIfDue(
  context: DispatchContext,
  run: Run,
  attention: Attention,
  signal: AbortSignal,
): Promise<boolean> {
  if (run.worker_id === null || attention.started === run.launch) return false;
  const message = await messageOf(context.fleet.store.db, run.run_id, run.launch);
  const evidence = evidenceOf(run);
  if (message === undefined || message.receipt !== "queued" || evidence.launch >= run.launch) {
    attention.started = run.launch;
    return false;
  }
  const transport = await context.connections.reach(run.worker_id);
  let result;
  try {
    const unready =
      run.launch === 1 ? null : await prepareRelaunch(context, run, transport, signal);
    result =
      unready === null
        ? await ensureStarted(context, run, transport, takeAhead(attention))
        : ({ kind: "unready", why: unready } as const);
  } catch (error) {
    // What a repetition cannot mend is for a person; the rest is tried again.
    if (!(error instanceof OrchestratorError) || error.retryable) throw error;
    if (error.code === "lease_stale" || error.code === "unreachable") throw error;
    result = { kind: "unready", why: error.message } as const;
  }
  attention.started = run.launch;
  switch (result.kind) {
    case "started":
    case "adopted":
    case "over":
      return false;
    case "unready": {
      const why = `not started again: ${cleanText(result.why, 300)}`;
      const full = await fullDisk(context, run, transport);
      await moveToBlocked(context, run, full === null ? why : `${full}: ${why}`, "unknown");
      return true;
    }
    case "revoked":
      await moveToBlocked(context, run, "its launch was revoked on the worker", "unknown");
      return true;
    case "unknown": {
      const why = `whether the agent started is not known: ${cleanText(result.why, 200)}`;
      const full = await fullDisk(context, run, transport);
      await moveToBlocked(context, run, full === null ? why : `${full}: ${why}`, "unknown");
      return true;
    }
  }
}

/** Once only: whatever becomes of it, a second call begins anew. */
function takeAhead(attention: Attention): OpenStart | undefined {
  const { ahead } = attention;
  attention.ahead = undefined;
  return ahead;
}

async function look(
  context: DispatchContext,
  run: Run,
  verdict: StatusVerdict,
  connection: "up" | "down",
): Promise<Moment> {
  const { store, clock, config } = context.fleet;
  const message = await messageOf(store.db, run.run_id, run.launch);
  return {
    now: clock.now(),
    state: run.state,
    reason: run.reason,
    verdict,
    evidence: evidenceOf(run),
    launch: run.launch,
    // A text pasted into the live window is as young as its row.
    launchedAt: Math.max(run.launched_at ?? run.updated_at, message?.created_at ?? 0),
    receipt: message?.receipt ?? null,
    followUpWaits: (await waitingMessage(store.db, run.run_id)) !== undefined,
    lostAfterMs: await lostAfterMs(context, run),
    connected: connection === "up",
    confirmMs: config().delivery.confirmSeconds * 1_000,
    resumes: runtimeOf(context.fleet, run.runtime).capabilities.resumes,
  };
}

async function act(
  context: DispatchContext,
  run: Run,
  decision: Exclude<Decision, { kind: "wait" }>,
  attention: Attention,
): Promise<void> {
  const { store } = context.fleet;
  switch (decision.kind) {
    case "block":
      return moveToBlocked(context, run, decision.reason, decision.receipt);
    case "abandon":
      return abandonLost(context, run);
    case "active-again":
      await store.mutate((tx) => moveRun(tx, run, "running_again", { patch: { reason: null } }));
      return;
    case "next-message":
      return launchNext(context, run, attention);
    case "prove-never-started": {
      const over = await proveOver(context, run, { graceMs: 0 });
      if (over.kind === "over") {
        const reason = `never_started: ${cleanText(over.why, 200)}`;
        await store.mutate((tx) =>
          moveRun(tx, run, "failed", {
            patch: { outcome: "failed", reason },
            payload: { outcome: "failed", reason },
          }),
        );
      }
      return;
    }
    case "finish":
      if (decision.outcome === "completed" && (await nudgeToCommit(context, run))) return;
      return finishTurn(context, run, decision);
  }
}

/** The turn is over: what counts as completed must pass the repo's `verify` first. */
async function finishTurn(
  context: DispatchContext,
  run: Run,
  decision: Extract<Decision, { kind: "finish" }>,
): Promise<void> {
  const unverified = decision.outcome === "completed" ? await verifyRun(context, run) : null;
  const outcome = unverified === null ? decision.outcome : "failed";
  const reason = unverified ?? decision.reason;
  context.fleet.failpoint("before-finish");
  await context.fleet.store.mutate(async (tx) => {
    // A follow-up that came while the work was verified is not left behind: it is the next turn.
    if (outcome === "completed" && (await waitingMessage(tx.db, run.run_id)) !== undefined) return;
    await moveRun(tx, run, outcome === "completed" ? "stopped" : "failed", {
      patch: { outcome, reason },
      payload: { outcome, reason },
    });
  });
}

/** The next message is a new launch that continues the conversation, once the former process is proven over. */
async function launchNext(context: DispatchContext, run: Run, attention: Attention): Promise<void> {
  attention.quiet = true;
  try {
    const over = await proveOver(context, run, { graceMs: 5_000 });
    if (over.kind !== "over") return;
    await context.fleet.store.mutate(async (tx) => {
      const message = await waitingMessage(tx.db, run.run_id);
      if (message === undefined) return;
      await intendFollowUp(tx, run, message.seq);
    });
  } finally {
    attention.quiet = false;
  }
}

/** Commits the intent to launch again with this message; the state is as the table says (`active` stays, `blocked` resumes). */
export async function intendFollowUp(
  tx: Parameters<typeof moveRun>[0],
  run: Run,
  seq: number,
): Promise<Run> {
  const launch = run.launch + 1;
  await tx.db
    .updateTable("messages")
    .set({ launch })
    .where("run_id", "=", run.run_id)
    .where("seq", "=", seq)
    .execute();
  const event = run.state === "blocked" ? "resumed" : "launch_intended";
  return moveRun(tx, run, event, {
    patch: { launch, launched_at: tx.now, reason: null },
    kind: "run.launched",
    payload: { launch, seq, runtime_session_id: run.runtime_session_id },
  });
}

/** The window name is a view of the status: when it keeps saying something else, it is set right and the disagreement recorded. */
async function watchWindow(
  context: DispatchContext,
  run: Run,
  verdict: StatusVerdict,
  attention: Attention,
): Promise<void> {
  const evidence = evidenceOf(run);
  const wanted = windowStatus(verdict.status);
  const shown = evidence.tmux?.value.windowName ?? null;
  const settled = evidence.tmux !== null && evidence.tmux.up > (evidence.turn?.up ?? 0);
  if (wanted === undefined || shown === null || !settled || parseWindowName(shown) === wanted) {
    attention.windowDiffersSince = undefined;
    return;
  }
  const now = context.fleet.clock.monotonic();
  const readAt = evidence.tmux?.up ?? 0;
  if (readAt === attention.windowCorrectedUp) return;
  attention.windowDiffersSince ??= now;
  if (now - attention.windowDiffersSince < 1_000 || run.worker_id === null) return;
  attention.windowDiffersSince = undefined;
  attention.windowCorrectedUp = readAt;
  const transport = await context.connections.kept(run.worker_id);
  if (transport !== undefined) await correctWindow(context, transport, { run, shown, verdict });
}
