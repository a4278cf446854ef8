import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { EventView, RunView, WorkerView } from "../../src/operations/views.ts";
import { isAlive } from "../support/agent-window.ts";
import { claudeFleet, skip, type ClaudeFleet } from "../support/claude-fleet.ts";
import { until } from "../support/wait.ts";

const NAP = `python3 -c "import time; time.sleep(600)"`;

describe("people beside the real Claude Code CLI", { skip, concurrency: 2 }, () => {
  let fleet: ClaudeFleet;
  before(async () => {
    fleet = await claudeFleet();
  });
  after(() => fleet[Symbol.asyncDispose]());

  const made = (run: RunView, name: string) =>
    existsSync(join(fleet.homeOf(run.worker ?? ""), "kite", name));
  const blocks = (run: RunView) =>
    fleet.reaches(run.run_id, ({ state }) => state === "blocked", "a blocked run");
  const named = (run: RunView, name: string) =>
    until(async () => (await fleet.windowName(run.worker ?? "")) === name, {
      what: `the window name ${name}`,
      timeoutMs: 30_000,
    });
  const toldBlocked = async (run: RunView): Promise<EventView[]> =>
    (await fleet.events(run.run_id)).filter(({ kind }) => kind === "run.blocked");
  /** The question is on the screen and answers keys. */
  const asks = async (run: RunView) => {
    const blocked = await blocks(run);
    await fleet.reaches(
      run.run_id,
      ({ status }) => status?.explain.join().includes("registry: waiting") === true,
      "the open question",
    );
    return blocked;
  };

  test("a permission prompt blocks the run with reason and screen; once allowed it goes on and completes", async () => {
    const run = await fleet.start("[[bash touch allowed]] [[text made it]]", { mode: "default" });
    const blocked = await asks(run);
    assert.deepEqual([blocked.state_reason, blocked.receipt], ["asks: Bash", "accepted"]);
    const [told] = await toldBlocked(run);
    assert.match(String(told?.payload["screen"]), /touch allowed[\s\S]*Do you want to proceed/);
    await named(blocked, "agent:error");
    assert.ok(!made(blocked, "allowed"));
    await fleet.press(blocked.worker ?? "", "Enter");
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.equal(ended.report?.summary, "made it");
    assert.ok(made(ended, "allowed"));
    assert.equal((await toldBlocked(run)).length, 1);
  });

  test("a denied permission leaves an interrupted agent, a worker that is not idle, and a run that a follow-up completes", async () => {
    const run = await fleet.start("[[bash touch denied]] [[text never]]", { mode: "default" });
    const { worker } = await asks(run);
    await fleet.press(worker ?? "", "Escape");
    const stopped = await fleet.shows(run.run_id, "interrupted");
    assert.equal(stopped.status?.reason, "permission denied or dismissed");
    await fleet.reaches(run.run_id, ({ state }) => state === "active", "a run nobody waits for");
    await named(stopped, "agent:waiting");
    const shown = await fleet.call<WorkerView>("worker.show", { worker });
    assert.deepEqual([shown.idle, shown.allocation], [false, "claimed"]);
    await fleet.send(run.run_id, "then this [[text instead]]");
    const ended = await fleet.ends(run.run_id);
    assert.deepEqual([ended.state, ended.report?.summary], ["completed", "instead"]);
    assert.equal(ended.launch, 2);
    assert.ok(!made(ended, "denied"));
  });

  test("Escape in the middle of an answer is an interrupt, and the next words go into the live window", async () => {
    const run = await fleet.start("[[stream 60000]] [[text one two three four five six seven]]");
    const running = await fleet.shows(run.run_id, "running");
    const worker = running.worker ?? "";
    await until(
      () => fleet.api.requests.some(({ session }) => session === run.runtime_session_id),
      {
        what: "the call of the model",
        timeoutMs: 60_000,
      },
    );
    await fleet.press(worker, "Escape");
    const stopped = await fleet.shows(run.run_id, "interrupted");
    assert.deepEqual(
      [stopped.state, stopped.status?.source, stopped.status?.reason],
      ["active", "registry", "turn interrupted"],
    );
    await named(stopped, "agent:waiting");
    const { busy } = await fleet.call<{ busy: boolean }>("worker.busy", { worker });
    assert.equal(busy, true);

    // Escape before the first words puts the prompt back into the box; a person clears it.
    await fleet.press(worker, "C-c");
    for (const text of ["!ls", "/help", "tab\there", "end\\"]) {
      await assert.rejects(fleet.send(run.run_id, text, { live: true }), /cannot be pasted/);
    }
    const sent = await fleet.send(run.run_id, "go on, $(please) `now` 👍 [[text went on]]", {
      live: true,
    });
    assert.equal(sent.message.receipt, "typed_only");
    const ended = await fleet.ends(run.run_id);
    assert.deepEqual(
      [ended.state, ended.report?.summary, ended.launch],
      ["completed", "went on", 1],
      await fleet.history(run.run_id),
    );
    assert.deepEqual(
      ended.messages.map(({ receipt }) => receipt),
      ["accepted", "accepted"],
    );
  });

  test("nothing is typed into the window of an agent that asks or works", async () => {
    const run = await fleet.start("[[bash touch typed]] [[text kept]]", { mode: "default" });
    const { worker } = await asks(run);
    await assert.rejects(fleet.send(run.run_id, "yes", { live: true }), /nothing was typed/);
    assert.ok((await fleet.screen(worker ?? "")).includes("Do you want to proceed"));
    assert.ok(!made({ ...run, worker }, "typed"));
    await fleet.call("run.cancel", { run_id: run.run_id });
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "cancelled", await fleet.history(run.run_id));
  });

  test("a follow-up to a running agent waits for the end of the turn, and comes as the next launch", async () => {
    const run = await fleet.start(
      `first [[bash python3 -c "import time; time.sleep(2)"]] [[text one]]`,
    );
    await fleet.shows(run.run_id, "running");
    const sent = await fleet.send(run.run_id, "second [[text two]]");
    assert.deepEqual(
      [sent.run_id, sent.receipt, sent.message.receipt],
      [run.run_id, "accepted", "queued"],
    );
    const ended = await fleet.ends(run.run_id);
    assert.deepEqual(
      [ended.state, ended.report?.summary, ended.launch],
      ["completed", "two", 2],
      await fleet.history(run.run_id),
    );
    const told = (await fleet.events(run.run_id)).filter(({ kind }) => kind === "run.status");
    assert.deepEqual(
      told.filter(({ payload }) => payload["status"] === "error"),
      [],
      "that we end the first process ourselves is no alarm",
    );
    const last = fleet.api.requests.findLast(({ session }) => session === run.runtime_session_id);
    assert.deepEqual(last?.prompts, [run.messages[0]?.text, "second [[text two]]"]);
  });

  test("an operator's /exit in the middle of the work blocks the run, and a resume goes on", async () => {
    const run = await fleet.start(`before [[bash ${NAP}]] [[text never]]`);
    const running = await fleet.reaches(
      run.run_id,
      ({ status }) => status?.explain.join().includes("running (Bash)") === true,
      "the tool",
    );
    const worker = running.worker ?? "";
    await fleet.press(worker, "Escape");
    await fleet.shows(run.run_id, "interrupted");
    await fleet.press(worker, "-l", "/exit");
    await until(async () => (await fleet.screen(worker)).includes("Exit the CLI"), {
      what: "the command in the box",
      timeoutMs: 30_000,
    });
    await fleet.press(worker, "Enter");
    const blocked = await blocks(run);
    assert.match(blocked.state_reason ?? "", /exited|exit 0/);
    await named(blocked, "agent:error");
    await fleet.call("run.resume", { run_id: run.run_id, text: "again [[text resumed]]" });
    const ended = await fleet.ends(run.run_id);
    assert.deepEqual([ended.state, ended.report?.summary], ["completed", "resumed"]);
  });
});

