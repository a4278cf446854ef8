import assert from "node:assert/strict";
import { test } from "node:test";
import { decide, type Moment } from "../../src/dispatch/decide.ts";
import type { AgentStatus, StatusVerdict } from "../../src/domain/status.ts";
import { NO_EVIDENCE } from "../../src/runtimes/evidence.ts";

function verdict(status: AgentStatus, reason = "because"): StatusVerdict {
  return { status, reason, source: "hook", ageMs: 0, sinceMs: 0, explain: [] };
}

function moment(facts: Partial<Moment>): Moment {
  return {
    now: 100_000,
    state: "active",
    reason: null,
    verdict: verdict("running"),
    evidence: { ...NO_EVIDENCE, launch: 1, lastAt: 99_000 },
    launch: 1,
    launchedAt: 90_000,
    receipt: "accepted",
    followUpWaits: false,
    confirmMs: 30_000,
    lostAfterMs: null,
    connected: true,
    resumes: true,
    ...facts,
  };
}

const dead = {
  ...NO_EVIDENCE,
  launch: 1,
  lastAt: 99_000,
  process: {
    value: { alive: false, pid: 7, exitCode: 1, signal: null },
    at: 99_000,
    up: 1,
    since: 99_000,
  },
};

/** Blocked, and neither heard of nor connected for twenty seconds. */
const lost: Partial<Moment> = {
  state: "blocked",
  reason: "unreachable: stale",
  verdict: verdict("stale"),
  evidence: { ...NO_EVIDENCE, launch: 1, lastAt: 80_000 },
  connected: false,
  lostAfterMs: 10_000,
};

const cases: readonly (readonly [string, Partial<Moment>, string])[] = [
  [
    "a delivered turn that ended completes the run",
    { verdict: verdict("completed") },
    "finish completed",
  ],
  [
    "a follow-up that waits goes before the end",
    { verdict: verdict("completed"), followUpWaits: true },
    "next-message",
  ],
  ["a running agent is left alone", {}, "wait"],
  ["a worker that was lost for long is replaced where that is wanted", lost, "abandon"],
  ["also before its agent had the task", { ...lost, receipt: "queued" }, "abandon"],
  ["else its run waits", { ...lost, lostAfterMs: null }, "wait"],
  ["a silence that is young waits", { ...lost, lostAfterMs: 60_000 }, "wait"],
  ["a worker that answers is not lost", { ...lost, connected: true, lostAfterMs: 1 }, "wait"],
  [
    "nor one whose agent is known to be at rest",
    { ...lost, verdict: verdict("waiting") },
    "active-again",
  ],
  ["what was not said to be blocked is not given up", { ...lost, state: "active" }, "wait"],
  ["a permission prompt blocks the run", { verdict: verdict("blocked") }, "block"],
  [
    "the same reason is said once",
    { state: "blocked", reason: "because", verdict: verdict("blocked") },
    "wait",
  ],
  [
    "a new reason is said again",
    { state: "blocked", reason: "another", verdict: verdict("blocked") },
    "block",
  ],
  [
    "an approved permission makes it active again",
    { state: "blocked", reason: "asks" },
    "active-again",
  ],
  ["an interrupted agent waits", { verdict: verdict("interrupted") }, "wait"],
  [
    "an interrupted agent takes a waiting follow-up",
    { verdict: verdict("interrupted"), followUpWaits: true },
    "next-message",
  ],
  [
    "an agent that has been interrupted just now may still be at work, and keeps its process",
    {
      verdict: verdict("interrupted"),
      followUpWaits: true,
      evidence: {
        ...NO_EVIDENCE,
        launch: 1,
        turn: {
          value: { phase: "running", detail: "prompt", background: 0, retryable: false },
          at: 98_500,
          up: 1,
          since: 98_500,
        },
      },
    },
    "wait",
  ],
  [
    "an API failure blocks where the conversation can go on",
    { verdict: verdict("error") },
    "block",
  ],
  [
    "a failure is the end where it cannot",
    { verdict: verdict("error"), resumes: false },
    "finish failed",
  ],
  [
    "silence for long blocks as unreachable",
    { verdict: verdict("stale"), evidence: { ...NO_EVIDENCE, lastAt: 1 } },
    "block",
  ],
  ["short silence decides nothing", { verdict: verdict("stale") }, "wait"],
  [
    "a start dialog blocks with that receipt",
    { state: "launched", receipt: "queued", verdict: verdict("blocked") },
    "block blocked",
  ],
  [
    "no proof before the deadline decides nothing",
    { state: "launched", receipt: "queued" },
    "wait",
  ],
  [
    "no proof by the deadline is unknown, never delivered",
    { state: "launched", receipt: "queued", launchedAt: 1 },
    "block unknown",
  ],
  [
    "an end without proof of delivery is no completion",
    { state: "launched", receipt: "queued", verdict: verdict("completed") },
    "wait",
  ],
  [
    "a process that died before the prompt is proven over first",
    { state: "launched", receipt: "queued", evidence: dead, verdict: verdict("error") },
    "prove-never-started",
  ],
];

for (const [name, facts, expected] of cases) {
  test(name, () => {
    const decision = decide(moment(facts));
    const shown =
      decision.kind === "finish"
        ? `finish ${decision.outcome}`
        : decision.kind === "block"
          ? `block${decision.receipt === null ? "" : ` ${decision.receipt}`}`
          : decision.kind;
    assert.equal(shown, expected);
  });
}
