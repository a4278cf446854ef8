import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { RunId } from "../../src/domain/ids.ts";
import type { Scenario } from "../fakes/messages-script.ts";
import { claudeFleet, skip, type ClaudeFleet } from "../support/claude-fleet.ts";

const ASKED = /has not been committed for a while/;
const systems = new Map<string, string>();

/** Notes what the model is told beside the task; obeys, when the task says so, the request to commit. */
const scenario: Scenario = (call) => {
  systems.set(call.session, JSON.stringify(call.body["system"]));
  const conversation = JSON.stringify(call.body["messages"]);
  if (!ASKED.test(call.prompt) || !conversation.includes("obedient")) return undefined;
  return call.answers === 0
    ? {
        kind: "tool",
        tools: [{ name: "Bash", input: { command: "git add -A && git commit -qm Asked" } }],
      }
    : { kind: "text", text: "Committed." };
};

describe("the commit rule with the real Claude Code CLI", { skip, concurrency: 2 }, () => {
  let fleet: ClaudeFleet;
  before(async () => {
    // A second: as soon as the guard can see it.
    fleet = await claudeFleet({ api: { scenario }, repo: { commitRule: { minutes: 1 / 60 } } });
  });
  after(() => fleet[Symbol.asyncDispose]());

  const kinds = async (runId: string) =>
    (await fleet.events(runId)).map(({ kind }) => kind).filter((kind) => kind.includes("commit"));

  test("the agent is told the rule, asked once between its turns, and what it commits then is in the report", async () => {
    const run = await fleet.start(
      "obedient [[write new.txt work]] [[bash sleep 6]] [[text Done.]]",
    );
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.match(
      systems.get(ended.runtime_session_id ?? "") ?? "",
      /Commit your work at least every/,
    );
    assert.deepEqual(
      ended.messages.map(({ receipt, text }) => [receipt, ASKED.test(text)]),
      [
        ["accepted", false],
        ["accepted", true],
      ],
    );
    assert.deepEqual(
      ended.report?.commits.map(({ subject }) => subject),
      ["Asked"],
    );
    assert.deepEqual((await kinds(run.run_id)).slice(0, 2), [
      "run.commit_overdue",
      "run.commit_asked",
    ]);
  });

  test("an agent that leaves it is not asked again: the run ends, and the work is saved all the same", async () => {
    const run = await fleet.start(
      "stubborn [[write new.txt work]] [[bash sleep 6]] [[text Done.]]",
    );
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.equal(ended.messages.length, 2);
    assert.deepEqual(
      (await kinds(run.run_id)).filter((kind) => kind === "run.commit_asked"),
      ["run.commit_asked"],
    );
    const { diff } = await fleet.call<{ diff: string }>("run.diff", { run_id: run.run_id });
    assert.match(diff, /^\+work$/m);
  });

  test("who has committed by the end of the turn is not asked, also when that is not known here yet", async () => {
    const run = await fleet.start("late [[bash sleep 6]] [[text Done.]]");
    await fleet.wait(run.run_id, "delivered");
    const { store } = (await fleet.controller()).services;
    await store.mutate(async (tx) => {
      const runs = tx.db.updateTable("runs").where("run_id", "=", run.run_id as RunId);
      const { evidence } = await tx.db
        .selectFrom("runs")
        .select("evidence")
        .where("run_id", "=", run.run_id as RunId)
        .executeTakeFirstOrThrow();
      const known = { ...JSON.parse(evidence ?? "{}"), commitOverdueAt: tx.now };
      await runs.set({ evidence: JSON.stringify(known) }).execute();
    });
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.equal(ended.messages.length, 1);
  });
});
