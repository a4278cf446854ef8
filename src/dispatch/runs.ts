import type { Selectable } from "kysely";
import { OrchestratorError } from "../domain/errors.ts";
import type { RunId, WorkerId } from "../domain/ids.ts";
import { can, next } from "../domain/transition.ts";
import { isTerminal, RUN_TRANSITIONS, TERMINAL_RUN_STATES, type RunEvent } from "../domain/run.ts";
import { TASK_TRANSITIONS, type TaskEvent } from "../domain/task.ts";
import { NO_EVIDENCE, type Evidence } from "../runtimes/evidence.ts";
import type { MessagesTable, RunsTable } from "../store/schema.ts";
import type { Db, Tx } from "../store/store.ts";

export type Run = Readonly<Selectable<RunsTable>>;
export type Message = Readonly<Selectable<MessagesTable>>;

/** A run by its id; `latest` is the newest one. */
export async function findRun(db: Db, runId: string): Promise<Run> {
  const all = db.selectFrom("runs").selectAll();
  const row = await (
    runId === "latest"
      ? all.orderBy("created_at", "desc").orderBy("run_id", "desc")
      : all.where("run_id", "=", runId as RunId)
  ).executeTakeFirst();
  if (row !== undefined) return row;
  throw new OrchestratorError("not_found", `there is no run ${runId}`, {
    hint: "'orchestrator run list' shows the runs",
  });
}

/** Runs that have not ended, oldest first. */
export async function liveRuns(db: Db): Promise<Run[]> {
  return db
    .selectFrom("runs")
    .selectAll()
    .where("state", "not in", [...TERMINAL_RUN_STATES])
    .orderBy("created_at")
    .orderBy("run_id")
    .execute();
}

/** The run that has this worker now. */
export async function liveRunOf(db: Db, workerId: WorkerId): Promise<Run | undefined> {
  return db
    .selectFrom("runs")
    .selectAll()
    .where("worker_id", "=", workerId)
    .where("state", "not in", [...TERMINAL_RUN_STATES])
    .executeTakeFirst();
}

/** The message a launch carries, or the newest one. */
export async function messageOf(
  db: Db,
  runId: RunId,
  launch: number,
): Promise<Message | undefined> {
  return db
    .selectFrom("messages")
    .selectAll()
    .where("run_id", "=", runId)
    .where("launch", "=", launch)
    .orderBy("seq", "desc")
    .executeTakeFirst();
}

/** The oldest message that no launch carries yet. */
export async function waitingMessage(db: Db, runId: RunId): Promise<Message | undefined> {
  return db
    .selectFrom("messages")
    .selectAll()
    .where("run_id", "=", runId)
    .where("launch", "is", null)
    .where("receipt", "=", "queued")
    .orderBy("seq")
    .executeTakeFirst();
}

export function evidenceOf(run: Run): Evidence {
  // What was stored by an older version lacks what came since.
  const stored = run.evidence === null ? {} : (JSON.parse(run.evidence) as Partial<Evidence>);
  return { ...NO_EVIDENCE, ...stored };
}

export interface MoveOptions {
  /** Sets columns in the same row. */
  readonly patch?: Partial<Omit<Run, "run_id" | "state">>;
  /** The event's kind and payload; without it the kind is `run.<new state>`. */
  readonly kind?: string;
  readonly payload?: Readonly<Record<string, unknown>>;
}

/**
 * Moves a run along its table in this transaction, with its event, and its task with it. The row must still be in the state (and at the
 * epoch) that `run` shows: otherwise nothing changes and `lease_stale` is thrown.
 */
export async function moveRun(
  tx: Tx,
  run: Run,
  event: RunEvent,
  options: MoveOptions = {},
): Promise<Run> {
  const state = next("run", RUN_TRANSITIONS, run.state, event);
  const ends = isTerminal(state) ? { finished_at: tx.now } : {};
  let update = tx.db
    .updateTable("runs")
    .set({ ...options.patch, ...ends, state, updated_at: tx.now })
    .where("run_id", "=", run.run_id)
    .where("state", "=", run.state);
  update =
    run.epoch === null ? update.where("epoch", "is", null) : update.where("epoch", "=", run.epoch);
  const moved = await update.returningAll().executeTakeFirst();
  if (moved === undefined) {
    throw new OrchestratorError("lease_stale", `run ${run.run_id} is no longer ${run.state}`, {
      retryable: true,
    });
  }
  tx.event({
    kind: options.kind ?? `run.${state}`,
    repo: run.repo,
    run_id: run.run_id,
    task_id: run.task_id,
    worker_id: moved.worker_id ?? undefined,
    payload: options.payload ?? (moved.reason === null ? {} : { reason: moved.reason }),
  });
  await moveTaskWith(tx, run, moved);
  return moved;
}

/** The task follows its run where the tables say so. */
async function moveTaskWith(tx: Tx, before: Run, after: Run): Promise<void> {
  const task = await tx.db
    .selectFrom("tasks")
    .select(["state", "attempts", "max_attempts", "review"])
    .where("task_id", "=", after.task_id)
    .executeTakeFirst();
  if (task === undefined) return;
  const event = taskEvent(before, after, task);
  if (event === undefined || !can(TASK_TRANSITIONS, task.state, event)) return;
  const state = next("task", TASK_TRANSITIONS, task.state, event);
  await tx.db
    .updateTable("tasks")
    .set({
      state,
      reason: after.reason,
      attempts: event === "claim" ? task.attempts + 1 : task.attempts,
      updated_at: tx.now,
    })
    .where("task_id", "=", after.task_id)
    .execute();
  tx.event({
    kind: `task.${state}`,
    repo: after.repo,
    task_id: after.task_id,
    run_id: after.run_id,
    payload: { because: event },
  });
}

function taskEvent(
  before: Run,
  after: Run,
  task: { attempts: number; max_attempts: number; review: "none" | "wanted" },
): TaskEvent | undefined {
  if (before.state === after.state) return undefined;
  switch (after.state) {
    case "driving":
      return "claim";
    case "queued":
      return "lease_ended";
    case "blocked":
      return "run_blocked";
    case "active":
      return "run_active";
    case "completed":
      return task.review === "wanted" ? "request_review" : "finish";
    case "failed":
    case "abandoned":
      return task.attempts >= task.max_attempts ? "attempts_exhausted" : "attempt_failed";
    case "cancelled":
      return "cancel";
    case "launched":
    case "cancelling":
    case "finishing":
      return undefined;
  }
}
