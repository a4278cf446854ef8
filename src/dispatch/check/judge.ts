import {
  parseWindowName,
  windowStatus,
  type AgentStatus,
  type EvidenceSource,
  type StatusVerdict,
} from "../../domain/status.ts";
import { isTerminal } from "../../domain/run.ts";
import type { ProviderState } from "../../domain/worker.ts";
import type { Worker } from "../../fleet/workers.ts";
import { agentWindow, GUARD_WINDOW, type Window } from "../../tmux/windows.ts";
import type { Run } from "../runs.ts";

/** What was found out at a worker, or why nothing was. */
export type Look =
  | { readonly kind: "windows"; readonly windows: readonly Window[] }
  /** The worker answered: there is no such tmux session. */
  | { readonly kind: "no-session" }
  | { readonly kind: "unreachable"; readonly why: string }
  | { readonly kind: "left-alone"; readonly why: string };

/** What a sweep may find or do at a worker, as the log says it. */
export type Found =
  | "asleep"
  | "corrected"
  | "differs"
  | "guard_missing"
  | "guard_restarted"
  | "left_alone"
  | "session_missing"
  | "unreachable"
  | "window_missing";

/** One worker after a sweep. */
export interface Checked {
  readonly worker: Worker;
  readonly run: Run | null;
  /** What the provider says; null: it could not say. */
  readonly machine: ProviderState | null;
  /** Name of the agent's window, after a correction. */
  readonly window: string | null;
  /** What it was called before a correction. */
  readonly was: string | null;
  /** Null: no run yet, so that there is no status. */
  readonly status: AgentStatus | null;
  readonly source: EvidenceSource;
  readonly reason: string;
  readonly ageMs: number;
  readonly found: readonly Found[];
}

export interface Judgement {
  readonly window: string | null;
  /** The window says something else than the status. */
  readonly differs: boolean;
  readonly guardMissing: boolean;
  readonly found: readonly Found[];
}

/** The run whose status the agent's window shows now; null while a worker changes hands. */
export function isShown(worker: Pick<Worker, "allocation">, run: Pick<Run, "state">): boolean {
  switch (run.state) {
    case "launched":
    case "active":
    case "blocked":
      return true;
    case "completed":
    case "failed":
    case "cancelled":
    case "abandoned":
      return worker.allocation === "free";
    case "queued":
    case "driving":
    case "cancelling":
    case "finishing":
      return false;
  }
}

/** Compares what a worker's tmux shows with the derived status. Pure. */
export function judge(
  worker: Pick<Worker, "allocation">,
  run: Pick<Run, "state"> | null,
  verdict: StatusVerdict | null,
  look: Look,
): Judgement {
  const nothing = { window: null, differs: false, guardMissing: false };
  const isAttended = run !== null && isShown(worker, run) && !isTerminal(run.state);
  switch (look.kind) {
    case "unreachable":
      return { ...nothing, found: ["unreachable"] };
    case "left-alone":
      return { ...nothing, found: ["left_alone"] };
    case "no-session":
      return { ...nothing, found: isAttended ? ["session_missing"] : [] };
    case "windows": {
      const agent = agentWindow(look.windows);
      const wanted = verdict === null ? undefined : windowStatus(verdict.status);
      const isComparable = run !== null && isShown(worker, run) && agent !== undefined;
      const guard = look.windows.find(({ name }) => name === GUARD_WINDOW);
      const isSettled = isAttended || worker.allocation === "free";
      const found: Found[] = isAttended && agent === undefined ? ["window_missing"] : [];
      return {
        window: agent?.name ?? null,
        differs: isComparable && wanted !== undefined && parseWindowName(agent.name) !== wanted,
        guardMissing: isSettled && guard?.dead !== false,
        found,
      };
    }
  }
}
