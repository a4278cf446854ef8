import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { RunDetailView } from "../../src/operations/views.ts";
import { claudeFleet, skip, type ClaudeFleet } from "../support/claude-fleet.ts";
import { until } from "../support/wait.ts";

/** In the place of a status: no answer at all. */
const HANG = 0;
const NAP = `python3 -c "import time; time.sleep(600)"`;
const IN_A_TOOL = `before [[bash ${NAP}]] [[text never]]`;

describe("failures around the real Claude Code CLI", { skip, concurrency: 2 }, () => {
  let fleet: ClaudeFleet;
  /** What the API answers to a prompt that holds the word, until it is mended. */
  const broken = new Map<string, number>();
  before(async () => {
    fleet = await claudeFleet({
      api: {
        scenario: ({ prompt }) => {
          for (const [word, status] of broken)
            if (prompt.includes(word))
              return status === HANG ? { kind: "hang" } : { kind: "status", status };
          return undefined;
        },
      },
    });
  });
  after(() => fleet[Symbol.asyncDispose]());

  const inTool = (runId: string) =>
    fleet.reaches(
      runId,
      ({ status }) => status?.explain.join().includes("running (Bash)") === true,
      "the tool",
    );
  /** The CLI writes its record a moment after it took the prompt. */
  const transcriptOf = (run: RunDetailView) => {
    const line = fleet.lines(run).find(({ event }) => event === "SessionStart");
    return String(line?.payload["transcript_path"]);
  };
  const isWritten = (run: RunDetailView) =>
    until(
      () =>
        existsSync(transcriptOf(run)) &&
        readFileSync(transcriptOf(run), "utf8").includes('"type":"user"'),
      { what: "the agent's own record of the prompt", timeoutMs: 30_000 },
    );
  const conversation = (session: string | null) =>
    fleet.api.requests.findLast((request) => request.session === session)?.prompts ?? [];

  test("an API that fails blocks the run with what it said, and a resume completes it once that is over", async () => {
    broken.set("answer-500", 500);
    const run = await fleet.start("answer-500 please");
    const blocked = await fleet.reaches(run.run_id, ({ state }) => state === "blocked", "blocked");
    assert.match(blocked.state_reason ?? "", /^server_error: API Error: 500 Internal server error/);
    assert.equal(blocked.receipt, "accepted");
    await until(async () => (await fleet.windowName(blocked.worker ?? "")) === "agent:error", {
      what: "the window's name",
    });
    broken.delete("answer-500");
    await fleet.call("run.resume", { run_id: run.run_id });
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.deepEqual(
      ended.messages.map(({ text, receipt }) => [text, receipt]),
      [
        ["answer-500 please", "accepted"],
        ["Go on with the task.", "accepted"],
      ],
    );
    assert.deepEqual(
      conversation(run.runtime_session_id).map((prompt) => prompt.trim()),
      ["answer-500 please", "Go on with the task."],
    );
    const told = (await fleet.events(run.run_id)).filter(({ kind }) => kind === "run.blocked");
    assert.equal(told.length, 1, "said once, and not for the process that we ended");
  });

  test("a killed agent is an error by its process within two seconds, and a resume goes on in the same conversation", async (t) => {
    const run = await fleet.start(IN_A_TOOL);
    const running = await inTool(run.run_id);
    await isWritten(running);
    const pid = await fleet.pid(running);
    const killed = Date.now();
    process.kill(pid, "SIGKILL");
    const blocked = await fleet.reaches(run.run_id, ({ state }) => state === "blocked", "blocked");
    assert.deepEqual([blocked.status?.status, blocked.status?.source], ["error", "process"]);
    // The guard may see that it is gone before tmux tells by what signal.
    assert.match(blocked.state_reason ?? "", /^process (signal SIGKILL|gone) without/);
    const told = (await fleet.events(run.run_id)).find(
      ({ kind, payload }) => kind === "run.status" && payload["status"] === "error",
    );
    t.diagnostic(`told ${(told?.at ?? 0) - killed} ms after the kill`);
    await until(async () => (await fleet.windowName(blocked.worker ?? "")) === "agent:error", {
      what: "the window's name",
    });
    await fleet.call("run.resume", { run_id: run.run_id, text: "again [[text resumed]]" });
    const ended = await fleet.ends(run.run_id);
    assert.deepEqual(
      [ended.state, ended.report?.summary, ended.launch],
      ["completed", "resumed", 2],
      await fleet.history(run.run_id),
    );
    assert.deepEqual(conversation(run.runtime_session_id), [IN_A_TOOL, "again [[text resumed]]"]);
  });

  test("what a killed agent had not written down is given to it again, in a conversation that exists", async () => {
    broken.set("unwritten", HANG);
    const run = await fleet.start("unwritten task");
    const running = await fleet.shows(run.run_id, "running");
    await isWritten(running);
    process.kill(await fleet.pid(running), "SIGKILL");
    await fleet.reaches(run.run_id, ({ state }) => state === "blocked", "blocked");
    rmSync(transcriptOf(running));
    broken.delete("unwritten");
    await fleet.call("run.resume", { run_id: run.run_id, text: "and go on" });
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.deepEqual(
      ended.messages.map(({ text, receipt }) => [text, receipt]),
      [
        ["unwritten task", "accepted"],
        ["unwritten task", "accepted"],
        ["and go on", "accepted"],
      ],
    );
    assert.notEqual(ended.runtime_session_id, run.runtime_session_id);
    assert.deepEqual(conversation(ended.runtime_session_id), ["unwritten task", "and go on"]);
    const lost = (await fleet.events(run.run_id)).filter(({ kind }) => kind === "run.message_lost");
    assert.deepEqual(
      lost.map(({ payload }) => payload["seq"]),
      [1],
    );
  });

  test("when the tmux server ends, nothing is shown as running, and a resume makes the session anew", async (t) => {
    const run = await fleet.start(IN_A_TOOL);
    const running = await inTool(run.run_id);
    await isWritten(running);
    const { worker } = running;
    const killed = Date.now();
    await fleet.tmux(worker ?? "", "kill-server");
    await fleet.reaches(run.run_id, ({ status }) => status?.status === "error", "an error");
    t.diagnostic(`shown ${Date.now() - killed} ms after the server's end`);
    await fleet.reaches(run.run_id, ({ state }) => state === "blocked", "blocked");
    await fleet.call("run.resume", { run_id: run.run_id, text: "again [[text resumed]]" });
    const ended = await fleet.ends(run.run_id);
    assert.deepEqual(
      [ended.state, ended.report?.summary, ended.launch],
      ["completed", "resumed", 2],
      await fleet.history(run.run_id),
    );
    assert.deepEqual(conversation(run.runtime_session_id), [IN_A_TOOL, "again [[text resumed]]"]);
    const windows = await fleet.tmux(worker ?? "", "list-windows", "-F", "#{window_name}");
    assert.deepEqual(windows.trim().split("\n"), ["shell", "agent:completed", "guard"]);
  });
});

