import { cleanText } from "../domain/text.ts";
import { OrchestratorError } from "../domain/errors.ts";
import { can } from "../domain/transition.ts";
import { RUN_TRANSITIONS } from "../domain/run.ts";
import { parseWindowName, windowStatus } from "../domain/status.ts";
import type { StatusVerdict } from "../domain/status.ts";
import { runtimeOf, sessionName } from "../fleet/context.ts";
import { TransportError } from "../transport/transport-error.ts";
import type { DispatchContext } from "./context.ts";
import { decide, type Decision, type Moment } from "./decide.ts";
import { currentStatus, isNews, noteStatus, type FollowNews } from "./follow.ts";
import { ensureStarted } from "./launch.ts";
import { evidenceOf, findRun, messageOf, moveRun, waitingMessage, type Run } from "./runs.ts";
import { proveOver } from "./prove-over.ts";
import { verifyRun } from "./verify.ts";

const MAX_SCREEN = 4_000;

/** What the supervisor keeps in mind about a run between looks; losing it costs a repeated, idempotent call. */
export interface Attention extends FollowNews {
  /** The launch that is known to have been started. */
  started: number;
  connection: "up" | "down";
  /** Since when the window name disagrees with the derived status (ms), if it does. */
  windowDiffersSince: number | undefined;
}

/** One look at a launched, active or blocked run: starts what must be started, then does what the facts decide. */
export async function attend(
  context: DispatchContext,
  run: Run,
  attention: Attention,
): Promise<void> {
  if (await startIfDue(context, run, attention)) return;
  const { store, clock } = context.fleet;
  const fresh = await findRun(store.db, run.run_id);
  if (fresh.state !== run.state || fresh.launch !== run.launch) return;
  const { connection } = attention;
  const verdict = await currentStatus(store.db, fresh, { now: clock.now(), connection });
  if (isNews(attention, verdict)) {
    await store.mutate((tx) => noteStatus(tx, fresh, attention, connection), { quiet: true });
  }
  const moment = await look(context, fresh, verdict);
  const decision = decide(moment);
  if (decision.kind === "wait") return correctWindow(context, fresh, verdict, attention);
  await act(context, fresh, decision);
}

/** Starts the latest launch when nobody has yet. True when the run was moved. */
async function startIfDue(
  context: DispatchContext,
  run: Run,
  attention: Attention,
): Promise<boolean> {
  if (run.worker_id === null || attention.started === run.launch) return false;
  const message = await messageOf(context.fleet.store.db, run.run_id, run.launch);
  const evidence = evidenceOf(run);
  if (message === undefined || message.receipt !== "queued" || evidence.launch >= run.launch) {
    attention.started = run.launch;
    return false;
  }
  const transport = await context.connections.reach(run.worker_id);
  const result = await ensureStarted(context, run, transport);
  attention.started = run.launch;
  switch (result.kind) {
    case "started":
    case "adopted":
    case "over":
      return false;
    case "revoked":
      await moveToBlocked(context, run, "its launch was revoked on the worker", "unknown");
      return true;
    case "unknown":
      await moveToBlocked(
        context,
        run,
        `whether the agent started is not known: ${cleanText(result.why, 200)}`,
        "unknown",
      );
      return true;
  }
}

async function look(context: DispatchContext, run: Run, verdict: StatusVerdict): Promise<Moment> {
  const { store, clock, config } = context.fleet;
  const message = await messageOf(store.db, run.run_id, run.launch);
  return {
    now: clock.now(),
    state: run.state,
    reason: run.reason,
    verdict,
    evidence: evidenceOf(run),
    launch: run.launch,
    launchedAt: run.launched_at ?? run.updated_at,
    receipt: message?.receipt ?? null,
    followUpWaits: (await waitingMessage(store.db, run.run_id)) !== undefined,
    confirmMs: config().delivery.confirmSeconds * 1_000,
    resumes: runtimeOf(context.fleet, run.runtime).capabilities.resumes,
  };
}