test(
  "a dialog that nobody foresaw blocks the delivery with its screen; no key is pressed and the agent lives",
  { skip },
  async () => {
    const demo = { type: "stdio", command: "true", args: [] };
    await using fleet = await claudeFleet({
      files: { ".mcp.json": JSON.stringify({ mcpServers: { demo } }) },
    });
    const run = await fleet.start("[[text after all]]", { mode: "default" });
    const blocked = await fleet.reaches(run.run_id, ({ state }) => state === "blocked", "blocked");
    const worker = blocked.worker ?? "";
    assert.deepEqual(
      [blocked.receipt, blocked.state_reason, blocked.status?.status, blocked.status?.source],
      ["blocked", "dialog: MCP server of the project", "blocked", "tmux"],
    );
    assert.match(blocked.messages[0]?.detail ?? "", /New MCP server found in this project: demo/);
    await until(async () => (await fleet.windowName(worker)) === "agent:error", {
      what: "the window's name",
      timeoutMs: 30_000,
    });
    assert.ok((await fleet.screen(worker)).includes("❯ Continue without using"));
    assert.ok(isAlive(await fleet.pid(blocked)));
    assert.deepEqual(fleet.api.prompts(), []);
    const told = (await fleet.events(run.run_id)).filter(({ kind }) => kind === "run.blocked");
    assert.equal(told.length, 1, "said once");

    // What waits behind it has a receipt of its own, and does not hide that this one is stuck.
    const sent = await fleet.send(run.run_id, "and [[text then this]]");
    assert.deepEqual(
      [sent.receipt, sent.message.receipt, (await fleet.show(run.run_id)).receipt],
      ["blocked", "queued", "blocked"],
    );

    // A person answers it: late proof of the delivery makes the run active, and it completes.
    await fleet.press(worker, "Enter");
    const ended = await fleet.ends(run.run_id);
    assert.deepEqual(
      [ended.state, ended.receipt, ended.report?.summary, ended.launch],
      ["completed", "accepted", "then this", 2],
    );
  },
);
