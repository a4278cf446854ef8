/**
 * What is known of the agent of one run, folded from worker lines in order. Stored as JSON with the follower's place, so
 * that each line counts exactly once. Times: `at` is the controller's wall clock when the line was taken (ms), `up` the
 * worker's uptime when it was written (ms).
 */
export interface Reading<T> {
  readonly value: T;
  readonly at: number;
  readonly up: number;
  /** When it took this value (phase, registry status, alive): `at` of the first of equal readings in a row. */
  readonly since: number;
}

export interface TurnReading {
  /** `fresh`: started, no prompt yet. */
  readonly phase: "fresh" | "running" | "asking" | "ended" | "failed" | "exited";
  /** Tool asked about, error name, exit reason: cleaned. */
  readonly detail: string;
  readonly background: number;
  readonly retryable: boolean;
}

export interface SeenPrompt {
  /** SHA-256 hex of its UTF-8 bytes, and their count. */
  readonly hash: string;
  readonly bytes: number;
  readonly launch: number;
  readonly at: number;
}

export interface Evidence {
  /** The launch these readings belong to; a line of an older launch is ignored. */
  readonly launch: number;
  readonly startedAt: number | null;
  readonly runtimeSessionId: string | null;
  readonly transcriptPath: string | null;
  readonly turn: Reading<TurnReading> | null;
  /** Prompts the agent's own hook showed, newest last, at most 50. */
  readonly prompts: readonly SeenPrompt[];
  /** The last prompt was not one of ours: a person typed it. */
  readonly foreignTurn: boolean;
  readonly registry: Reading<{
    readonly status: string;
    readonly waitingFor: string | null;
    readonly settled: boolean;
  }> | null;
  readonly process: Reading<{
    readonly alive: boolean;
    readonly pid: number | null;
    readonly exitCode: number | null;
    readonly signal: string | null;
  }> | null;
  /** A dialog on the screen of a program that has not shown its session yet, by its recorded name. */
  readonly startDialog: { readonly label: string; readonly at: number } | null;
  readonly tmux: Reading<{
    readonly windowId: string | null;
    readonly windowName: string | null;
    readonly attached: number;
  }> | null;
  /** The newest snapshot that the worker's private store has. */
  readonly snapshot: { readonly number: number; readonly epoch: number } | null;
  /** Work has been without a commit for longer than the rule allows, told at this time. */
  readonly commitOverdueAt: number | null;
  /** Last line of any source. */
  readonly lastAt: number | null;
  /** Last words of the agent, cleaned and capped. */
  readonly summary: string | null;
  /** US dollars this run has cost so far. */
  readonly costUsd: number | null;
  /** The figure the program itself showed last, which counts over its whole conversation, and when it was taken. */
  readonly costShown: { readonly usd: number; readonly at: number } | null;
}

export const NO_EVIDENCE: Evidence = {
  launch: 0,
  startedAt: null,
  runtimeSessionId: null,
  transcriptPath: null,
  turn: null,
  prompts: [],
  foreignTurn: false,
  registry: null,
  process: null,
  startDialog: null,
  tmux: null,
  snapshot: null,
  commitOverdueAt: null,
  lastAt: null,
  summary: null,
  costUsd: null,
  costShown: null,
};
