import type {
  EventView,
  MessageView,
  RecoveredView,
  RunDetailView,
  SentView,
  SnapshotView,
  StatusView,
  WorkerView,
} from "../../src/operations/views.ts";

const STATUS: StatusView = {
  status: "running",
  reason: "tool: Bash",
  source: "hook",
  age_ms: 3_000,
  since: 1_763_640_000_000,
  explain: ["hook: PreToolUse 3s ago", "registry: busy"],
};

export const MESSAGE: MessageView = {
  seq: 1,
  launch: 1,
  receipt: "accepted",
  form: "exact",
  bytes: 11,
  text: "fix the bug",
  created_at: 1_763_640_000_000,
  confirmed_at: 1_763_640_004_000,
  detail: null,
};

export const RUN: RunDetailView = {
  run_id: "run-000000000001",
  task_id: "task-00000000001",
  repo: "kite",
  task: "fix the bug",
  state: "active",
  state_reason: null,
  worker: "kite-1",
  reason: "idle since 3 minutes",
  receipt: "accepted",
  status: STATUS,
  runtime: "claude",
  mode: "default",
  runtime_session_id: "11111111-2222-4333-8444-555555555555",
  attach: "orchestrator attach kite-1",
  branch: "orchestrator/run-000000000001",
  base_commit: null,
  head_commit: null,
  launch: 1,
  resumes: null,
  unrescued: false,
  created_at: 1_763_640_000_000,
  started_at: 1_763_640_000_100,
  finished_at: null,
  steps: [
    { attempt: 1, step: "clone", state: "done", ms: 1_200, detail: null },
    { attempt: 1, step: "setup", state: "skipped", ms: 0, detail: "unchanged" },
  ],
  messages: [MESSAGE],
  report: null,
};

export const SENT: SentView = { ...RUN, message: MESSAGE };

export const WORKER: WorkerView = {
  worker: "kite-1",
  worker_id: "worker-000000001",
  repo: "kite",
  provider: "local",
  provider_state: "running",
  provider_state_age_ms: 1_000,
  allocation: "claimed",
  reason: null,
  idle: false,
  not_idle_because: "run run-000000000001",
  cordoned: false,
  draining: false,
  epoch: 1,
  run_id: "run-000000000001",
  status: STATUS,
  attach: "orchestrator attach kite-1",
  created_at: 1_763_640_000_000,
};

export const SNAPSHOT: SnapshotView = {
  snapshot: 1_763_640_000_123,
  epoch: 1,
  taken_at: 1_763_640_000_123,
  commit: "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00",
  refs: 4,
  skipped: ["secret .env"],
  unsaved: [],
};

export const RECOVERED: RecoveredView = {
  run_id: RUN.run_id,
  snapshot: SNAPSHOT.snapshot,
  taken_at: SNAPSHOT.taken_at,
  commit: SNAPSHOT.commit,
  folder: null,
  branch: "rescued-work",
  pushed: true,
  fetch: "git fetch /mirrors/kite.git rescued-work:rescued-work",
  nested: ["vendor/lib"],
  elsewhere: [],
};

let seq = 0;

/** The next event of `RUN`. */
export function event(kind: string, payload: Record<string, unknown> = {}): EventView {
  seq += 1;
  return {
    seq,
    at: 1_763_640_000_000 + seq,
    kind,
    repo: "kite",
    task_id: RUN.task_id,
    run_id: RUN.run_id,
    worker_id: null,
    payload,
  };
}
