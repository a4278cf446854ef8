import { z } from "zod";

/*
 * What doors show. Names are snake_case and stable; a field is added, never renamed. Times are wall milliseconds; `null` says
 * "not known" or "not yet". Text that came from a worker is cleaned before it gets here.
 */

export const statusView = z.object({
  status: z.enum([
    "starting",
    "waiting",
    "interrupted",
    "running",
    "blocked",
    "completed",
    "error",
    "stale",
    "unknown",
  ]),
  reason: z.string(),
  source: z.enum(["hook", "registry", "process", "tmux", "provider", "controller"]),
  age_ms: z.number(),
  since: z.number(),
  explain: z.array(z.string()),
});

export const stepView = z.object({
  attempt: z.number(),
  step: z.string(),
  state: z.enum(["running", "done", "skipped", "failed"]),
  ms: z.number().nullable(),
  detail: z.string().nullable(),
});

export const messageView = z.object({
  seq: z.number(),
  launch: z.number().nullable().describe("the launch that carries it; null: it waits for its turn"),
  receipt: z.enum(["accepted", "queued", "blocked", "typed_only", "refused", "unknown"]),
  form: z.enum(["exact", "prefixed", "file"]).nullable(),
  bytes: z.number(),
  text: z.string().describe("cut to 2,000 characters"),
  created_at: z.number(),
  confirmed_at: z.number().nullable(),
  detail: z.string().nullable(),
});

export const verifyView = z.object({
  round: z.number(),
  launch: z.number().describe("the launch whose turn was verified"),
  command: z.string(),
  state: z.enum(["running", "passed", "failed"]),
  exit_code: z.number().nullable().describe("124: its time was over"),
  tail: z.array(z.string()),
  message_seq: z.number().nullable().describe("the message that took the failure to the agent"),
  ms: z.number().nullable(),
});

export const reportView = z.object({
  summary: z.string().nullable(),
  commits: z.array(z.object({ sha: z.string(), subject: z.string() })),
  files_changed: z.number(),
  insertions: z.number(),
  deletions: z.number(),
  duration_ms: z.number().nullable(),
  input_tokens: z.number().nullable(),
  output_tokens: z.number().nullable(),
  cache_read_tokens: z.number().nullable(),
  cache_write_tokens: z.number().nullable(),
  cost_usd: z.number().nullable(),
  model: z.string().nullable(),
  snapshot: z
    .string()
    .nullable()
    .describe("ref in the mirror that holds the work, files not committed included"),
  pushed: z.string().nullable(),
  skipped: z.array(z.string()),
});

export const runLimitView = z.object({
  limit_id: z.string(),
  until: z.number().nullable().describe("null: until somebody mends it"),
});

export const runView = z.object({
  run_id: z.string(),
  task_id: z.string(),
  repo: z.string(),
  task: z.string().describe("cut to 200 characters"),
  state: z.enum([
    "queued",
    "driving",
    "launched",
    "active",
    "blocked",
    "cancelling",
    "finishing",
    "completed",
    "failed",
    "cancelled",
    "abandoned",
  ]),
  state_reason: z.string().nullable(),
  limit: runLimitView
    .nullable()
    .default(null)
    .describe("what a blocked run waits for; with a time it goes on by itself"),
  worker: z.string().nullable(),
  reason: z.string().nullable().describe("why this worker, or why none yet"),
  receipt: z
    .enum(["accepted", "queued", "blocked", "typed_only", "refused", "unknown"])
    .describe("of the message that the latest launch carries; what waits behind it has its own"),
  status: statusView.nullable(),
  runtime: z.string(),
  mode: z.string(),
  runtime_session_id: z.string().nullable(),
  attach: z.string().nullable().describe("command that shows the agent's window"),
  branch: z.string().nullable(),
  base_commit: z.string().nullable(),
  head_commit: z.string().nullable(),
  launch: z.number(),
  resumes: z.string().nullable(),
  unrescued: z.boolean(),
  created_at: z.number(),
  started_at: z.number().nullable(),
  finished_at: z.number().nullable(),
});

export const runDetailView = runView.extend({
  steps: z.array(stepView),
  messages: z.array(messageView),
  verify: z.array(verifyView),
  report: reportView.nullable(),
});

export const workerView = z.object({
  worker: z.string(),
  worker_id: z.string(),
  repo: z.string(),
  provider: z.string(),
  provider_state: z.enum(["running", "warm", "cold", "unreachable", "gone"]).nullable(),
  provider_state_age_ms: z.number().nullable(),
  allocation: z.enum([
    "creating",
    "preparing",
    "unready",
    "free",
    "claimed",
    "destroying",
    "destroyed",
  ]),
  reason: z.string().nullable(),
  idle: z.boolean(),
  not_idle_because: z.string().nullable(),
  cordoned: z.boolean(),
  draining: z.boolean(),
  epoch: z.number(),
  run_id: z.string().nullable().describe("the live run, or the last one"),
  status: statusView.nullable(),
  attach: z.string(),
  created_at: z.number(),
});

export const snapshotView = z.object({
  snapshot: z.number().describe("its number, for --snapshot"),
  epoch: z.number(),
  taken_at: z.number(),
  commit: z.string().nullable(),
  refs: z.number(),
  skipped: z.array(z.string()).describe("left out: secrets and large files"),
  unsaved: z.array(z.string()).describe("could not be saved"),
});