test("a resume takes the credential as it is configured by then", { skip }, async () => {
  let refused = true;
  await using fleet = await claudeFleet({
    api: { scenario: () => (refused ? { kind: "status", status: 401 } : undefined) },
  });
  const run = await fleet.start("[[text with the new key]]");
  const blocked = await fleet.reaches(run.run_id, ({ state }) => state === "blocked", "blocked");
  assert.equal(blocked.state_reason, "limited until it is mended: API key refused");
  refused = false;
  const mended = "another-key-of-the-tests-fedcba9876543210";
  fleet.env["AGENT_KEY"] = mended;
  await fleet.call("run.resume", { run_id: run.run_id });
  const ended = await fleet.ends(run.run_id);
  assert.equal(ended.state, "completed", await fleet.history(run.run_id));
  assert.equal(fleet.api.requests.at(-1)?.headers["x-api-key"], mended);
});

test(
  "what a start dialog kept from the agent is given to it by a resume, before what is said then",
  { skip },
  async () => {
    const demo = { type: "stdio", command: "true", args: [] };
    await using fleet = await claudeFleet({
      files: { ".mcp.json": JSON.stringify({ mcpServers: { demo } }) },
    });
    const run = await fleet.start("the task [[text done]]", { mode: "default" });
    const blocked = await fleet.reaches(
      run.run_id,
      ({ receipt }) => receipt === "blocked",
      "blocked",
    );
    process.kill(await fleet.pid(blocked), "SIGKILL");
    await fleet.reaches(run.run_id, ({ status }) => status?.status === "error", "its end");
    await fleet.call("run.resume", { run_id: run.run_id, text: "and this [[text also done]]" });
    const again = await fleet.reaches(
      run.run_id,
      ({ launch, state }) => launch === 2 && state === "blocked",
      "the dialog of the second launch",
    );
    await fleet.press(again.worker ?? "", "Enter");
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.deepEqual(fleet.api.prompts().slice(-2), [
      "the task [[text done]]",
      "and this [[text also done]]",
    ]);
  },
);
