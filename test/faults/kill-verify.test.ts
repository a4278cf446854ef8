import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { claudeFleet, skip } from "../support/claude-fleet.ts";
import { cli, controllerProcess } from "../support/controller-process.ts";

/** Every named place of one round of `verify`, from the turn's end to the next turn's begin. */
const FAILPOINTS = [
  "before-verify",
  "after-verify",
  "before-finish",
  "before-next-launch",
  "before-start:2",
  "after-start:2",
  "after-verify:2",
  "before-finish:2",
];
const OFTEN = ["after-verify", "before-next-launch", "after-verify:2"];

const VERIFY = 'echo ran >>"$HOME/verified"; test -e mended';

test(
  "killed anywhere in a round of verify, nothing is checked or told twice, and nothing is lost",
  { skip },
  async (t) => {
    const chosen = process.env["KILL_AT"];
    // Each takes a conversation of the real program; the others are for the long form.
    const points = process.env["SOAK"] === undefined ? OFTEN : FAILPOINTS;
    for (const failpoint of chosen === undefined ? points : [chosen]) {
      await t.test(failpoint, async () => {
        await using fleet = await claudeFleet({
          api: {
            scenario: ({ prompt, answers }) =>
              prompt.includes("It did not pass.") && answers === 0
                ? { kind: "tool", tools: [{ name: "Bash", input: { command: "touch mended" } }] }
                : undefined,
          },
          repo: { verify: VERIFY, permissionMode: "bypassPermissions" },
        });
        const task = ["dispatch", "--repo", "kite", "--command", "the task", "--request-id", "one"];
        {
          await using doomed = await controllerProcess(fleet, {
            ORCHESTRATOR_FAILPOINT: failpoint,
          });
          const first = cli(fleet, [...task, "--wait"]);
          await doomed.ended;
          await first;
        }
        const said = await cli(fleet, [...task, "--wait", "--json"]);
        const runId = /"run_id":"(run-[a-z0-9]+)"/.exec(said.stdout)?.[1] ?? "";
        await cli(fleet, ["stop"]);
        const run = await fleet.ends(runId);
        assert.equal(run.state, "completed", await fleet.history(runId));
        assert.deepEqual(
          run.verify.map(({ round, launch, state, exit_code: code }) => [
            round,
            launch,
            state,
            code,
          ]),
          [
            [1, 1, "failed", 1],
            [2, 2, "passed", 0],
          ],
        );
        assert.deepEqual(
          run.messages.map(({ receipt }) => receipt),
          ["accepted", "accepted"],
        );
        const home = fleet.homeOf(run.worker ?? "");
        assert.equal(readFileSync(join(home, "verified"), "utf8"), "ran\nran\n");
        const shown = fleet.lines(run).filter(({ event }) => event === "UserPromptSubmit");
        assert.equal(shown.length, 2, "the agent was told each text once");
        const kinds = (await fleet.events(runId)).map(({ kind }) => kind);
        for (const [kind, times] of [
          ["run.verifying", 2],
          ["run.verify_failed", 1],
          ["run.verified", 1],
          ["run.delivered", 2],
          ["run.finished", 1],
        ] as const)
          assert.equal(kinds.filter((one) => one === kind).length, times, kind);
      });
    }
  },
);
