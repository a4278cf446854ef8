import { OrchestratorError } from "../domain/errors.ts";
import type { RunId } from "../domain/ids.ts";
import { isTerminal, TERMINAL_RUN_STATES } from "../domain/run.ts";
import { cleanText } from "../domain/text.ts";
import { findRun, type Message, type Run } from "../dispatch/runs.ts";
import { statusOf } from "../dispatch/status.ts";
import { findWorkerByName } from "../fleet/workers.ts";
import { sql } from "../store/sql.ts";
import type { Db } from "../store/store.ts";
import type { Services } from "./services.ts";
import {
  reportView,
  type HistoryView,
  type MessageView,
  type RunDetailView,
  type RunView,
  type SentView,
} from "./views.ts";

const MAX_SHOWN_TEXT = 2_000;

/** Runs, newest first. */
export async function listRuns(
  { store, clock }: Services,
  input: { repo?: string | undefined; live: boolean; limit: number },
): Promise<RunView[]> {
  let query = store.db.selectFrom("runs").selectAll();
  if (input.repo !== undefined) query = query.where("repo", "=", input.repo);
  if (input.live) query = query.where("state", "not in", [...TERMINAL_RUN_STATES]);
  const runs = await query
    .orderBy("created_at", "desc")
    .orderBy("run_id", "desc")
    .limit(input.limit)
    .execute();
  return Promise.all(runs.map((run) => viewRun(store.db, run, clock.now())));
}

export async function showRun(
  { store, clock }: Services,
  input: { run_id: RunId },
): Promise<RunDetailView> {
  return viewRunDetail(store.db, await findRun(store.db, input.run_id), clock.now());
}

/** Resolves when the run is as far as asked: `delivered` (or will not be), `settled` (ended or needs a person), `ended`. */
export async function waitForRun(
  { store, clock }: Services,
  input: {
    run_id: RunId;
    timeout_ms?: number | undefined;
    until: "delivered" | "settled" | "ended";
  },
  signal: AbortSignal,
): Promise<RunDetailView> {
  const timeout = new AbortController();
  const either = AbortSignal.any([signal, timeout.signal]);
  const timer =
    input.timeout_ms === undefined
      ? undefined
      : clock.sleep(input.timeout_ms, either).then(() => timeout.abort(new Error("timed out")));
  timer?.catch(() => {});
  try {
    while (true) {
      const seen = await store.lastSeq();
      const run = await findRun(store.db, input.run_id);
      if (await isThere(store.db, run, input.until))
        return await viewRunDetail(store.db, run, clock.now());
      await store.waitForEvents(seen, either).catch((error: unknown) => {
        if (!timeout.signal.aborted) throw error;
        throw new OrchestratorError(
          "nothing_available",
          `run ${run.run_id} is still ${run.state} after the time given`,
          {
            retryable: true,
            hint: `look at it with 'orchestrator run show ${run.run_id}'`,
          },
        );
      });
    }
  } finally {
    timeout.abort(new Error("no longer waited for"));
  }
}

async function isThere(
  db: Db,
  run: Run,
  until: "delivered" | "settled" | "ended",
): Promise<boolean> {
  if (isTerminal(run.state)) return true;
  if (until === "ended") return false;
  if (run.state === "blocked") return true;
  return until === "delivered" && (await messageInPlay(db, run.run_id))?.receipt === "accepted";
}

/** The message that the latest launch carries, or the first one before any launch: what waits behind it hides nothing of it. */
async function messageInPlay(db: Db, runId: RunId): Promise<Message | undefined> {
  const messages = db.selectFrom("messages").selectAll().where("run_id", "=", runId);
  const carried = await messages
    .where("launch", "is not", null)
    .orderBy("launch", "desc")
    .orderBy("seq", "desc")
    .executeTakeFirst();
  return carried ?? (await messages.orderBy("seq").executeTakeFirst());
}

/** A run and the message that was just given to it. */
export async function viewSent(db: Db, run: Run, seq: number, now: number): Promise<SentView> {
  const message = await db
    .selectFrom("messages")
    .selectAll()
    .where("run_id", "=", run.run_id)
    .where("seq", "=", seq)
    .executeTakeFirstOrThrow();
  return { ...(await viewRun(db, run, now)), message: viewMessage(message) };
}

