import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_EVIDENCE } from "../../src/runtimes/evidence.ts";
import type { Evidence } from "../../src/runtimes/evidence.ts";
import { foldSignals, hashText } from "../../src/runtimes/fold.ts";
import { isDelivered } from "../../src/runtimes/proof.ts";
import type { Signal } from "../../src/runtimes/signal.ts";

const OURS = "fix the bug\n";
const ownHashes = new Set([hashText(OURS).hash]);

type Step = readonly [at: number, ...signals: Signal[]];

const fold = (steps: readonly Step[], launch = 1, from: Evidence = NO_EVIDENCE) =>
  steps.reduce<Evidence>(
    (known, [at, ...signals]) => foldSignals(known, signals, { at, up: at, launch, ownHashes }),
    from,
  );

const prompt = (text: string, foreign = true): Signal => ({
  kind: "prompt_submitted",
  text,
  foreign,
});
const registry = (status: "idle" | "busy", settled = false): Signal => {
  return { kind: "registry", status, waitingFor: null, settled };
};
const dead = (exitCode: number | null): Signal => {
  return { kind: "process", alive: false, pid: 7, exitCode, signal: null };
};
const ended: Signal = { kind: "turn_ended", background: 0, summary: "All \u001b[31mdone" };

test("a prompt is kept as hash and size, and proves the delivery of exactly that text in that launch", () => {
  const evidence = fold([[1, prompt(OURS)]]);
  assert.deepEqual(evidence.prompts, [{ ...hashText(OURS), launch: 1, at: 1 }]);
  assert.ok(isDelivered(evidence, { ...hashText(OURS), launch: 1 }));
  assert.ok(!isDelivered(evidence, { ...hashText(OURS), launch: 2 }));
  assert.ok(!isDelivered(evidence, { ...hashText(OURS.trim()), launch: 1 }));
  assert.ok(!isDelivered(evidence, { ...hashText(OURS.toUpperCase()), launch: 1 }));
  assert.ok(!isDelivered(NO_EVIDENCE, { ...hashText(OURS), launch: 1 }));
});

test("a wrapped or extended prompt proves nothing", () => {
  const evidence = fold([[1, prompt(`<pasted_content>${OURS}</pasted_content>`)]]);
  assert.ok(!isDelivered(evidence, { ...hashText(OURS), launch: 1 }));
});

test("a prompt that is none of ours is a foreign turn until one of ours comes", () => {
  assert.equal(fold([[1, prompt(OURS)]]).foreignTurn, false);
  const typed: Step[] = [
    [1, prompt(OURS)],
    [2, prompt("do something else")],
  ];
  assert.equal(fold(typed).foreignTurn, true);
  assert.equal(fold([...typed, [3, ended]]).foreignTurn, true);
  assert.equal(fold([...typed, [3, prompt(OURS)]]).foreignTurn, false);
});

test("what a background task reports is no foreign turn", () => {
  const evidence = fold([
    [1, prompt(OURS)],
    [2, prompt("<task-notification>", false)],
  ]);
  assert.equal(evidence.foreignTurn, false);
});

test("a line of an older launch changes nothing", () => {
  const second = fold([[10, prompt(OURS)]], 2);
  assert.equal(fold([[11, ended]], 1, second), second);
});

test("a new launch clears turn, registry and process, and keeps prompts, summary and conversation", () => {
  const started: Signal = {
    kind: "session_started",
    how: "startup",
    runtimeSessionId: "id",
    transcriptPath: "/t",
  };
  const first = fold([
    [1, started],
    [2, prompt(OURS)],
    [3, registry("busy")],
    [4, ended],
    [5, dead(0)],
  ]);
  const second = fold(
    [[9, { kind: "tmux", windowId: "@1", windowName: "x", attached: 0 }]],
    2,
    first,
  );
  assert.equal(second.turn, null);
  assert.equal(second.registry, null);
  assert.equal(second.process, null);
  assert.equal(second.startedAt, 9);
  assert.equal(second.runtimeSessionId, "id");
  assert.equal(second.prompts.length, 1);
  assert.equal(second.summary, "All done");
});

test("a repeated reading keeps the time since which it stands", () => {
  const evidence = fold([
    [1, registry("idle")],
    [5, registry("idle", true)],
  ]);
  assert.deepEqual(evidence.registry, {
    value: { status: "idle", waitingFor: null, settled: true },
    at: 5,
    up: 5,
    since: 1,
  });
  assert.equal(
    fold([
      [1, registry("idle")],
      [5, registry("busy")],
    ]).registry?.since,
    5,
  );
});

test("a second prompt begins a turn anew", () => {
  assert.equal(
    fold([
      [1, prompt(OURS)],
      [7, prompt(OURS)],
    ]).turn?.since,
    7,
  );
});

test("an exit after the end of a turn leaves that end standing", () => {
  const exit: Signal = { kind: "session_ended", why: "other" };
  assert.equal(
    fold([
      [1, ended],
      [2, exit],
    ]).turn?.value.phase,
    "ended",
  );
  assert.equal(
    fold([
      [1, prompt(OURS)],
      [2, exit],
    ]).turn?.value.phase,
    "exited",
  );
});

test("the exit code of a dead process survives a later, less exact reading", () => {
  assert.equal(
    fold([
      [1, dead(143)],
      [2, dead(null)],
    ]).process?.value.exitCode,
    143,
  );
});

test("background work stays known while the agent asks", () => {
  const background: Signal = { kind: "turn_ended", background: 2, summary: "" };
  const asks: Signal = { kind: "permission_asked", what: "Bash" };
  assert.equal(
    fold([
      [1, background],
      [2, asks],
    ]).turn?.value.background,
    2,
  );
});

test("only the last fifty prompts are kept, and details are clean and short", () => {
  const many = Array.from({ length: 60 }, (_, index): Step => [index, prompt(`p${index}`)]);
  assert.equal(fold(many).prompts.length, 50);
  const asks: Signal = { kind: "permission_asked", what: `\u001b]0;x\u0007${"y".repeat(5_000)}` };
  assert.match(fold([[1, asks]]).turn?.value.detail ?? "", /^y{199}…$/);
});

test("signals are folded in the order of their line", () => {
  const evidence = fold([[1, prompt(OURS), ended]]);
  assert.equal(evidence.turn?.value.phase, "ended");
  assert.equal(evidence.lastAt, 1);
});

test("the cost is what was added since the figure shown last, over launches and runs of one conversation", () => {
  const shows = (usd: number): Signal => ({ kind: "cost", usd });
  const first = fold([
    [1, shows(0.1)],
    [2, shows(0.3)],
  ]);
  assert.equal(first.costUsd, 0.3);
  const resumed = fold(
    [
      [3, shows(0.3)],
      [4, shows(0.5)],
    ],
    2,
    first,
  );
  assert.equal(resumed.costUsd, 0.5);
  const killed = fold([[5, shows(0.2)]], 3, resumed);
  assert.equal(killed.costUsd, 0.7, "a program that counts anew");
  const followUp = fold([[6, shows(0.25)]], 1, { ...NO_EVIDENCE, costShown: killed.costShown });
  assert.equal(followUp.costUsd, 0.05);
});
