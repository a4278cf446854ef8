import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Scenario } from "../fakes/messages-script.ts";
import { claudeFleet, skip } from "../support/claude-fleet.ts";
import { cli } from "../support/controller-process.ts";
import { installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

/** Does what the check wants when it is told for the n-th time. */
const mendsAt =
  (round: number): Scenario =>
  ({ prompt, answers, body }) => {
    if (!prompt.includes("It did not pass.")) return undefined;
    const told = JSON.stringify(body["messages"]).split("It did not pass.").length - 1;
    if (told < round || answers > 0) return { kind: "text", text: "I tried." };
    const input = { command: "touch mended", description: "Mend it" };
    return { kind: "tool", tools: [{ name: "Bash", input }] };
  };

const VERIFY = 'echo ran >>"$HOME/verified"; echo "mended is missing"; test -e mended';

test(
  "work that does not pass goes back to the agent, and counts when it passes",
  { skip },
  async () => {
    await using fleet = await claudeFleet({
      api: { scenario: mendsAt(2) },
      repo: { verify: VERIFY, verifyRounds: 2 },
    });
    const run = await fleet.start("the task [[text I am done.]]");
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.equal(ended.launch, 3);
    assert.deepEqual(
      ended.verify.map(({ round, launch, state, exit_code: code, message_seq: seq }) => [
        round,
        launch,
        state,
        code,
        seq,
      ]),
      [
        [1, 1, "failed", 1, 2],
        [2, 2, "failed", 1, 3],
        [3, 3, "passed", 0, null],
      ],
    );
    assert.deepEqual(ended.verify[0]?.tail, ["mended is missing"]);
    assert.deepEqual(
      ended.messages.map(({ receipt }) => receipt),
      ["accepted", "accepted", "accepted"],
    );
    const log = readFileSync(join(fleet.homeOf(ended.worker ?? ""), "verified"), "utf8");
    assert.equal(log, "ran\n".repeat(3), "once a round");
    const told = fleet.api.prompts().filter((prompt) => prompt.includes("It did not pass."));
    assert.equal(told.length, 1, "the same words each time");
    assert.match(told[0] ?? "", /exit code 1\.[^]*\| mended is missing/);
  },
);

test("with no rounds left the run fails with what the check said", { skip }, async () => {
  await using fleet = await claudeFleet({
    api: { scenario: mendsAt(9) },
    repo: { verify: VERIFY, verifyRounds: 1 },
  });
  const run = await fleet.start("the task [[text I am done.]]");
  const ended = await fleet.ends(run.run_id);
  assert.equal(ended.state, "failed", await fleet.history(run.run_id));
  assert.equal(ended.state_reason, "verify failed with code 1 after 2 rounds: mended is missing");
  assert.deepEqual(
    ended.verify.map(({ state, message_seq: seq }) => [state, seq]),
    [
      ["failed", 2],
      ["failed", null],
    ],
  );
  const kinds = (await fleet.events(run.run_id)).map(({ kind }) => kind);
  assert.equal(kinds.filter((kind) => kind === "run.verify_failed").length, 2);
  await fleet.stopController();
  const waited = await cli(fleet, ["run", "wait", run.run_id]);
  assert.equal(waited.code, 5);
  assert.match(waited.stdout, /failed: verify failed with code 1 after 2 rounds/);
  const shown = await cli(fleet, ["run", "show", run.run_id]);
  assert.match(shown.stdout, /verify 1 {2}failed, code 1, .*told as message 2/);
  assert.match(shown.stdout, /\| mended is missing/);
});

test("where an agent cannot be told anything, a check that fails ends the run", async () => {
  await using installed = installation({ repo: { verify: "echo nothing is here; exit 4" } });
  const run = await installed.dispatch("true");
  const ended = await installed.wait(run.run_id);
  assert.deepEqual(
    [ended.state, ended.state_reason],
    ["failed", "verify failed with code 4: nothing is here"],
  );
  assert.deepEqual(ended.verify[0]?.tail, ["nothing is here"]);
});

test("a check that runs long is cancelled with its run", async () => {
  await using installed = installation({ repo: { verify: "sleep 600" } });
  const run = await installed.dispatch("true");
  await until(
    async () => (await installed.events(run.run_id)).some(({ kind }) => kind === "run.verifying"),
    { what: "the check" },
  );
  await installed.call("run.cancel", { run_id: run.run_id });
  const ended = await installed.wait(run.run_id, "ended", 30_000);
  assert.equal(ended.state, "cancelled");
  installed.configure({ verify: "true" });
  const next = await installed.wait((await installed.dispatch("true")).run_id, "ended", 60_000);
  assert.equal(next.state, "completed", JSON.stringify(next, null, 1));
});
