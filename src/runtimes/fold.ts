import { createHash } from "node:crypto";
import { cleanText } from "../domain/text.ts";
import type { Evidence, Reading, TurnReading } from "./evidence.ts";
import { NO_EVIDENCE } from "./evidence.ts";
import type { Signal } from "./signal.ts";

const MAX_PROMPTS = 50;
const MAX_DETAIL = 200;
const MAX_SUMMARY = 2_000;

/** Where and when the line of the signals was written and taken. */
export interface FoldInput {
  /** Controller's wall clock when the line was taken, ms. */
  readonly at: number;
  /** Worker's uptime when it was written, ms. */
  readonly up: number;
  readonly launch: number;
  /** `hashText` of every text we sent to this run, in the form it was sent. */
  readonly ownHashes: ReadonlySet<string>;
}

/** SHA-256 (hex) and length of a text's UTF-8 bytes: what proof of delivery compares. */
export function hashText(text: string): { hash: string; bytes: number } {
  const utf8 = Buffer.from(text, "utf8");
  return { hash: createHash("sha256").update(utf8).digest("hex"), bytes: utf8.length };
}

/**
 * Adds the signals of one worker line to what is known. Pure. A line of an older launch changes nothing; the first of a
 * newer launch clears what belonged to the former process (turn, registry, process, start), not the prompts seen.
 */
export function foldSignals(
  evidence: Evidence,
  signals: readonly Signal[],
  input: FoldInput,
): Evidence {
  if (input.launch < evidence.launch) return evidence;
  const start: Evidence =
    input.launch === evidence.launch
      ? evidence
      : {
          ...NO_EVIDENCE,
          launch: input.launch,
          runtimeSessionId: evidence.runtimeSessionId,
          transcriptPath: evidence.transcriptPath,
          prompts: evidence.prompts,
          tmux: evidence.tmux,
          snapshot: evidence.snapshot,
          commitOverdueAt: evidence.commitOverdueAt,
          summary: evidence.summary,
          costUsd: evidence.costUsd,
          costShown: evidence.costShown,
        };
  const first = start.startedAt === null ? { ...start, startedAt: input.at } : start;
  return signals.reduce<Evidence>((known, signal) => foldSignal(known, signal, input), {
    ...first,
    lastAt: input.at,
  });
}

function foldSignal(evidence: Evidence, signal: Signal, input: FoldInput): Evidence {
  switch (signal.kind) {
    case "session_started":
      return {
        ...evidence,
        turn: turned(evidence, input, { phase: "fresh", detail: clean(signal.how), background: 0 }),
        runtimeSessionId: signal.runtimeSessionId ?? evidence.runtimeSessionId,
        transcriptPath: signal.transcriptPath ?? evidence.transcriptPath,
      };
    case "prompt_submitted":
      return foldPrompt(evidence, signal, input);
    case "activity":
      return {
        ...evidence,
        turn: turned(evidence, input, { phase: "running", detail: clean(signal.what) }),
      };
    case "permission_asked":
    case "input_asked":
      return {
        ...evidence,
        turn: turned(evidence, input, { phase: "asking", detail: clean(signal.what) }),
      };
    case "turn_ended":
      return {
        ...evidence,
        turn: turned(evidence, input, {
          phase: "ended",
          detail: "",
          background: signal.background,
        }),
        summary: cleanText(signal.summary, MAX_SUMMARY) || evidence.summary,
      };
    case "turn_failed":
      return {
        ...evidence,
        turn: turned(evidence, input, {
          phase: "failed",
          detail: clean(signal.error),
          retryable: signal.retryable,
        }),
        summary: cleanText(signal.detail, MAX_SUMMARY) || evidence.summary,
      };
    case "session_ended":
      return foldExit(evidence, signal.why, input);
    case "registry":
      return { ...evidence, registry: foldRegistry(evidence, signal, input) };
    case "process":
      return { ...evidence, process: foldProcess(evidence, signal, input) };
    case "tmux": {
      const { windowId, windowName, attached } = signal;
      return {
        ...evidence,
        tmux: reading(evidence.tmux, input, { windowId, windowName, attached }, (a, b) => {
          return a.windowName === b.windowName;
        }),
      };
    }
    case "cost":
      return foldCost(evidence, signal.usd, input);
    case "snapshot_taken": {
      const { number, epoch } = signal;
      return number > (evidence.snapshot?.number ?? 0)
        ? { ...evidence, snapshot: { number, epoch } }
        : evidence;
    }
    case "snapshot_failed":
      return evidence;
    case "commit_overdue":
      return { ...evidence, commitOverdueAt: input.at };
    case "committed":
      return { ...evidence, commitOverdueAt: null };
  }
}

