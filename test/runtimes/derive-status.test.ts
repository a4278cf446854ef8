import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { RunState } from "../../src/domain/run.ts";
import type { AgentStatus, EvidenceSource } from "../../src/domain/status.ts";
import type { FailureKind } from "../../src/domain/failure.ts";
import { deriveStatus } from "../../src/runtimes/derive-status.ts";
import { NO_EVIDENCE } from "../../src/runtimes/evidence.ts";
import type { Evidence } from "../../src/runtimes/evidence.ts";
import { foldSignals } from "../../src/runtimes/fold.ts";
import type { RegistryStatus, Signal } from "../../src/runtimes/signal.ts";
import type { StatusContext } from "../../src/runtimes/status-context.ts";

type Step = readonly [atMs: number, signal: Signal];

const START = 1_000_000;

/** Steps are in ms after the launch. */
const evidenceOf = (steps: readonly Step[], launch = 1): Evidence =>
  steps.reduce<Evidence>((known, [after, signal]) => {
    const input = { at: START + after, up: after, launch, ownHashes: new Set<string>() };
    return foldSignals(known, [signal], input);
  }, NO_EVIDENCE);

const started: Signal = {
  kind: "session_started",
  how: "startup",
  runtimeSessionId: null,
  transcriptPath: null,
};
const prompt: Signal = { kind: "prompt_submitted", text: "x", foreign: true };
const tool: Signal = { kind: "activity", what: "Bash" };
const asks: Signal = { kind: "permission_asked", what: "Bash" };
const needsInput: Signal = { kind: "input_asked", what: "agent_needs_input" };
const exit: Signal = { kind: "session_ended", why: "prompt_input_exit" };
const stop = (background = 0): Signal => ({ kind: "turn_ended", background, summary: "" });
const failed = (error: string): Signal => {
  return { kind: "turn_failed", error, detail: "", retryable: true, cause: null };
};
const failedBy = (kind: FailureKind, label: string): Signal => {
  const cause = { kind, label, until: null };
  return { kind: "turn_failed", error: "whatever", detail: "", retryable: true, cause };
};
const alive: Signal = { kind: "process", alive: true, pid: 7, exitCode: null, signal: null };
const dead = (exitCode: number | null = null, signal: string | null = null): Signal => {
  return { kind: "process", alive: false, pid: 7, exitCode, signal };
};
const registry = (
  status: RegistryStatus,
  settled = true,
  waitingFor: string | null = null,
): Signal => ({ kind: "registry", status, settled, waitingFor });

interface Situation {
  readonly what: string;
  readonly steps: readonly Step[];
  /** ms after the launch at which one looks. */
  readonly at: number;
  readonly status: AgentStatus;
  readonly source: EvidenceSource;
  readonly reason?: string | RegExp;
  readonly ageMs?: number;
  readonly context?: Partial<StatusContext>;
}

