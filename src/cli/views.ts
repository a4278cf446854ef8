import type { AnswerView, InterruptView } from "../operations/person.ts";
import type {
  CheckView,
  EventView,
  LogLineView,
  HistoryView,
  LimitView,
  PlanView,
  PoolView,
  RecoveredView,
  RunDetailView,
  RunView,
  SentView,
  WindowSentView,
  SnapshotView,
  WorkerView,
} from "../operations/views.ts";

/*
 * The only place where answers of operations get their types: the door that made them has held them to their schema
 * (operations/perform.ts), and reading it again would cost every start the schema library.
 */

export const asRun = (value: unknown) => value as RunView;
export const asSent = (value: unknown) => value as SentView;
export const asRunDetail = (value: unknown) => value as RunDetailView;
export const asRuns = (value: unknown) => value as readonly RunView[];
export const asWorker = (value: unknown) => value as WorkerView;
export const asWorkers = (value: unknown) => value as readonly WorkerView[];
export const asRescued = (value: unknown) =>
  value as WorkerView & { readonly rescued_run: string; readonly skipped: readonly string[] };
export const asPlan = (value: unknown) => value as PlanView;
export const asEvent = (value: unknown) => value as EventView;
export const asEvents = (value: unknown) => value as readonly EventView[];
export const asDispatched = (value: unknown) =>
  value as { readonly run: RunView; readonly replayed: boolean };
export const asStatus = (value: unknown) =>
  value as {
    readonly workers: readonly WorkerView[];
    readonly runs: readonly RunView[];
    readonly limits: readonly LimitView[];
    readonly paused: readonly PoolView[];
  };
export const asLimit = (value: unknown) => value as LimitView;
export const asLimits = (value: unknown) => value as readonly LimitView[];
export const asPool = (value: unknown) => value as PoolView;
export const asPools = (value: unknown) => value as readonly PoolView[];
export const asBusy = (value: unknown) =>
  value as { readonly busy: boolean; readonly reason: string };
export const asTrusted = (value: unknown) =>
  value as { readonly trusted: string; readonly fingerprint: string };
export const asExecuted = (value: unknown) =>
  value as {
    readonly code: number | null;
    readonly stdout: string;
    readonly stderr: string;
    readonly truncated: boolean;
  };
export const asAttachment = (value: unknown) =>
  value as {
    readonly argv: readonly string[];
    readonly env: Readonly<Record<string, string>>;
    readonly command: string;
  };
export const asPong = (value: unknown) =>
  value as {
    readonly pid: number;
    readonly version: string;
    readonly fleet_id: string;
    readonly started_at: number;
    readonly live_runs: number;
  };
export const asStopping = (value: unknown) => value as { readonly live_runs: number };
export const asDiff = (value: unknown) => value as { readonly diff: string };
export const asSnapshots = (value: unknown) => value as readonly SnapshotView[];
export const asRecovered = (value: unknown) => value as RecoveredView;
export const asLogs = (value: unknown) => value as { readonly text: string };
export const asAnswer = (value: unknown) => value as AnswerView;
export const asInterrupt = (value: unknown) => value as InterruptView;
export const asLogLine = (value: unknown) => value as LogLineView;
export const asCheck = (value: unknown) => value as CheckView;
export const asWindowSent = (value: unknown) => value as WindowSentView;
export const asHistory = (value: unknown) => value as readonly HistoryView[];
