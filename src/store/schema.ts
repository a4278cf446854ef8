import type { Generated } from "kysely";
import type { LimitKind } from "../domain/failure.ts";
import type { RunId, TaskId, WorkerId } from "../domain/ids.ts";
import type { MessageForm, Receipt } from "../domain/message.ts";
import type { RunState, TerminalRunState } from "../domain/run.ts";
import type { TaskState } from "../domain/task.ts";
import type { Allocation, ProviderState } from "../domain/worker.ts";

/** The tables, as Kysely reads them. JSON columns are text; times are wall milliseconds; flags are 0 or 1. */
export interface Schema {
  meta: { key: string; value: string };
  events: EventsTable;
  cursors: { name: string; seq: number; updated_at: number };
  requests: RequestsTable;
  tasks: TasksTable;
  workers: WorkersTable;
  runs: RunsTable;
  steps: StepsTable;
  messages: MessagesTable;
  verify_rounds: VerifyRoundsTable;
  limits: LimitsTable;
  setup_failures: SetupFailuresTable;
  pool_pauses: PoolPausesTable;
}

export interface EventsTable {
  seq: Generated<number>;
  at: number;
  kind: string;
  repo: string | null;
  task_id: TaskId | null;
  run_id: RunId | null;
  worker_id: WorkerId | null;
  /** JSON object. */
  payload: string;
  prev_hash: string;
  hash: string;
}

export interface RequestsTable {
  request_id: string;
  operation: string;
  body_hash: string;
  /** JSON of the answer. */
  response: string;
  at: number;
}

export interface TasksTable {
  task_id: TaskId;
  repo: string;
  title: string;
  body: string;
  state: TaskState;
  reason: string | null;
  review: "none" | "wanted";
  attempts: number;
  max_attempts: number;
  cancel_requested: number;
  created_at: number;
  updated_at: number;
}

export interface WorkersTable {
  worker_id: WorkerId;
  repo: string;
  number: number;
  name: string;
  provider: string;
  /** The provider's own id; null until a create is answered or adopted. */
  provider_id: string | null;
  /** Written as label at creation: how a create whose answer was lost is found again. */
  nonce: string;
  allocation: Allocation;
  reason: string | null;
  cordoned: number;
  draining: number;
  /** Rises with every claim; fenced on the worker. */
  epoch: number;
  provider_state: ProviderState | null;
  provider_state_at: number | null;
  /** JSON of the provider's address; null until known. */
  address: string | null;
  /** SSH host key pinned at first bootstrap: `SHA256:...`. */
  host_key: string | null;
  boot_id: string | null;
  /** Until this wall time the worker is not idle, and why (an operator attached, a foreign turn). */
  busy_until: number | null;
  busy_reason: string | null;
  /** Fingerprint of the clone when its content was last proven saved in the mirror. */
  saved_fingerprint: string | null;
  last_run_id: RunId | null;
  created_at: number;
  updated_at: number;
}

export interface RunsTable {
  run_id: RunId;
  task_id: TaskId;
  repo: string;
  state: RunState;
  reason: string | null;
  /** The coming end while `finishing`, and why. */
  outcome: TerminalRunState | null;
  worker_id: WorkerId | null;
  epoch: number | null;
  /** Why this worker (or why none): one line for people. */
  allocation_reason: string | null;
  wanted_worker: string | null;
  runtime: string;
  mode: string;
  runtime_session_id: string | null;
  resumes: RunId | null;
  /** Number of the latest intended launch; 0 before the first. */
  launch: number;
  /** When the latest launch was intended. */
  launched_at: number | null;
  branch: string | null;
  base_commit: string | null;
  /** JSON of where the run lives on its worker (home, clone, uid, boot id), once prepared. */
  place: string | null;
  head_commit: string | null;
  /** JSON of runtimes' Evidence. */
  evidence: string | null;
  /** Where the follower stands in events.jsonl: inode and byte offset; stored with the evidence. */
  follow_generation: string | null;
  follow_offset: number;
  /** JSON of the report once finished. */
  report: string | null;
  unrescued: number;
  request_id: string | null;
  /** JSON of what the caller asked for. */
  request: string;
  created_at: number;
  updated_at: number;
  started_at: number | null;
  finished_at: number | null;
  /** Not before this wall time (back-off of a queued or failing run). */
  not_before: number | null;
  /** The limit that a blocked run waits for. */
  limit_id: string | null;
  /** Keyed digest of the secret that its latest launch was given. */
  secret_digest: string | null;
}

export interface StepsTable {
  run_id: RunId;
  /** Counts the tries of bringing the run to its launch. */
  attempt: number;
  step: string;
  state: "running" | "done" | "skipped" | "failed";
  exit_code: number | null;
  detail: string | null;
  started_at: number;
  ended_at: number | null;
}

export interface MessagesTable {
  run_id: RunId;
  seq: number;
  /** The text as asked for. */
  body: string;
  /** SHA-256 (hex) and length of the bytes put into the agent's hands. */
  sent_hash: string | null;
  sent_bytes: number | null;
  form: MessageForm | null;
  launch: number | null;
  receipt: Receipt;
  /** For `blocked`: the screen, cleaned. */
  detail: string | null;
  created_at: number;
  confirmed_at: number | null;
}

export interface VerifyRoundsTable {
  run_id: RunId;
  round: number;
  /** The launch whose turn was verified. */
  launch: number;
  /** Names the worker's job together with the round: raised when one was lost with its machine. */
  tries: number;
  command: string;
  state: "running" | "passed" | "failed";
  exit_code: number | null;
  /** JSON list of the last lines, cleaned. */
  tail: string;
  /** The message that took the failure back to the agent. */
  message_seq: number | null;
  started_at: number;
  ended_at: number | null;
}

export interface LimitsTable {
  limit_id: string;
  /** What is limited: fleet/account.ts. */
  account: string;
  /** The account for people; never a secret. */
  label: string;
  kind: LimitKind;
  /** `probing`: one run tries whether it is over. */
  state: "limited" | "probing" | "lifted";
  reason: string;
  /** Null: until somebody mends it. */
  limited_until: number | null;
  /** When it is looked at next; null: not by time. */
  check_at: number | null;
  /** Keyed digest of the secret that met it. */
  secret_digest: string | null;
  probe_run: RunId | null;
  probe_at: number | null;
  hits: number;
  /** Probes that met it again. */
  failures: number;
  created_at: number;
  hit_at: number;
  lifted_at: number | null;
  lifted_because: string | null;
}

export interface SetupFailuresTable {
  repo: string;
  worker_id: WorkerId;
  /** Hash of step, code and the lines that say why. */
  signature: string;
  reason: string;
  at: number;
}

export interface PoolPausesTable {
  pause_id: string;
  repo: string;
  cause: "setup" | "operator";
  reason: string;
  signature: string | null;
  /** Commit of the base branch, and the configured set-up script, that failed. */
  base: string | null;
  setup: string | null;
  created_at: number;
  resumed_at: number | null;
  resumed_because: string | null;
}