const situations: readonly Situation[] = [
  // Start
  {
    what: "launched a moment ago, nothing heard",
    steps: [],
    at: 5_000,
    status: "starting",
    source: "controller",
    ageMs: 5_000,
  },
  {
    what: "launched long ago, nothing ever heard",
    steps: [],
    at: 31_000,
    status: "unknown",
    source: "controller",
  },
  {
    what: "launched long ago, nothing heard, worker unreachable",
    steps: [],
    at: 60_000,
    status: "unknown",
    source: "controller",
    reason: "worker unreachable",
    context: { provider: "unreachable" },
  },
  {
    what: "not launched yet",
    steps: [],
    at: 60_000,
    status: "starting",
    source: "controller",
    reason: "not launched yet",
    context: { launchIntendedAt: null, runState: "driving" },
  },
  {
    what: "run queued",
    steps: [],
    at: 60_000,
    status: "starting",
    source: "controller",
    reason: "run queued",
    context: { launchIntendedAt: null, runState: "queued" },
  },
  {
    what: "process alive, no session yet",
    steps: [[1_000, alive]],
    at: 20_000,
    status: "starting",
    source: "process",
    ageMs: 19_000,
  },
  {
    what: "process alive, no session after thirty seconds",
    steps: [
      [1_000, alive],
      [30_000, alive],
    ],
    at: 32_000,
    status: "blocked",
    source: "process",
    reason: /start dialog/,
  },
  {
    what: "process dead before its session",
    steps: [
      [1_000, alive],
      [1_500, dead(1)],
    ],
    at: 2_000,
    status: "error",
    source: "process",
    reason: /exit 1 before its session/,
  },
  {
    what: "no hook, but the registry is idle",
    steps: [
      [1_000, alive],
      [2_000, registry("idle")],
    ],
    at: 3_000,
    status: "waiting",
    source: "registry",
  },
  {
    what: "no hook, but the registry waits",
    steps: [[2_000, registry("waiting", true, "dialog open")]],
    at: 3_000,
    status: "blocked",
    source: "registry",
  },
  {
    what: "no hook, but the registry is busy",
    steps: [[2_000, registry("busy")]],
    at: 3_000,
    status: "running",
    source: "registry",
  },
  {
    what: "session started, no prompt",
    steps: [[1_000, started]],
    at: 3_000,
    status: "waiting",
    source: "hook",
    ageMs: 2_000,
  },
  {
    what: "evidence only of an older launch",
    steps: [[1_000, prompt]],
    at: 3_000,
    status: "starting",
    source: "controller",
    context: { launch: 2 },
  },
  // Turn
  {
    what: "prompt submitted",
    steps: [[1_000, prompt]],
    at: 3_000,
    status: "running",
    source: "hook",
  },
  {
    what: "prompt submitted, registry still idle from before",
    steps: [
      [900, registry("idle")],
      [1_000, prompt],
    ],
    at: 30_000,
    status: "running",
    source: "hook",
  },
  {
    what: "prompt submitted, idle read a moment later",
    steps: [
      [1_000, prompt],
      [1_300, registry("idle", true)],
    ],
    at: 3_000,
    status: "running",
    source: "hook",
  },
  {
    what: "busy, read later than the prompt",
    steps: [
      [1_000, prompt],
      [20_000, registry("busy")],
    ],
    at: 21_000,
    status: "running",
    source: "registry",
    ageMs: 1_000,
  },
  {
    what: "tool running",
    steps: [
      [1_000, prompt],
      [2_000, tool],
    ],
    at: 3_000,
    status: "running",
    source: "hook",
  },
  {
    what: "Escape in a turn: registry idle, no Stop",
    steps: [
      [1_000, prompt],
      [5_000, registry("idle", false)],
      [6_100, registry("idle")],
    ],
    at: 6_200,
    status: "interrupted",
    source: "registry",
  },
  {
    what: "Escape right after the prompt: never seen busy, and nothing changed since",
    steps: [
      [1_000, prompt],
      [1_800, registry("idle")],
    ],
    at: 6_000,
    status: "interrupted",
    source: "registry",
  },
  {
    what: "idle read a moment after the prompt, and nothing can be heard since",
    steps: [
      [1_000, prompt],
      [1_800, registry("idle")],
    ],
    at: 6_000,
    status: "running",
    source: "hook",
    context: { connection: "down" },
  },
  {
    what: "idle in a turn, not settled yet",
    steps: [
      [1_000, prompt],
      [5_000, registry("idle", false)],
    ],
    at: 5_100,
    status: "running",
    source: "hook",
  },
  {
    what: "Escape in a turn that left a background shell",
    steps: [
      [1_000, prompt],
      [2_000, tool],
      [6_100, registry("shell")],
    ],
    at: 6_200,
    status: "interrupted",
    source: "registry",
  },
  // Asking
  {
    what: "permission asked",
    steps: [
      [1_000, prompt],
      [2_000, asks],
    ],
    at: 3_000,
    status: "blocked",
    source: "hook",
    reason: "asks: Bash",
  },
  {
    what: "permission asked, stale busy reading right after",
    steps: [
      [1_000, prompt],
      [2_000, asks],
      [2_300, registry("busy", false)],
    ],
    at: 3_000,
    status: "blocked",
    source: "hook",
  },
  {
    what: "permission asked and shown by the registry",
    steps: [
      [2_000, asks],
      [9_000, registry("waiting", true, "permission prompt")],
    ],
    at: 9_500,
    status: "blocked",
    source: "hook",
    ageMs: 500,
  },
  {
    what: "permission given",
    steps: [
      [2_000, asks],
      [5_000, registry("busy", false)],
    ],
    at: 5_100,
    status: "running",
    source: "registry",
    reason: "permission given",
  },
  {
    what: "permission denied",
    steps: [
      [2_000, asks],
      [5_000, registry("idle", false)],
      [6_100, registry("idle")],
    ],
    at: 6_200,
    status: "interrupted",
    source: "registry",
    reason: /denied/,
  },
  {
    what: "input asked",
    steps: [[2_000, needsInput]],
    at: 3_000,
    status: "blocked",
    source: "hook",
  },
  {
    what: "dialog seen by the registry alone",
    steps: [
      [1_000, prompt],
      [5_000, registry("waiting", false, "dialog open")],
    ],
    at: 5_100,
    status: "blocked",
    source: "registry",
  },
  {
    what: "another tool ended while the dialog stands",
    steps: [
      [2_000, asks],
      [2_500, registry("waiting", true, "permission prompt")],
      [3_000, tool],
    ],
    at: 6_000,
    status: "blocked",
    source: "registry",
  },
  {
    what: "approved and done before the next reading",
    steps: [
      [2_000, asks],
      [2_500, registry("waiting", false)],
      [3_000, tool],
    ],
    at: 3_500,
    status: "running",
    source: "hook",
  },
  // End
  {
    what: "turn ended",
    steps: [
      [1_000, prompt],
      [2_000, stop()],
    ],
    at: 4_000,
    status: "completed",
    source: "hook",
    ageMs: 2_000,
  },
  {
    what: "turn ended, registry still busy",
    steps: [
      [1_000, prompt],
      [2_000, stop()],
      [2_200, registry("busy")],
    ],
    at: 4_000,
    status: "completed",
    source: "hook",
  },
  {
    what: "turn ended, then busy without a prompt",
    steps: [
      [2_000, stop()],
      [9_000, registry("busy")],
    ],
    at: 9_100,
    status: "running",
    source: "registry",
  },
  {
    what: "turn ended, then a person opened a panel",
    steps: [
      [2_000, stop()],
      [9_000, registry("waiting", true, "dialog open")],
    ],
    at: 9_100,
    status: "completed",
    source: "hook",
  },
  {
    what: "turn ended, then a question",
    steps: [
      [2_000, stop()],
      [9_000, registry("waiting", true, "input needed")],
    ],
    at: 9_100,
    status: "blocked",
    source: "registry",
  },
  {
    what: "turn ended with background work",
    steps: [
      [2_000, stop(1)],
      [9_000, registry("shell")],
    ],
    at: 9_100,
    status: "running",
    source: "hook",
    reason: "background work: 1",
  },
  {
    what: "background work gone without a report",
    steps: [
      [2_000, stop(1)],
      [9_000, registry("idle")],
    ],
    at: 9_100,
    status: "interrupted",
    source: "registry",
  },
  {
    what: "turn ended, process exited",
    steps: [
      [2_000, stop()],
      [3_000, exit],
      [3_100, dead(0)],
    ],
    at: 4_000,
    status: "completed",
    source: "process",
  },
  {
    what: "turn ended with background work, process died",
    steps: [
      [2_000, stop(1)],
      [3_100, dead()],
    ],
    at: 4_000,
    status: "error",
    source: "process",
  },
  {
    what: "killed in a turn",
    steps: [
      [1_000, prompt],
      [3_100, dead(null, "9")],
    ],
    at: 4_000,
    status: "error",
    source: "process",
    reason: /signal 9 without the end of a turn/,
  },
  {
    what: "killed in a turn, long ago",
    steps: [
      [1_000, prompt],
      [3_100, dead(137)],
    ],
    at: 400_000,
    status: "error",
    source: "process",
  },
  {
    what: "exited without a Stop",
    steps: [
      [1_000, prompt],
      [3_000, exit],
    ],
    at: 3_100,
    status: "error",
    source: "hook",
    reason: /exited/,
  },
  // Failures
  {
    what: "server error",
    steps: [
      [1_000, prompt],
      [2_000, failed("server_error")],
    ],
    at: 3_000,
    status: "error",
    source: "hook",
    reason: "server_error",
  },
  {
    what: "unknown error",
    steps: [[2_000, failed("unknown")]],
    at: 3_000,
    status: "error",
    source: "hook",
  },
  {
    what: "model not found",
    steps: [[2_000, failed("model_not_found")]],
    at: 3_000,
    status: "error",
    source: "hook",
  },
  {
    what: "rate limit",
    steps: [[2_000, failedBy("rate_limit", "rate limit")]],
    at: 3_000,
    status: "blocked",
    source: "hook",
    reason: "rate limit",
  },
  {
    what: "usage limit, and what the program asks then",
    steps: [
      [2_000, failedBy("usage_limit", "5-hour usage limit")],
      [9_000, registry("waiting")],
    ],
    at: 9_100,
    status: "blocked",
    source: "hook",
    reason: "5-hour usage limit",
  },
  {
    what: "refusal",
    steps: [[2_000, failedBy("refusal", "refused by the model")]],
    at: 3_000,
    status: "error",
    source: "hook",
    reason: "refused by the model",
  },
  {
    what: "dead credential",
    steps: [[2_000, failedBy("credential", "API key refused")]],
    at: 3_000,
    status: "blocked",
    source: "hook",
    reason: "API key refused",
  },
  {
    what: "no credit",
    steps: [[2_000, failedBy("billing", "credit balance too low")]],
    at: 3_000,
    status: "blocked",
    source: "hook",
  },
  {
    what: "failed, then tried again by a person",
    steps: [
      [2_000, failed("server_error")],
      [9_000, registry("busy")],
    ],
    at: 9_100,
    status: "running",
    source: "registry",
  },
  {
    what: "failed, process gone",
    steps: [
      [2_000, failed("server_error")],
      [3_000, dead(1)],
    ],
    at: 4_000,
    status: "error",
    source: "process",
    reason: /server_error/,
  },
  // Silence
  {
    what: "no pulse for 45 seconds",
    steps: [[1_000, prompt]],
    at: 46_001,
    status: "stale",
    source: "controller",
    ageMs: 45_001,
  },
  {
    what: "a pulse 45 seconds ago",
    steps: [[1_000, prompt]],
    at: 46_000,
    status: "running",
    source: "hook",
  },
  {
    what: "completed, but silent since",
    steps: [[1_000, stop()]],
    at: 50_000,
    status: "stale",
    source: "controller",
  },
  {
    what: "silent, no connection",
    steps: [[1_000, prompt]],
    at: 50_000,
    status: "stale",
    source: "controller",
    reason: "no connection to the worker",
    context: { connection: "down" },
  },
  {
    what: "silent, worker asleep",
    steps: [[1_000, prompt]],
    at: 50_000,
    status: "stale",
    source: "provider",
    reason: "worker asleep (warm)",
    context: { provider: "warm" },
  },
  {
    what: "silent, worker unreachable",
    steps: [[1_000, prompt]],
    at: 50_000,
    status: "stale",
    source: "provider",
    reason: "worker unreachable",
    context: { provider: "unreachable" },
  },
  {
    what: "worker gone",
    steps: [[1_000, prompt]],
    at: 3_000,
    status: "error",
    source: "provider",
    reason: "worker gone",
    context: { provider: "gone" },
  },
  // Ends of the run
  {
    what: "run completed long ago",
    steps: [[1_000, stop()]],
    at: 900_000,
    status: "completed",
    source: "controller",
    context: { runState: "completed" },
  },
  {
    what: "run failed",
    steps: [[1_000, stop()]],
    at: 2_000,
    status: "error",
    source: "controller",
    context: { runState: "failed" },
  },
  {
    what: "run cancelled",
    steps: [[1_000, prompt]],
    at: 2_000,
    status: "interrupted",
    source: "controller",
    context: { runState: "cancelled" },
  },
  {
    what: "run abandoned",
    steps: [[1_000, prompt]],
    at: 2_000,
    status: "unknown",
    source: "controller",
    context: { runState: "abandoned" },
  },
  {
    what: "run blocked, evidence shows it running",
    steps: [[1_000, prompt]],
    at: 2_000,
    status: "running",
    source: "hook",
    context: { runState: "blocked" },
  },
];

