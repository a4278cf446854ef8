/** Agent status: derived on read, never stored as a state (reference/states.md). */
export type AgentStatus =
  | "starting"
  | "waiting"
  | "interrupted"
  | "running"
  | "blocked"
  | "completed"
  | "error"
  | "stale"
  | "unknown";

/** Where a reading came from. */
export type EvidenceSource = "hook" | "registry" | "process" | "tmux" | "provider" | "controller";

/** A status with what it rests on: always source, reason and age. */
export interface StatusVerdict {
  readonly status: AgentStatus;
  /** One short phrase, e.g. `turn ended`, `dialog: workspace trust`, `rate_limit`. Never worker text that was not cleaned. */
  readonly reason: string;
  readonly source: EvidenceSource;
  /** Milliseconds since the reading it rests on. */
  readonly ageMs: number;
  /** Wall time (ms) at which the status began, as far as known. */
  readonly sinceMs: number;
  /** The rule that matched and every reading it looked at, for `--explain`. */
  readonly explain: readonly string[];
}

export type WindowStatus = "waiting" | "running" | "completed" | "error";

/** The seed's window-name protocol. `undefined`: the name stays as it is and its age is shown. */
export function windowStatus(status: AgentStatus): WindowStatus | undefined {
  switch (status) {
    case "starting":
    case "waiting":
    case "interrupted":
      return "waiting";
    case "running":
      return "running";
    case "completed":
      return "completed";
    case "blocked":
    case "error":
      return "error";
    case "stale":
    case "unknown":
      return undefined;
  }
}

/** `agent:running` -> `running`; undefined for any other name. */
export function parseWindowName(name: string): WindowStatus | undefined {
  switch (name) {
    case "agent:waiting":
      return "waiting";
    case "agent:running":
      return "running";
    case "agent:completed":
      return "completed";
    case "agent:error":
      return "error";
    default:
      return undefined;
  }
}
