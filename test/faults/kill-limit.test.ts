import assert from "node:assert/strict";
import { test } from "node:test";
import type { LimitView } from "../../src/operations/views.ts";
import { claudeFleet, skip } from "../support/claude-fleet.ts";
import { cli, controllerProcess } from "../support/controller-process.ts";
import { until } from "../support/wait.ts";

const GO_ON = "Go on with the task.";

/** Every named place between a run's limit and its next turn. */
const FAILPOINTS = [
  "after-limited",
  "after-probe",
  "before-continue",
  "before-start:2",
  "after-start:2",
];
const OFTEN = ["after-limited", "before-continue"];

test(
  "killed anywhere between a limit and the turn after it, a run resumes by itself, once",
  { skip },
  async (t) => {
    const chosen = process.env["KILL_AT"];
    // Each takes a conversation of the real program; the others are for the long form.
    const points = process.env["SOAK"] === undefined ? OFTEN : FAILPOINTS;
    for (const failpoint of chosen === undefined ? points : [chosen]) {
      await t.test(failpoint, async () => {
        await using fleet = await claudeFleet({
          api: {
            scenario: ({ prompt }) =>
              prompt.includes(GO_ON) ? undefined : { kind: "status", status: 429 },
          },
          repo: { permissionMode: "bypassPermissions" },
          config: { delivery: { confirmSeconds: 90 }, limits: { retrySeconds: 1 } },
        });
        const task = ["dispatch", "--repo", "kite", "--command", "the task", "--request-id", "one"];
        {
          await using doomed = await controllerProcess(fleet, {
            ORCHESTRATOR_FAILPOINT: failpoint,
          });
          const first = cli(fleet, task);
          await doomed.ended;
          await first;
        }
        const said = await cli(fleet, [...task, "--json"]);
        const runId = /"run_id":"(run-[a-z0-9]+)"/.exec(said.stdout)?.[1] ?? "";
        await cli(fleet, ["stop"]);
        const run = await fleet.ends(runId);
        assert.deepEqual([run.state, run.launch], ["completed", 2], await fleet.history(runId));
        assert.deepEqual(
          run.messages.map(({ text, receipt }) => [text, receipt]),
          [
            ["the task", "accepted"],
            [GO_ON, "accepted"],
          ],
        );
        const shown = fleet.lines(run).filter(({ event }) => event === "UserPromptSubmit");
        assert.equal(shown.length, 2, "the agent was told each text once");
        // The keeper looks at its proofs once a second, also after the run's end.
        const kinds = await until(
          async () => {
            const all = (await fleet.events()).map(({ kind }) => kind);
            return all.includes("limit.lifted") ? all : undefined;
          },
          { what: "the limit's end", timeoutMs: 30_000 },
        );
        for (const kind of ["limit.reached", "limit.probing", "limit.lifted", "run.finished"])
          assert.equal(kinds.filter((one) => one === kind).length, 1, kind);
        const [limit] = await fleet.call<LimitView[]>("limit.list", { all: true });
        assert.equal(limit?.lifted_because, `${runId} was answered`);
      });
    }
  },
);