for (const { what, steps, at, status, source, reason, ageMs, context } of situations) {
  test(`${what}: ${status}`, () => {
    const verdict = deriveStatus(evidenceOf(steps), {
      now: START + at,
      runState: "active",
      launchIntendedAt: START,
      ...context,
    });
    assert.deepEqual(
      [verdict.status, verdict.source],
      [status, source],
      verdict.explain.join("\n"),
    );
    if (typeof reason === "string") assert.equal(verdict.reason, reason);
    if (reason instanceof RegExp) assert.match(verdict.reason, reason);
    if (ageMs !== undefined) assert.equal(verdict.ageMs, ageMs);
    assert.ok(verdict.explain[0]?.startsWith("rule: "));
    assert.ok(verdict.explain.length > 2);
  });
}

test("a status says since when it stands, not when it was last seen", () => {
  const seen: Step[] = [
    [1_000, registry("waiting", false)],
    [16_000, registry("waiting")],
  ];
  const context = { now: START + 17_000, runState: "active", launchIntendedAt: START } as const;
  const verdict = deriveStatus(evidenceOf([[500, prompt], ...seen]), context);
  assert.deepEqual([verdict.sinceMs - START, verdict.ageMs], [1_000, 1_000]);
});

const anySignal: fc.Arbitrary<Signal> = fc.oneof(
  fc.constantFrom(started, prompt, tool, asks, needsInput, exit, alive, dead(), dead(0)),
  fc.nat({ max: 2 }).map(stop),
  fc.constantFrom("server_error", "rate_limit", "constructor").map(failed),
  fc.record({
    kind: fc.constant("registry" as const),
    status: fc.constantFrom<RegistryStatus>("idle", "busy", "waiting", "shell", "absent"),
    settled: fc.boolean(),
    waitingFor: fc.constantFrom(null, "dialog open", "permission prompt"),
  }),
);
const history = fc
  .array(fc.tuple(fc.nat({ max: 20_000 }), anySignal), { maxLength: 12 })
  .map((steps) => steps.toSorted((a, b) => a[0] - b[0]));