/** What was added since the figure shown last; a lower one means that the program began to count anew (it was killed). */
function foldCost(evidence: Evidence, usd: number, { at }: FoldInput): Evidence {
  const before = evidence.costShown?.usd ?? 0;
  const added = usd >= before ? usd - before : usd;
  const costUsd = Number(((evidence.costUsd ?? 0) + added).toFixed(9));
  return { ...evidence, costUsd, costShown: { usd, at } };
}

const clean = (text: string) => cleanText(text, MAX_DETAIL);

function reading<T>(
  before: Reading<T> | null,
  input: FoldInput,
  value: T,
  same: (a: T, b: T) => boolean,
): Reading<T> {
  const since = before !== null && same(before.value, value) ? before.since : input.at;
  return { value, at: input.at, up: input.up, since };
}

/** Background work stays known until the turn's end says otherwise. */
function turned(
  evidence: Evidence,
  input: FoldInput,
  next: Pick<TurnReading, "phase" | "detail"> & Partial<TurnReading>,
): Reading<TurnReading> {
  const value = {
    background: evidence.turn?.value.background ?? 0,
    retryable: false,
    ...next,
  };
  return reading(evidence.turn, input, value, (a, b) => a.phase === b.phase);
}

function foldPrompt(
  evidence: Evidence,
  signal: Extract<Signal, { kind: "prompt_submitted" }>,
  input: FoldInput,
): Evidence {
  const { hash, bytes } = hashText(signal.text);
  const seen = { hash, bytes, launch: input.launch, at: input.at };
  const turn = turned(evidence, input, { phase: "running", detail: "prompt" });
  return {
    ...evidence,
    turn: { ...turn, since: input.at },
    prompts: [...evidence.prompts, seen].slice(-MAX_PROMPTS),
    foreignTurn: signal.foreign ? !input.ownHashes.has(hash) : evidence.foreignTurn,
  };
}

/** An exit after the end of a turn leaves that end standing: the turn is what counts, the process reading says the rest. */
function foldExit(evidence: Evidence, why: string, input: FoldInput): Evidence {
  const phase = evidence.turn?.value.phase;
  if (phase === "ended" || phase === "failed") return evidence;
  return { ...evidence, turn: turned(evidence, input, { phase: "exited", detail: clean(why) }) };
}

function foldRegistry(
  evidence: Evidence,
  signal: Extract<Signal, { kind: "registry" }>,
  input: FoldInput,
): Evidence["registry"] {
  const waitingFor = signal.waitingFor === null ? null : clean(signal.waitingFor);
  const value = { status: signal.status, waitingFor, settled: signal.settled };
  return reading(evidence.registry, input, value, (a, b) => a.status === b.status);
}

/** A dead process has one exit: a later, less exact reading does not erase its code. */
function foldProcess(
  evidence: Evidence,
  signal: Extract<Signal, { kind: "process" }>,
  input: FoldInput,
): Evidence["process"] {
  const before = evidence.process?.value;
  const known = before !== undefined && !before.alive && !signal.alive ? before : null;
  const value = {
    alive: signal.alive,
    pid: signal.pid ?? before?.pid ?? null,
    exitCode: signal.exitCode ?? known?.exitCode ?? null,
    signal: signal.signal === null ? (known?.signal ?? null) : clean(signal.signal),
  };
  return reading(evidence.process, input, value, (a, b) => a.alive === b.alive);
}