export const recoveredView = z.object({
  run_id: z.string(),
  snapshot: z.number(),
  taken_at: z.number(),
  commit: z.string().nullable(),
  folder: z.string().nullable(),
  branch: z.string().nullable(),
  pushed: z.boolean(),
  fetch: z.string().nullable().describe("command that brings the branch into a clone"),
  nested: z.array(z.string()).describe("repositories inside that are in their places again"),
  elsewhere: z.array(z.string()).describe("what has no place in the folder, and its ref"),
});

export const limitView = z.object({
  limit_id: z.string(),
  account: z.string().describe("runtime and where its credential is read from"),
  kind: z.enum(["usage_limit", "rate_limit", "overloaded", "credential", "billing"]),
  state: z
    .enum(["limited", "probing", "lifted"])
    .describe("probing: one run tries whether it is over"),
  reason: z.string(),
  limited_until: z.number().nullable().describe("null: until somebody mends it"),
  check_at: z.number().nullable().describe("when it is looked at next; null: not by time"),
  probe_run: z.string().nullable(),
  hits: z.number().describe("how many times runs met it"),
  waiting: z.array(z.string()).describe("runs that are blocked for it"),
  created_at: z.number(),
  lifted_at: z.number().nullable(),
  lifted_because: z.string().nullable(),
});

export const poolView = z.object({
  pool: z.string(),
  workers: z.number(),
  idle: z.number(),
  queued: z.number(),
  admits: z.boolean().describe("whether a new task of the pool's own runtime could get a worker"),
  closed_because: z.string().nullable(),
  pause: z
    .object({
      pause_id: z.string(),
      cause: z.enum(["setup", "operator"]),
      reason: z.string(),
      since: z.number(),
    })
    .nullable(),
});

export const sentView = runView.extend({
  message: messageView.describe("the message that was sent, with its own receipt"),
});

export const planView = z.object({
  kind: z.enum(["use", "create", "queue", "refuse"]),
  worker: z.string().nullable(),
  reason: z.string(),
  considered: z.array(z.object({ worker: z.string(), verdict: z.string() })),
});

export const eventView = z.object({
  seq: z.number(),
  at: z.number(),
  kind: z.string(),
  repo: z.string().nullable(),
  task_id: z.string().nullable(),
  run_id: z.string().nullable(),
  worker_id: z.string().nullable(),
  payload: z.record(z.string(), z.unknown()),
});

export const logLineView = z.object({
  at: z.number(),
  source: z.enum(["run", "setup", "agent"]),
  text: z.string(),
});

export type LogLineView = z.output<typeof logLineView>;
/** One worker after a check; the fields of a line in the status log (README, "Silent check"). */
export const checkedView = z.object({
  worker: z.string(),
  repo: z.string(),
  window: z.string().nullable().describe("name of the agent's window, after a correction"),
  status: statusView.shape.status.nullable().describe("null: no run yet"),
  source: statusView.shape.source,
  reason: z.string(),
  age_ms: z.number(),
  run_id: z.string().nullable(),
  machine: workerView.shape.provider_state,
  was: z.string().nullable().describe("the window's name before it was corrected"),
  found: z.array(
    z.enum([
      "asleep",
      "corrected",
      "differs",
      "guard_missing",
      "guard_restarted",
      "left_alone",
      "session_missing",
      "unreachable",
      "window_missing",
    ]),
  ),
  changed: z.boolean().describe("the log got a line for it"),
});

export const checkView = z.object({
  workers: z.array(checkedView),
  counts: z.object({
    workers: z.number(),
    read: z.number(),
    asleep: z.number(),
    unreachable: z.number(),
    left_alone: z.number(),
    missing: z.number(),
    changed: z.number(),
    corrected: z.number(),
    repaired: z.number(),
  }),
  ms: z.number(),
  log: z.string().describe("the file that has the lines"),
  log_refused: z.string().nullable().describe("why the configured file is not used"),
});

/** What became of a text for one of a worker's windows. */
export const windowSentView = z.object({
  worker: z.string(),
  window: z.string().describe("id and name of the window, as in '@0 shell'"),
  kind: z.enum(["typed", "message"]).describe("message: confirmed delivery to the agent"),
  run: sentView.nullable().describe("the run that has the message; null when it was typed"),
});

export const historyView = z.object({
  run_id: z.string(),
  state: runView.shape.state,
  reason: z.string().nullable(),
  created_at: z.number(),
  finished_at: z.number().nullable(),
  messages: z.array(messageView),
});

export type CheckView = z.output<typeof checkView>;
export type WindowSentView = z.output<typeof windowSentView>;
export type HistoryView = z.output<typeof historyView>;
export type RunView = z.output<typeof runView>;
export type SentView = z.output<typeof sentView>;
export type MessageView = z.output<typeof messageView>;
export type RunDetailView = z.output<typeof runDetailView>;
export type WorkerView = z.output<typeof workerView>;
export type StatusView = z.output<typeof statusView>;
export type SnapshotView = z.output<typeof snapshotView>;
export type RecoveredView = z.output<typeof recoveredView>;
export type PlanView = z.output<typeof planView>;
export type LimitView = z.output<typeof limitView>;
export type PoolView = z.output<typeof poolView>;
export type EventView = z.output<typeof eventView>;
