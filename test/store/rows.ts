import { asRunId, asTaskId, asWorkerId } from "../../src/domain/ids.ts";
import type {
  MessagesTable,
  RunsTable,
  StepsTable,
  TasksTable,
  WorkersTable,
} from "../../src/store/schema.ts";

/** Rows with plausible content; `over` sets what a test is about. */
export function taskRow(id: string, over: Partial<TasksTable> = {}): TasksTable {
  return {
    task_id: asTaskId(id),
    repo: "kite",
    title: "fix the bug",
    body: "fix the bug in the parser",
    state: "open",
    reason: null,
    review: "none",
    attempts: 0,
    max_attempts: 1,
    cancel_requested: 0,
    created_at: 1,
    updated_at: 1,
    ...over,
  };
}

export function workerRow(number: number, over: Partial<WorkersTable> = {}): WorkersTable {
  return {
    worker_id: asWorkerId(`w-${number}`),
    repo: "kite",
    number,
    name: `kite-${number}`,
    provider: "local",
    provider_id: null,
    nonce: `nonce-${over.worker_id ?? number}`,
    allocation: "free",
    reason: null,
    cordoned: 0,
    draining: 0,
    epoch: 1,
    provider_state: null,
    provider_state_at: null,
    address: null,
    host_key: null,
    boot_id: null,
    busy_until: null,
    busy_reason: null,
    saved_fingerprint: null,
    last_run_id: null,
    created_at: 1,
    updated_at: 1,
    ...over,
  };
}

export function runRow(id: string, over: Partial<RunsTable> = {}): RunsTable {
  return {
    run_id: asRunId(id),
    task_id: asTaskId("t-1"),
    repo: "kite",
    state: "queued",
    reason: null,
    outcome: null,
    worker_id: null,
    epoch: null,
    allocation_reason: null,
    wanted_worker: null,
    runtime: "shell",
    mode: "default",
    runtime_session_id: null,
    resumes: null,
    launch: 0,
    launched_at: null,
    branch: null,
    base_commit: null,
    place: null,
    head_commit: null,
    evidence: null,
    follow_generation: null,
    follow_offset: 0,
    report: null,
    unrescued: 0,
    request_id: null,
    request: "{}",
    created_at: 1,
    updated_at: 1,
    started_at: null,
    finished_at: null,
    not_before: null,
    limit_id: null,
    secret_digest: null,
    ...over,
  };
}

export function stepRow(over: Partial<StepsTable> = {}): StepsTable {
  return {
    run_id: asRunId("r-1"),
    attempt: 1,
    step: "clone",
    state: "running",
    exit_code: null,
    detail: null,
    started_at: 1,
    ended_at: null,
    ...over,
  };
}

export function messageRow(over: Partial<MessagesTable> = {}): MessagesTable {
  return {
    run_id: asRunId("r-1"),
    seq: 1,
    body: "fix the bug",
    sent_hash: null,
    sent_bytes: null,
    form: null,
    launch: null,
    receipt: "unknown",
    detail: null,
    created_at: 1,
    confirmed_at: null,
    ...over,
  };
}