const liveStates: RunState[] = [
  "driving",
  "launched",
  "active",
  "blocked",
  "cancelling",
  "finishing",
];
const context = fc.record(
  {
    now: fc.integer({ min: START, max: START + 120_000 }),
    runState: fc.constantFrom(...liveStates),
    launchIntendedAt: fc.constantFrom(START, null),
    provider: fc.constantFrom("running", "warm", "cold", "unreachable", "gone"),
    connection: fc.constantFrom("up", "down"),
  },
  { requiredKeys: ["now", "runState", "launchIntendedAt"] },
);

test("whatever was seen, a status never claims more than the evidence", () => {
  fc.assert(
    fc.property(history, context, (steps, looked) => {
      const evidence = evidenceOf(steps);
      const verdict = deriveStatus(evidence, looked);
      const show = [...verdict.explain].join("\n");
      const turn = evidence.turn?.value;
      if (verdict.status === "completed") {
        assert.equal(turn?.phase, "ended", show);
        assert.equal(turn?.background, 0, show);
      }
      if (evidence.process?.value.alive === false) {
        assert.ok(!["running", "waiting", "starting", "blocked"].includes(verdict.status), show);
      }
      const silence = looked.now - (evidence.lastAt ?? 0);
      if (
        silence > 45_000 &&
        ["running", "waiting", "blocked", "interrupted"].includes(verdict.status)
      )
        assert.fail(show);
      if (looked.provider === "gone") assert.equal(verdict.status, "error", show);
      assert.ok(verdict.ageMs >= 0 && verdict.sinceMs <= looked.now, show);
      assert.notEqual(verdict.reason, "", show);
    }),
    { numRuns: 2_000 },
  );
});