async function act(
  context: DispatchContext,
  run: Run,
  decision: Exclude<Decision, { kind: "wait" }>,
): Promise<void> {
  const { store } = context.fleet;
  switch (decision.kind) {
    case "block":
      return moveToBlocked(context, run, decision.reason, decision.receipt);
    case "active-again":
      await store.mutate((tx) => moveRun(tx, run, "running_again", { patch: { reason: null } }));
      return;
    case "next-message":
      return launchNext(context, run);
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
  await context.fleet.store.mutate((tx) =>
    moveRun(tx, run, outcome === "completed" ? "stopped" : "failed", {
      patch: { outcome, reason },
      payload: { outcome, reason },
    }),
  );
}

/** The next message is a new launch that continues the conversation, once the former process is proven over. */
async function launchNext(context: DispatchContext, run: Run): Promise<void> {
  const over = await proveOver(context, run, { graceMs: 5_000 });
  if (over.kind !== "over") return;
  await context.fleet.store.mutate(async (tx) => {
    const message = await waitingMessage(tx.db, run.run_id);
    if (message === undefined) return;
    await intendFollowUp(tx, run, message.seq);
  });
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

async function moveToBlocked(
  context: DispatchContext,
  run: Run,
  reason: string,
  receipt: Moment["receipt"],
): Promise<void> {
  const screen = await screenOf(context, run);
  const dialog = screen === null ? null : runtimeOf(context.fleet, run.runtime).dialog(screen);
  const shown = dialog !== null && receipt !== null ? `dialog: ${dialog.label}` : reason;
  await context.fleet.store.mutate(async (tx) => {
    if (!can(RUN_TRANSITIONS, run.state, "stuck")) return;
    if (receipt !== null) {
      await tx.db
        .updateTable("messages")
        .set({ receipt, detail: screen })
        .where("run_id", "=", run.run_id)
        .where("launch", "=", run.launch)
        .where("receipt", "!=", "accepted")
        .execute();
    }
    await moveRun(tx, run, "stuck", {
      patch: { reason: shown },
      kind: "run.blocked",
      payload: {
        reason: shown,
        ...(receipt === null ? {} : { receipt }),
        ...(screen === null ? {} : { screen }),
      },
    });
  });
}

/** The agent's screen, cleaned line by line; null when it cannot be had now. */
async function screenOf(context: DispatchContext, run: Run): Promise<string | null> {
  if (run.worker_id === null) return null;
  const transport = await context.connections.kept(run.worker_id);
  if (transport === undefined) return null;
  try {
    const screen = await context.fleet.provisioner.screen(transport, sessionName(run.repo));
    return screen
      .split("\n")
      .map((line) => cleanText(line.replaceAll("\t", "  "), 300))
      .join("\n")
      .trim()
      .slice(0, MAX_SCREEN);
  } catch (error) {
    if (error instanceof OrchestratorError) return null;
    throw error;
  }
}

/** The window name is a view of the status: when it keeps saying something else, it is set right and the disagreement recorded. */
async function correctWindow(
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
  const now = context.fleet.clock.now();
  attention.windowDiffersSince ??= now;
  if (now - attention.windowDiffersSince < 1_000 || run.worker_id === null) return;
  attention.windowDiffersSince = undefined;
  const transport = await context.connections.kept(run.worker_id);
  if (transport === undefined) return;
  try {
    await context.fleet.provisioner.nameWindow(
      transport,
      sessionName(run.repo),
      wanted,
      verdict.reason,
    );
  } catch (error) {
    if (error instanceof TransportError) return;
    throw error;
  }
  await context.fleet.store.mutate(
    async (tx) =>
      tx.event({
        kind: "run.window_corrected",
        repo: run.repo,
        run_id: run.run_id,
        worker_id: run.worker_id ?? undefined,
        payload: { shown: cleanText(shown, 40), wanted: `agent:${wanted}`, reason: verdict.reason },
      }),
    { quiet: true },
  );
}
