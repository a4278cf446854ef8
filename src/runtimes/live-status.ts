import { isLimit } from "../domain/failure.ts";
import type { Evidence, Reading, TurnReading } from "./evidence.ts";
import { START_LIMIT_MS } from "./status-context.ts";
import type { Finding, StatusContext } from "./status-context.ts";

/**
 * The registry follows the agent about 100 ms late and the guard reads it once a second: only a reading written so long
 * after a hook's line speaks about what came after it.
 */
const REGISTRY_LAG_MS = 1_500;

/** A settled reading has kept its value for over a second, so it may contradict a hook sooner. */
const SETTLED_LAG_MS = 1_000;

/** A registry reading is repeated on every change, within a second: an older one still stands when nothing came since. */
const CHANGE_SEEN_MS = 2_000;

/** An idle reading taken within a turn's first second stands, once no change of it came for so long. */
const IDLE_STANDS_MS = 4_000;

type Registry = NonNullable<Evidence["registry"]>;
type Turn = Reading<TurnReading>;

/** Status of a live, heard process: what hooks said of the turn, corrected by what the registry showed later. */
export function liveStatus(evidence: Evidence, context: StatusContext): Finding {
  const { turn, registry } = evidence;
  if (turn === null) return beforeSession(evidence, context);
  return (
    openDialog(turn, registry, context) ??
    stoppedByPerson(turn, registry, context) ??
    runningAfterAll(turn, registry) ??
    asHooksSay(turn, registry)
  );
}

/** Hooks speak only after the start dialogs: the registry may tell more, else the clock does. */
function beforeSession(evidence: Evidence, context: StatusContext): Finding {
  const { registry } = evidence;
  if (registry !== null && registry.value.status !== "absent") {
    const { status, waitingFor } = registry.value;
    const shown = status === "waiting" ? "blocked" : status === "busy" ? "running" : "waiting";
    const reason = waitingFor === null ? `registry ${status}, no hook seen` : dialog(waitingFor);
    return { rule: "no-session-hook", status: shown, reason, ...rest("registry", registry) };
  }
  if (evidence.startDialog != null) {
    const { label, at } = evidence.startDialog;
    const found = { status: "blocked", source: "tmux", at, since: at } as const;
    return { ...found, rule: "start-dialog", reason: `dialog: ${label}` };
  }
  const since = Math.max(evidence.startedAt ?? 0, context.launchIntendedAt ?? 0);
  const seen = evidence.process ?? { at: since };
  const found = { source: "process", at: seen.at, since } as const;
  if (context.now - since <= START_LIMIT_MS) {
    return { ...found, rule: "starting", status: "starting", reason: "started, no session yet" };
  }
  const reason = "no session after its start: a start dialog is likely";
  return { ...found, rule: "stuck-at-start", status: "blocked", reason };
}

/** Whether the registry reading was written late enough to speak about the time after the hook's line. */
function isAfter(registry: Registry, turn: Turn): boolean {
  const lag = registry.value.settled ? SETTLED_LAG_MS : REGISTRY_LAG_MS;
  return registry.up - turn.up > lag;
}

function openDialog(turn: Turn, registry: Registry | null, context: StatusContext): Finding | null {
  if (registry?.value.status !== "waiting" || turn.value.phase === "asking") return null;
  const stands = registry.up > turn.up || context.now - turn.at > CHANGE_SEEN_MS;
  if (!stands) return null;
  // What the program asks after it met a limit is part of that failure.
  if (turn.value.phase === "failed" && turn.value.cause != null) return null;
  const waitingFor = registry.value.waitingFor ?? "an answer";
  // A panel that a person opened after the end of a turn does not undo that end.
  if (turn.value.phase === "ended" && turn.value.background === 0 && waitingFor === "dialog open") {
    return null;
  }
  const reason = dialog(waitingFor);
  return { rule: "registry-waiting", status: "blocked", reason, ...rest("registry", registry) };
}

/** Escape, Ctrl-C and a denied permission run no hook: the registry turns idle without a Stop. */
function stoppedByPerson(
  turn: Turn,
  registry: Registry | null,
  context: StatusContext,
): Finding | null {
  if (registry === null || !registry.value.settled) return null;
  // A turn that is stopped at once never shows as busy: the one reading after its prompt is the last for a while.
  const stands =
    registry.up > turn.up &&
    context.connection !== "down" &&
    context.now - registry.at > IDLE_STANDS_MS;
  if (!isAfter(registry, turn) && !stands) return null;
  const { status } = registry.value;
  const { phase, background } = turn.value;
  // Idle since before the turn: it was stopped before it ever showed as busy.
  const found = { ...rest("registry", registry), since: Math.max(registry.since, turn.at) };
  const inTurn = phase === "running" || phase === "asking";
  if (inTurn && (status === "idle" || status === "shell")) {
    const reason = phase === "asking" ? "permission denied or dismissed" : "turn interrupted";
    return {
      rule: "idle-without-stop",
      status: "interrupted",
      reason,
      ...found,
    };
  }
  if (phase === "ended" && background > 0 && status === "idle") {
    const reason = "background work ended without a report";
    return {
      rule: "background-vanished",
      status: "interrupted",
      reason,
      ...found,
    };
  }
  return null;
}

/** Approval runs no hook, and some turns (`!cmd`, queued text, compaction) have no prompt hook. */
function runningAfterAll(turn: Turn, registry: Registry | null): Finding | null {
  if (registry?.value.status !== "busy" || !isAfter(registry, turn)) return null;
  const running = { status: "running", ...rest("registry", registry) } as const;
  switch (turn.value.phase) {
    case "asking":
      return { rule: "approved", ...running, reason: "permission given" };
    case "running":
      return { rule: "turn-running", ...running, reason: "turn running", since: turn.since };
    case "fresh":
    case "ended":
    case "failed":
    case "exited":
      return { rule: "busy-without-prompt", ...running, reason: "busy without a prompt seen" };
  }
}

function asHooksSay(turn: Turn, registry: Registry | null): Finding {
  const { phase, detail, background } = turn.value;
  const found = rest("hook", turn);
  switch (phase) {
    case "fresh":
      return { rule: "session-started", status: "waiting", reason: "session started", ...found };
    case "running":
      return { rule: "turn-running", status: "running", reason: "turn running", ...found };
    case "asking": {
      const confirmed = registry?.value.status === "waiting" && registry.up > turn.up;
      const reason = detail === "" ? "asks for permission" : `asks: ${detail}`;
      const at = confirmed ? registry.at : turn.at;
      return { rule: "asking", status: "blocked", reason, ...found, at };
    }
    case "ended": {
      if (background === 0)
        return { rule: "turn-ended", status: "completed", reason: "turn ended", ...found };
      const reason = `background work: ${background}`;
      return { rule: "background-running", status: "running", reason, ...found };
    }
    case "failed": {
      const { cause } = turn.value;
      const status = cause != null && isLimit(cause.kind) ? "blocked" : "error";
      const reason = cause?.label ?? (detail === "" ? "turn failed" : detail);
      return { rule: "turn-failed", status, reason, ...found };
    }
    case "exited": {
      const reason = `exited without the end of a turn (${detail})`;
      return { rule: "exited", status: "error", reason, ...found };
    }
  }
}

const dialog = (waitingFor: string) =>
  waitingFor.startsWith("dialog") ? waitingFor : `dialog: ${waitingFor}`;

function rest<S extends "hook" | "registry">(
  source: S,
  { at, since }: { readonly at: number; readonly since: number },
): { source: S; at: number; since: number } {
  return { source, at, since };
}
