import assert from "node:assert/strict";
import { test } from "node:test";
import type { RunState } from "../../../src/domain/run.ts";
import type { AgentStatus, StatusVerdict } from "../../../src/domain/status.ts";
import type { Allocation } from "../../../src/domain/worker.ts";
import { isShown, judge, type Look } from "../../../src/dispatch/check/judge.ts";
import { parseWindows } from "../../../src/tmux/windows.ts";

const verdict = (status: AgentStatus): StatusVerdict => ({
  status,
  reason: "because",
  source: "hook",
  ageMs: 1_000,
  sinceMs: 0,
  explain: [],
});

const shell = "0 @0 0 10 00 bash//shell";
const guard = "0 @2 2 12 00 sh//guard";
const agent = (name: string) => `0 @1 1 11 00 claude/%1/${name}`;
const windows = (...lines: readonly string[]): Look => ({
  kind: "windows",
  windows: parseWindows(lines.join("\n")),
});

const CASES: ReadonlyArray<
  readonly [
    what: string,
    allocation: Allocation,
    state: RunState | null,
    status: AgentStatus,
    look: Look,
    wanted: Partial<ReturnType<typeof judge>>,
  ]
> = [
  [
    "a name that agrees",
    "claimed",
    "active",
    "running",
    windows(shell, agent("agent:running"), guard),
    { window: "agent:running", differs: false, guardMissing: false, found: [] },
  ],
  [
    "another name",
    "claimed",
    "active",
    "completed",
    windows(shell, agent("agent:running"), guard),
    { window: "agent:running", differs: true, found: [] },
  ],
  [
    "a renamed window is still the agent's",
    "claimed",
    "blocked",
    "blocked",
    windows(shell, agent("my notes"), guard),
    { window: "my notes", differs: true },
  ],
  [
    "no fresh evidence: the name stays as it is",
    "claimed",
    "active",
    "stale",
    windows(shell, agent("agent:running"), guard),
    { differs: false },
  ],
  [
    "a worker that is being prepared still shows its former run",
    "claimed",
    "driving",
    "starting",
    windows(shell, agent("agent:completed"), guard),
    { differs: false, guardMissing: false },
  ],
  [
    "a run that ended, on an idle worker",
    "free",
    "failed",
    "error",
    windows(shell, agent("agent:running"), guard),
    { differs: true },
  ],
  [
    "a run that ended, on a worker that is not ready",
    "unready",
    "failed",
    "error",
    windows(shell, agent("agent:running")),
    { differs: false, guardMissing: false },
  ],
  [
    "no run yet: nothing to compare with",
    "free",
    null,
    "unknown",
    windows(shell, agent("agent:waiting"), guard),
    { window: "agent:waiting", differs: false, found: [] },
  ],
  [
    "the guard's window is gone",
    "claimed",
    "active",
    "running",
    windows(shell, agent("agent:running")),
    { guardMissing: true },
  ],
  [
    "the guard's program has ended",
    "free",
    null,
    "unknown",
    windows(shell, agent("agent:waiting"), "0 @2 2 12 10 //guard"),
    { guardMissing: true },
  ],
  [
    "a live run without its window",
    "claimed",
    "active",
    "running",
    windows(shell, guard),
    { window: null, differs: false, found: ["window_missing"] },
  ],
  [
    "a live run without a session",
    "claimed",
    "blocked",
    "blocked",
    { kind: "no-session" },
    { window: null, found: ["session_missing"] },
  ],
  [
    "an idle worker without a session",
    "free",
    "completed",
    "completed",
    { kind: "no-session" },
    { found: [] },
  ],
  [
    "unreachable is not empty",
    "claimed",
    "active",
    "running",
    { kind: "unreachable", why: "timeout" },
    { window: null, differs: false, guardMissing: false, found: ["unreachable"] },
  ],
  [
    "asleep is not missing",
    "claimed",
    "active",
    "running",
    { kind: "left-alone", why: "asleep" },
    { found: ["left_alone"] },
  ],
];

test("what a worker shows is compared with its status, and only where the window is that run's", () => {
  for (const [what, allocation, state, status, look, wanted] of CASES) {
    const run = state === null ? null : { state };
    const shown = state === null ? null : verdict(status);
    assert.partialDeepStrictEqual(judge({ allocation }, run, shown, look), wanted, what);
  }
});

test("the window shows a live run once it was launched, and an ended one while nobody else has the worker", () => {
  const shown = (allocation: Allocation, state: RunState) => isShown({ allocation }, { state });
  for (const state of ["launched", "active", "blocked"] as const)
    assert.ok(shown("claimed", state));
  for (const state of ["queued", "driving", "cancelling", "finishing"] as const) {
    assert.ok(!shown("claimed", state), state);
  }
  assert.ok(shown("free", "cancelled"));
  for (const allocation of ["preparing", "unready", "claimed"] as const) {
    assert.ok(!shown(allocation, "completed"), allocation);
  }
});
