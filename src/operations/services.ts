import type { Config } from "../config/config.ts";
import type { Clock } from "../platform/clock.ts";
import type { Store } from "../store/store.ts";
import type { AnswerView, InterruptView } from "./person.ts";
import type {
  CheckView,
  LimitView,
  LogLineView,
  PlanView,
  PoolView,
  RecoveredView,
  RunView,
  SentView,
  SnapshotView,
  WindowSentView,
  WorkerView,
} from "./views.ts";

/** What handlers of store-only operations need. */
export interface StoreServices {
  readonly store: Store;
  readonly clock: Clock;
  readonly config: Config;
}

export interface DispatchRequest {
  readonly repo: string;
  readonly text: string;
  readonly title: string | undefined;
  readonly worker: string | undefined;
  readonly runtime: string | undefined;
  readonly mode: string | undefined;
  readonly onFull: "queue" | "fail";
  readonly requestId: string | undefined;
  readonly resumes: string | undefined;
}

export interface AnswerInput {
  readonly choice: string | undefined;
  readonly because: string | undefined;
  readonly question: string | undefined;
  readonly by: string;
}

/** What the controller does for the doors; implemented by `dispatch/` and `fleet/`, wired in `controller/`. */
export interface Orchestration {
  plan(request: { repo: string; worker: string | undefined }): Promise<PlanView>;
  dispatch(request: DispatchRequest): Promise<{ run: RunView; replayed: boolean }>;
  cancel(runId: string): Promise<RunView>;
  retry(runId: string, requestId: string | undefined): Promise<RunView>;
  resume(runId: string, text: string | undefined): Promise<RunView>;
  send(
    target: string,
    text: string,
    options: { live: boolean; requestId: string | undefined },
  ): Promise<SentView>;
  answer(runId: string, input: AnswerInput): Promise<AnswerView>;
  interrupt(target: string, by: string): Promise<InterruptView>;
  snapshots(runId: string): Promise<SnapshotView[]>;
  recover(
    runId: string,
    target: {
      snapshot: "latest" | number;
      folder: string | undefined;
      branch: string | undefined;
      push: boolean;
    },
  ): Promise<RecoveredView>;
  diff(runId: string): Promise<string>;
  logs(runId: string, options: { lines: number }): Promise<string>;
  followLogs(runId: string, signal: AbortSignal): AsyncIterable<LogLineView>;
  workerCreate(repo: string): Promise<WorkerView>;
  /** With `create`: makes it when it is not there, and has nothing to do when it is ready. */
  workerSetup(worker: string, options: { readonly create: boolean }): Promise<WorkerView>;
  workerBusy(worker: string): Promise<{ busy: boolean; reason: string }>;
  workerExec(
    worker: string,
    argv: readonly string[],
    options: { readonly timeoutMs: number; readonly tilde: boolean },
  ): Promise<{ code: number | null; stdout: string; stderr: string; truncated: boolean }>;
  workerConsole(
    worker: string,
  ): Promise<{ argv: string[]; env: Record<string, string>; command: string }>;
  workerSend(
    worker: string,
    window: string,
    text: string,
    requestId: string | undefined,
  ): Promise<WindowSentView>;
  check(
    scope: { worker: string | undefined; repo: string | undefined },
    signal: AbortSignal,
  ): Promise<CheckView>;
  workerCordon(worker: string): Promise<WorkerView>;
  workerUncordon(worker: string): Promise<WorkerView>;
  workerDrain(
    worker: string,
    options: { wait: boolean; destroy: boolean; timeoutMs: number | null },
    signal: AbortSignal,
  ): Promise<WorkerView>;
  workerReset(worker: string): Promise<WorkerView>;
  workerRescue(
    worker: string,
  ): Promise<WorkerView & { rescued_run: string; snapshot: string | null; skipped: string[] }>;
  workerAdopt(worker: string): Promise<WorkerView>;
  workerDestroy(worker: string): Promise<WorkerView>;
  workerTrust(
    worker: string,
    hostKey: string,
  ): Promise<{ readonly trusted: string; readonly fingerprint: string }>;
  workerAttach(
    worker: string,
  ): Promise<{ argv: string[]; env: Record<string, string>; command: string }>;
  limitClear(limitId: string): Promise<LimitView>;
  poolPause(repo: string, reason: string | undefined): Promise<PoolView>;
  poolResume(repo: string): Promise<PoolView>;
  stop(): void;
  liveRuns(): number;
}

export interface Services extends StoreServices {
  /** Absent where no controller runs in this process. */
  readonly orchestration: Orchestration | undefined;
  readonly pid: number;
  readonly version: string;
  readonly startedAt: number;
}
