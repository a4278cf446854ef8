import type { ExecStream, Transport } from "../transport/transport.ts";

/*
 * The controller's side of `provision/README.md`: applies the worker scripts over a transport and parses what they print.
 *
 * An implementation guarantees:
 * - Each function is one remote command. `code 78` (other bundle) is healed here by installing the bundle once and calling again.
 * - `code 75` is `OrchestratorError lease_stale`, with the highest epoch in its details.
 * - What a worker prints is parsed strictly; a line that does not parse is dropped and counted, text is cleaned of control
 *   characters and capped.
 * - A broken connection is a `TransportError`; it is never turned into an answer.
 */

export type StepName =
  | "owner"
  | "keys"
  | "idle"
  | "over"
  | "saved"
  | "clone"
  | "branch"
  | "setup"
  | "agent"
  | "session"
  | "verify";

export interface JobRequest {
  readonly job: string;
  readonly epoch: number;
  readonly steps: readonly StepName[];
  /** No newline in a value; secrets may be here (they travel on stdin). */
  readonly params: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export type JobLine =
  | {
      readonly kind: "worker";
      readonly home: string;
      readonly uid: number;
      readonly bootId: string;
    }
  | { readonly kind: "start"; readonly step: StepName }
  | { readonly kind: "fact"; readonly step: StepName; readonly key: string; readonly value: string }
  | { readonly kind: "done"; readonly step: StepName; readonly ms: number }
  | { readonly kind: "skip"; readonly step: StepName; readonly ms: number; readonly why: string }
  | { readonly kind: "fail"; readonly step: StepName; readonly ms: number; readonly code: number }
  | { readonly kind: "tail"; readonly step: StepName; readonly text: string };

export interface JobResult {
  /** 0, the failed step's code, or "lost" (the runner died with the machine). */
  readonly code: number | "lost";
  readonly failed: {
    readonly step: StepName;
    readonly code: number;
    readonly tail: readonly string[];
  } | null;
  /** `step.key` -> value, e.g. `clone.base`. */
  readonly facts: Readonly<Record<string, string>>;
  readonly home: string;
  readonly uid: number;
  readonly bootId: string;
}

export type StartResult =
  | { readonly kind: "started" | "adopted"; readonly pid: number }
  | { readonly kind: "over"; readonly why: string }
  | { readonly kind: "revoked" }
  | { readonly kind: "unknown"; readonly why: string };

export interface WorkerFile {
  readonly name: string;
  readonly content: Uint8Array;
  /** e.g. 0o600 */
  readonly mode: number;
}

/** A `start` that runs on the worker already and waits for its files. */
export interface OpenStart extends AsyncDisposable {
  readonly epoch: number;
  readonly run: string;
  readonly launch: number;
  /** As `Provisioner.start`; null when the worker could not run it, so that nothing has happened. Once only. */
  send(files: readonly WorkerFile[]): Promise<StartResult | null>;
}

export interface ProbedWindow {
  readonly id: string;
  readonly index: number;
  readonly panePid: number;
  readonly dead: boolean;
  readonly name: string;
}

/** Missing fields: the worker printed no such line. */
export interface Probe {
  readonly bootId: string;
  readonly owner: string | null;
  readonly fence: number;
  readonly attached: number;
  readonly windows: readonly ProbedWindow[];
  readonly current: { readonly run: string; readonly launch: number } | null;
  readonly agent: { readonly alive: boolean; readonly pid: number } | null;
  readonly registry: { readonly status: string; readonly waitingFor: string | null } | null;
  readonly pulseAgeMs: number | null;
}

export type Over =
  | { readonly kind: "over"; readonly why: string }
  | { readonly kind: "alive"; readonly pids: readonly number[] };

export interface Saved {
  /** All is in the private store: exit code 0. */
  readonly complete: boolean;
  readonly refs: readonly { readonly name: string; readonly sha: string }[];
  readonly skipped: readonly { readonly why: string; readonly path: string }[];
  readonly unsaved: readonly { readonly why: string; readonly path: string }[];
  readonly head: string | null;
  readonly branch: string | null;
  readonly fingerprint: string | null;
}

export interface WorkReport {
  readonly commits: readonly { readonly sha: string; readonly subject: string }[];
  readonly files: number;
  readonly insertions: number;
  readonly deletions: number;
}

/** `other-screen`: the screen was another by then, and no key was sent. */
export type Pressed = "pressed" | "other-screen";

export interface Provisioner {
  /** Hash of the scripts this installation carries. */
  readonly bundle: string;
  runJob(
    transport: Transport,
    request: JobRequest,
    onLine: (line: JobLine) => void,
  ): Promise<JobResult>;
  start(
    transport: Transport,
    input: {
      epoch: number;
      run: string;
      launch: number;
      session: string;
      files: readonly WorkerFile[];
    },
  ): Promise<StartResult>;
  /** Begins a `start` whose files come later, so that neither its round trips nor its own start are waited for then. */
  openStart(
    transport: Transport,
    input: { epoch: number; run: string; launch: number; session: string },
  ): Promise<OpenStart>;
  /** First item `{file, offset}`; then raw lines with the offset after each. Ends only by loss or `close`. */
  follow(
    transport: Transport,
    input: { run: string; file: string | null; offset: number; signal: AbortSignal },
  ): Promise<Follow>;
  payload(transport: Transport, run: string, name: string): Promise<string>;
  probe(
    transport: Transport,
    session: string,
    launch?: { run: string; launch: number },
  ): Promise<Probe>;
  revoke(transport: Transport, run: string, launch: number): Promise<"revoked" | "taken">;
  over(transport: Transport, run: string, launch: number): Promise<Over>;
  stop(
    transport: Transport,
    input: { epoch: number; run: string; launch: number; graceMs: number },
  ): Promise<Over>;
  screen(transport: Transport, session: string): Promise<string>;
  nameWindow(transport: Transport, session: string, status: string, reason: string): Promise<void>;
  /** Starts the worker's guard again where it has ended. `not_found` without the session. Idempotent. */
  keepGuard(transport: Transport, session: string): Promise<"running" | "restarted" | "opened">;
  sendKeys(transport: Transport, session: string, keys: readonly string[]): Promise<void>;
  paste(transport: Transport, session: string, text: string): Promise<void>;
  /**
   * Sends keys only if the screen, looked at on the worker right before, is `same` as the one given (as `screen` returned it), or `has` each of
   * its lines.
   */
  press(
    transport: Transport,
    session: string,
    expected: { readonly how: "same" | "has"; readonly screen: string },
    keys: readonly string[],
  ): Promise<Pressed>;
  /** SIGINT to the launch's process group, as Ctrl-C at a terminal. */
  interrupt(transport: Transport, run: string, launch: number): Promise<"sent" | "absent">;
  save(
    transport: Transport,
    input: { epoch: number; run: string; number: number; repo: string },
  ): Promise<Saved>;
  bundleRefs(
    transport: Transport,
    input: { repo: string; prefix: string; have: readonly string[] },
  ): Promise<ExecStream>;
  fingerprint(transport: Transport, repo: string): Promise<string | null>;
  /** Whether the work tree holds work that no commit has. */
  uncommitted(transport: Transport, repo: string): Promise<boolean>;
  report(transport: Transport, repo: string, base: string): Promise<WorkReport>;
  push(
    transport: Transport,
    repo: string,
    branch: string,
  ): Promise<{ kind: "pushed"; sha: string } | { kind: "failed"; why: string }>;
  /** Commit of a branch at its remote now (empty branch: HEAD), asked by the worker; null when the remote does not say. */
  remoteBase(transport: Transport, input: { url: string; branch: string }): Promise<string | null>;
  /** Reads a JSON file below `$HOME`; null when absent. */
  readJson(transport: Transport, path: string): Promise<{ value: unknown; hash: string } | null>;
  /** Replaces it only when its content still has that hash (null: still absent); false when it changed meanwhile. */
  writeJson(
    transport: Transport,
    path: string,
    value: unknown,
    expectedHash: string | null,
  ): Promise<boolean>;
  /** Last `maxBytes` of a file given by absolute path; null when absent. */
  readTail(transport: Transport, path: string, maxBytes: number): Promise<string | null>;
  /** Last `maxBytes` of what a step of a job said, as it said it; null when there is no such log. */
  stepLog(
    transport: Transport,
    input: { job: string; step: StepName },
    maxBytes: number,
  ): Promise<string | null>;
}

export interface FollowedLine {
  readonly text: string;
  /** Byte offset after this line. */
  readonly offset: number;
}

export interface Follow extends AsyncDisposable {
  /** `dev:ino` of the file followed. */
  readonly file: string;
  readonly lines: AsyncIterable<FollowedLine>;
}
