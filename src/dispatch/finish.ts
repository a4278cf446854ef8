import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import { sessionName } from "../fleet/context.ts";
import { ensureCreated } from "../fleet/create.ts";
import { isGone } from "../fleet/gone.ts";
import { rescue, type Rescued } from "../fleet/rescue.ts";
import { findWorker, moveWorker, type Worker } from "../fleet/workers.ts";
import type { WorkReport } from "../provisioner/provisioner.ts";
import type { Usage } from "../runtimes/runtime.ts";
import type { Transport } from "../transport/transport.ts";
import type { Tx } from "../store/store.ts";
import { TransportError } from "../transport/transport-error.ts";
import type { DispatchContext } from "./context.ts";
import { evidenceOf, findRun, moveRun, type Run } from "./runs.ts";
import { usageOf } from "./usage.ts";

/** How long an unreachable worker is waited for before its run ends as `unrescued` (ms). */
const RESCUE_PATIENCE_MS = 120_000;

export interface RunReport {
  readonly summary: string | null;
  readonly commits: readonly { readonly sha: string; readonly subject: string }[];
  readonly files_changed: number;
  readonly insertions: number;
  readonly deletions: number;
  readonly duration_ms: number | null;
  readonly input_tokens: number | null;
  readonly output_tokens: number | null;
  readonly cache_read_tokens: number | null;
  readonly cache_write_tokens: number | null;
  readonly cost_usd: number | null;
  readonly model: string | null;
  readonly snapshot: string | null;
  readonly pushed: string | null;
  readonly skipped: readonly string[];
}

interface Findings {
  readonly rescued: Rescued | null;
  readonly work: WorkReport | null;
  readonly usage: Usage | null;
  readonly pushed: string | null;
  /** The worker does not exist any more. */
  readonly gone: boolean;
}

const NOTHING: Findings = { rescued: null, work: null, usage: null, pushed: null, gone: false };

/**
 * Ends a run: saves the work into the mirror and proves it, gathers the report, then commits the end together with the worker's release. A
 * worker that cannot be reached is waited for; after that the run ends as `unrescued` and the worker is set aside, never reused.
 */
export async function finish(context: DispatchContext, run: Run): Promise<void> {
  const worker =
    run.worker_id === null ? null : await findWorker(context.fleet.store.db, run.worker_id);
  // A create that was under way is looked up and adopted, so that no machine is left without a row that is responsible for it.
  if (worker?.allocation === "creating") await ensureCreated(context.fleet, worker);
  const findings =
    worker === null || run.launch === 0 ? NOTHING : await gather(context, run, worker);
  if (findings === undefined) return;
  context.fleet.failpoint("before-report");
  await commitEnd(context, run, worker, findings);
  context.fleet.failpoint("after-report");
}

/** Undefined: try again later. */
async function gather(
  context: DispatchContext,
  run: Run,
  worker: Worker,
): Promise<Findings | undefined> {
  try {
    const transport = await context.connections.reach(worker.worker_id);
    const rescued = await rescue(
      context.fleet,
      worker,
      { runId: run.run_id, epoch: run.epoch ?? worker.epoch },
      transport,
    );
    const findings = {
      rescued,
      work: await orNull(context, run, () => workOf(context, run, worker, transport)),
      usage: await orNull(context, run, () => usageOf(context, run, transport)),
      pushed: await pushIfAsked(context, run, transport),
      gone: false,
    };
    await showEnd(context, run, transport);
    return findings;
  } catch (error) {
    if (await isGone(context.fleet, worker)) {
      const reason = "its worker is gone";
      return { ...NOTHING, gone: true, rescued: { kind: "not-rescued", reason, saved: null } };
    }
    const patience = context.fleet.clock.now() - run.updated_at > RESCUE_PATIENCE_MS;
    const lost =
      error instanceof TransportError ||
      (error instanceof OrchestratorError && error.code === "unreachable");
    if (!lost || !patience) throw error;
    return {
      ...NOTHING,
      rescued: { kind: "not-rescued", reason: "the worker cannot be reached", saved: null },
    };
  }
}

/** A part of the report that cannot be had does not keep the run from ending; a cut connection is tried again. */
async function orNull<T>(
  context: DispatchContext,
  run: Run,
  action: () => Promise<T>,
): Promise<T | null> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof OrchestratorError) || error.code !== "internal") throw error;
    const message = cleanText(error.message, 300);
    context.fleet.logger.warn("run.report_lacks", { run_id: run.run_id, error: message });
    return null;
  }
}

async function workOf(
  context: DispatchContext,
  run: Run,
  worker: Worker,
  transport: Transport,
): Promise<WorkReport | null> {
  if (run.base_commit === null) return null;
  return context.fleet.provisioner.report(transport, worker.repo, run.base_commit);
}

/** The window shows the end that the run has, whatever a late look of the guard made of it. */
async function showEnd(context: DispatchContext, run: Run, transport: Transport): Promise<void> {
  if (run.outcome !== "completed") return;
  try {
    await context.fleet.provisioner.nameWindow(
      transport,
      sessionName(run.repo),
      "completed",
      "turn ended",
    );
  } catch (error) {
    // A window that somebody closed shows nothing; the run's end does not depend on it.
    if (!(error instanceof OrchestratorError)) throw error;
  }
}

