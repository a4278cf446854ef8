/**
 * One line of a run's `events.jsonl`, parsed. Written on the worker by hooks, launcher, guard and the shell runtime; it is
 * hostile input until parsed here.
 */
export interface WorkerLine {
  readonly run: string;
  readonly launch: number;
  readonly source: "hook" | "launcher" | "guard" | "shell";
  readonly event: string;
  /** Worker's wall clock, ms. */
  readonly at: number;
  /** Worker's uptime, ms: orders and spaces lines of one boot. */
  readonly up: number;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** A worker line in words that are the same for every runtime. */
export type Signal =
  | {
      readonly kind: "session_started";
      readonly how: string;
      readonly runtimeSessionId: string | null;
      readonly transcriptPath: string | null;
    }
  | {
      readonly kind: "prompt_submitted";
      readonly text: string;
      /** False: the program made it itself (the result of a background task). True: ours, or else a person typed it. */
      readonly foreign: boolean;
    }
  | { readonly kind: "activity"; readonly what: string }
  | { readonly kind: "permission_asked"; readonly what: string }
  | { readonly kind: "input_asked"; readonly what: string }
  | { readonly kind: "turn_ended"; readonly background: number; readonly summary: string }
  | {
      readonly kind: "turn_failed";
      readonly error: string;
      readonly detail: string;
      readonly retryable: boolean;
    }
  | { readonly kind: "session_ended"; readonly why: string }
  | {
      readonly kind: "registry";
      readonly status: RegistryStatus;
      readonly waitingFor: string | null;
      readonly settled: boolean;
    }
  | {
      readonly kind: "process";
      readonly alive: boolean;
      readonly pid: number | null;
      readonly exitCode: number | null;
      readonly signal: string | null;
    }
  | {
      readonly kind: "tmux";
      readonly windowId: string | null;
      readonly windowName: string | null;
      readonly attached: number;
    }
  | { readonly kind: "cost"; readonly usd: number }
  | WorkSignal;

/** What the guard tells of the work itself (provision/README.md, "The work"). */
export type WorkSignal =
  | {
      readonly kind: "snapshot_taken";
      readonly number: number;
      readonly epoch: number;
      /** The tree changed while it was taken. */
      readonly moved: boolean;
      /** `no`, `pushed`, `withheld COUNT` or `failed WHY`. */
      readonly pushed: string;
      readonly skipped: readonly string[];
      readonly skippedTotal: number;
      readonly unsaved: readonly string[];
      readonly unsavedTotal: number;
    }
  | { readonly kind: "snapshot_failed"; readonly reason: string }
  | { readonly kind: "commit_overdue"; readonly uncommittedMs: number }
  | { readonly kind: "committed" };

export type RegistryStatus = "idle" | "busy" | "waiting" | "shell" | "absent";