const viewMessage = (message: Message): MessageView => ({
  seq: message.seq,
  launch: message.launch,
  receipt: message.receipt,
  form: message.form,
  bytes: Buffer.byteLength(message.body),
  text: message.body.slice(0, MAX_SHOWN_TEXT),
  created_at: message.created_at,
  confirmed_at: message.confirmed_at,
  detail: message.detail,
});

export async function viewRun(db: Db, run: Run, now: number): Promise<RunView> {
  const worker =
    run.worker_id === null
      ? undefined
      : await db
          .selectFrom("workers")
          .select(["name", "provider_state", "allocation"])
          .where("worker_id", "=", run.worker_id)
          .executeTakeFirst();
  const task = await db
    .selectFrom("tasks")
    .select(["title"])
    .where("task_id", "=", run.task_id)
    .executeTakeFirst();
  const verdict =
    run.state === "queued"
      ? null
      : statusOf(run, { now, provider: worker?.provider_state ?? null });
  return {
    run_id: run.run_id,
    task_id: run.task_id,
    repo: run.repo,
    task: cleanText(task?.title ?? "", 200),
    state: run.state,
    state_reason: run.reason,
    worker: worker?.name ?? null,
    reason: run.allocation_reason,
    receipt: (await messageInPlay(db, run.run_id))?.receipt ?? "unknown",
    status:
      verdict === null
        ? null
        : {
            status: verdict.status,
            reason: verdict.reason,
            source: verdict.source,
            age_ms: verdict.ageMs,
            since: verdict.sinceMs,
            explain: [...verdict.explain],
          },
    runtime: run.runtime,
    mode: run.mode,
    runtime_session_id: run.runtime_session_id,
    attach:
      worker === undefined || worker.allocation === "destroyed"
        ? null
        : `orchestrator attach ${worker.name}`,
    branch: run.branch,
    base_commit: run.base_commit,
    head_commit: run.head_commit,
    launch: run.launch,
    resumes: run.resumes,
    unrescued: run.unrescued === 1,
    created_at: run.created_at,
    started_at: run.started_at,
    finished_at: run.finished_at,
  };
}

/** Runs of one worker with what was asked of them, newest first. */
export async function workerHistory(
  { store }: Services,
  input: { worker: string; limit: number },
): Promise<HistoryView[]> {
  const { worker_id: workerId } = await findWorkerByName(store.db, input.worker);
  const runs = await store.db
    .selectFrom("runs")
    .selectAll()
    .where("worker_id", "=", workerId)
    .orderBy("created_at", "desc")
    .orderBy("run_id", "desc")
    .limit(input.limit)
    .execute();
  return Promise.all(
    runs.map(async (run) => ({
      run_id: run.run_id,
      state: run.state,
      reason: run.reason,
      created_at: run.created_at,
      finished_at: run.finished_at,
      messages: await viewMessages(store.db, run.run_id),
    })),
  );
}

async function viewMessages(db: Db, runId: RunId): Promise<HistoryView["messages"]> {
  const messages = await db
    .selectFrom("messages")
    .selectAll()
    .where("run_id", "=", runId)
    .orderBy("seq")
    .execute();
  return messages.map(viewMessage);
}

async function viewRunDetail(db: Db, run: Run, now: number): Promise<RunDetailView> {
  const steps = await db
    .selectFrom("steps")
    .selectAll()
    .where("run_id", "=", run.run_id)
    .where("step", "!=", "attempt")
    .orderBy("attempt")
    // As they were begun: those written together have one time.
    .orderBy(sql`rowid`)
    .execute();
  return {
    ...(await viewRun(db, run, now)),
    steps: steps.map((step) => ({
      attempt: step.attempt,
      step: step.step,
      state: step.state,
      ms: step.ended_at === null ? null : Math.max(0, step.ended_at - step.started_at),
      detail: step.detail,
    })),
    messages: await viewMessages(db, run.run_id),
    report: run.report === null ? null : reportView.parse(JSON.parse(run.report)),
  };
}