test("no reading of the registry alone makes a turn completed", () => {
  fc.assert(
    fc.property(history, context, (steps, looked) => {
      const noStop = steps.filter(([, signal]) => signal.kind !== "turn_ended");
      assert.notEqual(deriveStatus(evidenceOf(noStop), looked).status, "completed");
    }),
  );
});

test("a dialog seen on the screen of a start that shows no session blocks it at once", () => {
  const evidence = evidenceOf([[0, alive]]);
  const context = { now: START + 4_000, runState: "launched", launchIntendedAt: START } as const;
  assert.equal(deriveStatus(evidence, context).status, "starting");
  const startDialog = { label: "workspace trust", at: START + 3_500 };
  const verdict = deriveStatus({ ...evidence, startDialog }, context);
  assert.deepEqual(
    [verdict.status, verdict.reason, verdict.source, verdict.ageMs],
    ["blocked", "dialog: workspace trust", "tmux", 500],
  );
  const begun = foldSignals({ ...evidence, startDialog }, [started], {
    at: START + 5_000,
    up: 5_000,
    launch: 1,
    ownHashes: new Set(),
  });
  assert.equal(deriveStatus(begun, { ...context, now: START + 5_000 }).status, "waiting");
});

test("an interrupt begins no earlier than its turn, however long the registry was idle before", () => {
  const evidence = evidenceOf([
    [500, registry("idle")],
    [60_000, prompt],
    [62_000, registry("idle")],
  ]);
  const verdict = deriveStatus(evidence, {
    now: START + 62_100,
    runState: "active",
    launchIntendedAt: START,
  });
  assert.deepEqual([verdict.status, verdict.sinceMs], ["interrupted", START + 60_000]);
});