async function pushIfAsked(
  context: DispatchContext,
  run: Run,
  transport: Transport,
): Promise<string | null> {
  // A repo that was taken out of the configuration is pushed to no more; its runs still end.
  if (
    context.fleet.config().repos[run.repo]?.push !== "branch" ||
    run.branch === null ||
    run.outcome !== "completed"
  )
    return null;
  const pushed = await context.fleet.provisioner.push(transport, run.repo, run.branch);
  return pushed.kind === "pushed" ? pushed.sha : `failed: ${cleanText(pushed.why, 300)}`;
}

function toReport(run: Run, findings: Findings, now: number): RunReport {
  const { rescued, work, usage, pushed } = findings;
  const evidence = evidenceOf(run);
  const saved = rescued?.saved ?? null;
  return {
    summary: evidence.summary,
    commits: (work?.commits ?? [])
      .slice(0, 200)
      .map(({ sha, subject }) => ({ sha, subject: cleanText(subject, 200) })),
    files_changed: work?.files ?? 0,
    insertions: work?.insertions ?? 0,
    deletions: work?.deletions ?? 0,
    duration_ms: run.started_at === null ? null : Math.max(0, now - run.started_at),
    input_tokens: usage?.inputTokens ?? null,
    output_tokens: usage?.outputTokens ?? null,
    cache_read_tokens: usage?.cacheReadTokens ?? null,
    cache_write_tokens: usage?.cacheWriteTokens ?? null,
    cost_usd: evidence.costUsd ?? usage?.costUsd ?? null,
    model: usage?.model ?? null,
    snapshot: rescued?.kind === "rescued" ? rescued.snapshot : null,
    pushed,
    skipped: (saved?.skipped ?? [])
      .slice(0, 100)
      .map(({ why, path }) => `${cleanText(path, 200)}: ${cleanText(why, 100)}`),
  };
}

async function commitEnd(
  context: DispatchContext,
  run: Run,
  worker: Worker | null,
  findings: Findings,
): Promise<void> {
  const outcome = run.outcome ?? "failed";
  const unrescued = findings.rescued?.kind === "not-rescued" ? findings.rescued.reason : null;
  await context.fleet.store.mutate(async (tx) => {
    // What came from the agent while its work was saved, its cost above all, belongs to the report.
    const report = toReport(await findRun(tx.db, run.run_id), findings, tx.now);
    const event =
      outcome === "completed"
        ? "reported_completed"
        : outcome === "cancelled"
          ? "reported_cancelled"
          : "reported_failed";
    await moveRun(tx, run, event, {
      patch: {
        report: JSON.stringify(report),
        head_commit: findings.rescued?.saved?.head ?? null,
        unrescued: unrescued === null ? 0 : 1,
      },
      kind: "run.finished",
      payload: {
        state: outcome,
        reason: run.reason,
        summary: report.summary,
        commits: report.commits.length,
        files_changed: report.files_changed,
        insertions: report.insertions,
        deletions: report.deletions,
        duration_ms: report.duration_ms,
        input_tokens: report.input_tokens,
        output_tokens: report.output_tokens,
        cost_usd: report.cost_usd,
        unrescued: unrescued !== null,
      },
    });
    await refuseWaiting(tx, run);
    if (worker === null) return;
    const now = await findWorker(tx.db, worker.worker_id);
    if (findings.gone) await moveWorker(tx, now, "gone", { provider_state: "gone" });
    else await releaseWorker(tx, run, now, unrescued);
  });
}

/** What waited for a turn that never came was not delivered, and says so. */
async function refuseWaiting(tx: Tx, run: Run): Promise<void> {
  const refused = await tx.db
    .updateTable("messages")
    .set({ receipt: "refused", detail: "the run ended before it could be delivered" })
    .where("run_id", "=", run.run_id)
    .where("launch", "is", null)
    .where("receipt", "=", "queued")
    .returning("seq")
    .execute();
  for (const { seq } of refused) {
    tx.event({
      kind: "run.message_refused",
      repo: run.repo,
      run_id: run.run_id,
      payload: { seq, reason: "the run ended before it could be delivered" },
    });
  }
}

async function releaseWorker(
  tx: Tx,
  run: Run,
  worker: Worker,
  unrescued: string | null,
): Promise<void> {
  const last = { last_run_id: worker.last_run_id };
  if (worker.allocation === "preparing") {
    // Nothing is wrong with it: the fleet's upkeep finishes making it.
    if (run.outcome === "cancelled") return;
    await moveWorker(tx, worker, "step_failed", {
      ...last,
      reason: run.reason ?? "its set-up was not finished",
    });
  } else if (worker.allocation === "claimed") {
    if (unrescued !== null) {
      await moveWorker(tx, worker, "release_unrescued", {
        ...last,
        reason: `unrescued: ${unrescued}`,
      });
    } else if (run.launch === 0 && run.outcome === "failed") {
      await moveWorker(tx, worker, "release_unrescued", {
        ...last,
        reason: run.reason ?? "its set-up failed",
      });
    } else {
      await moveWorker(tx, worker, "release", last);
    }
  }
}
