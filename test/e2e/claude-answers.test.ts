import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { AnswerView, InterruptView } from "../../src/operations/person.ts";
import type { RunView } from "../../src/operations/views.ts";
import { claudeFleet, skip, type ClaudeFleet } from "../support/claude-fleet.ts";
import { until } from "../support/wait.ts";

const NAP = `python3 -c "import time; time.sleep(600)"`;

describe("answers and interrupts with the real Claude Code CLI", { skip, concurrency: 2 }, () => {
  let fleet: ClaudeFleet;
  before(async () => {
    fleet = await claudeFleet();
  });
  after(() => fleet[Symbol.asyncDispose]());

  const made = (run: RunView, name: string) =>
    existsSync(join(fleet.homeOf(run.worker ?? ""), "kite", name));
  const blocks = (run: RunView) =>
    fleet.reaches(run.run_id, ({ state }) => state === "blocked", "a blocked run");
  const answer = (run: RunView, more: Readonly<Record<string, unknown>>) =>
    fleet.call<AnswerView>("run.answer", { run_id: run.run_id, by: "ann@desk", ...more });
  /** The question is on the screen and in the registry. */
  const asked = (run: RunView) =>
    until(() => answer(run, {}).catch(() => undefined), {
      what: "the question",
      timeoutMs: 60_000,
    });
  const told = async (run: RunView, kind: string) =>
    (await fleet.events(run.run_id)).filter((event) => event.kind === kind);

  test("a permission that is allowed lets the tool run; who allowed it and by which keys is an event", async () => {
    const run = await fleet.start("[[bash touch allowed]] [[text made it]]", { mode: "default" });
    const blocked = await blocks(run);
    const shown = await asked(run);
    assert.deepEqual([shown.chosen, shown.keys, shown.question.kind], [null, [], "permission"]);
    assert.ok(shown.question.text.includes("touch allowed"));
    assert.ok(!made(blocked, "allowed"));
    await assert.rejects(
      answer(run, { choice: "allow", question: "another" }),
      /not the one that is open/,
    );
    await assert.rejects(answer(run, { choice: "perhaps" }), /has no option "perhaps"/);
    await assert.rejects(answer(run, { choice: "allow", because: "so" }), /takes no words/);
    assert.deepEqual(await told(run, "run.answering"), []);

    const given = await answer(run, { choice: "allow", question: shown.question.id });
    assert.equal(given.chosen?.label, "Yes");
    assert.match(given.evidence ?? "", /^registry: (busy|idle)$/);
    const ended = await fleet.ends(run.run_id);
    assert.deepEqual([ended.state, ended.report?.summary], ["completed", "made it"]);
    assert.ok(made(ended, "allowed"));
    const [event] = await told(run, "run.answered");
    assert.partialDeepStrictEqual(event?.payload, {
      by: "ann@desk",
      option: "Yes",
      keys: ["Enter"],
      confirmed: true,
    });
    assert.ok((event?.at ?? 0) > run.created_at);
  });

  test("a permission that is denied does not run the tool, and the turn goes on with the words", async () => {
    const run = await fleet.start("[[bash touch denied]] [[text another way]]", {
      mode: "default",
    });
    await blocks(run);
    await asked(run);
    const given = await answer(run, { choice: "deny", because: "use the test database" });
    assert.deepEqual(given.keys, ["Down", "Down", "Down", "Tab", "(words)", "Enter"]);
    const ended = await fleet.ends(run.run_id);
    assert.deepEqual(
      [ended.state, ended.report?.summary, ended.launch],
      ["completed", "another way", 1],
      await fleet.history(run.run_id),
    );
    assert.ok(!made(ended, "denied"));
    const last = fleet.api.requests.findLast(({ session }) => session === run.runtime_session_id);
    assert.match(last?.toolResults.join("\n") ?? "", /use the test database/);
    const [event] = await told(run, "run.answered");
    assert.equal(event?.payload["words"], "use the test database");
  });

  test("a question that was not recorded is refused with its screen, and nothing is pressed", async () => {
    const ask = {
      questions: [
        {
          question: "Which colour?",
          header: "Colour",
          multiSelect: false,
          options: [
            { label: "Red", description: "warm" },
            { label: "Blue", description: "cold" },
          ],
        },
      ],
    };
    const run = await fleet.start(
      `[[tool AskUserQuestion ${JSON.stringify(ask)}]] [[text never]]`,
      {
        mode: "default",
      },
    );
    const blocked = await blocks(run);
    await until(
      async () => (await fleet.screen(blocked.worker ?? "")).includes("Enter to select"),
      {
        what: "the question",
        timeoutMs: 60_000,
      },
    );
    for (const choice of ["allow", "deny", "1"]) {
      await assert.rejects(
        answer(run, { choice }),
        (error: Error & { code?: string; details?: object }) => {
          assert.equal(error.code, "needs_person", error.message);
          assert.match(error.message, /no key was pressed/);
          assert.match(JSON.stringify(error.details), /registry: busy|Which colour/);
          return true;
        },
      );
    }
    assert.ok((await fleet.screen(blocked.worker ?? "")).includes("❯ 1. Red"));
    assert.deepEqual(await told(run, "run.answering"), []);
    await fleet.call("run.cancel", { run_id: run.run_id });
    await fleet.ends(run.run_id);
  });

  test("an interrupted turn stops, confirmed by the registry, and the next message goes on", async () => {
    const run = await fleet.start(`before [[bash ${NAP}]] [[text never]]`);
    const running = await fleet.reaches(
      run.run_id,
      ({ status }) => status?.explain.join().includes("running (Bash)") === true,
      "the tool",
    );
    const stopped = await fleet.call<InterruptView>("run.interrupt", {
      target: running.worker ?? "",
      by: "ann@desk",
    });
    assert.deepEqual([stopped.keys, stopped.evidence], [["Escape"], "registry: idle"]);
    const shown = await fleet.shows(run.run_id, "interrupted");
    assert.equal(shown.state, "active");
    const [event] = await told(run, "run.interrupted");
    assert.partialDeepStrictEqual(event?.payload, { by: "ann@desk", confirmed: true });
    await assert.rejects(
      fleet.call("run.interrupt", { target: run.run_id }),
      /is in no turn \(registry: idle\)/,
    );
    await fleet.send(run.run_id, "then this [[text instead]]");
    const ended = await fleet.ends(run.run_id);
    assert.deepEqual([ended.state, ended.report?.summary], ["completed", "instead"]);
  });

  test("an interrupt at a permission prompt denies it and stops the turn", async () => {
    const run = await fleet.start("[[bash touch stopped]] [[text never]]", { mode: "default" });
    await blocks(run);
    await asked(run);
    const stopped = await fleet.call<InterruptView>("run.interrupt", { target: run.run_id });
    assert.equal(stopped.evidence, "registry: idle");
    const shown = await fleet.shows(run.run_id, "interrupted");
    assert.ok(!made(shown, "stopped"));
    await fleet.call("run.cancel", { run_id: run.run_id });
    await fleet.ends(run.run_id);
  });
});
