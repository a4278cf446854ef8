import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { USAGE } from "../fakes/messages-wire.ts";
import { DUMMY_KEY } from "../support/claude-cli.ts";
import { claudeFleet, skip, type ClaudeFleet } from "../support/claude-fleet.ts";
import { until } from "../support/wait.ts";

/** What the CLI reckons for one answer of the stub (US dollars). */
const COST_OF_CALL = 0.00136;

describe("turns of the real Claude Code CLI", { skip, concurrency: 2 }, () => {
  let fleet: ClaudeFleet;
  before(async () => {
    fleet = await claudeFleet();
  });
  after(() => fleet[Symbol.asyncDispose]());

  test("a text turn ends as completed, with its words, tokens and cost", async () => {
    const run = await fleet.start("plain [[text All is well.]]");
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.equal(ended.receipt, "accepted");
    assert.equal(ended.messages[0]?.form, "exact");
    const { report } = ended;
    assert.equal(report?.summary, "All is well.");
    assert.deepEqual(
      [report.input_tokens, report.output_tokens, report.cost_usd],
      [USAGE.input_tokens, USAGE.output_tokens, COST_OF_CALL],
    );
    assert.deepEqual([report.commits, report.files_changed], [[], 0]);
  });

  test("an edit and a commit are in the report and in the mirror's diff, whoever has the worker by then", async () => {
    const edit = { file_path: "README.md", old_string: "# kite\n", new_string: "# kite, edited\n" };
    const run = await fleet.start(
      [
        "work",
        `[[tool Read {"file_path":"README.md"}]]`,
        `[[edit ${JSON.stringify(edit)}]]`,
        "[[bash git commit -qam 'Edit the title' && echo left > not-committed.txt]]",
        "[[text Edited.]]",
      ].join(" "),
    );
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.deepEqual(
      ended.report?.commits.map(({ subject }) => subject),
      ["Edit the title"],
    );
    assert.equal(ended.report.files_changed, 2);
    assert.equal(ended.report.input_tokens, 4 * USAGE.input_tokens);
    const { diff } = await fleet.call<{ diff: string }>("run.diff", { run_id: run.run_id });
    assert.match(diff, /^-# kite$\n^\+# kite, edited$/m);
    assert.match(diff, /^\+left$/m);

    // A follow-up: a new run in the same conversation, on the same worker, that reports its own use only.
    const next = await fleet.ends(
      (await fleet.send(run.run_id, "and then [[text Second.]]")).run_id,
    );
    assert.equal(next.state, "completed", await fleet.history(next.run_id));
    assert.deepEqual([next.resumes, next.worker], [run.run_id, ended.worker]);
    assert.equal(next.runtime_session_id, ended.runtime_session_id);
    assert.deepEqual(
      [next.report?.input_tokens, next.report?.output_tokens, next.report?.cost_usd],
      [USAGE.input_tokens, USAGE.output_tokens, COST_OF_CALL],
    );
    const given = fleet.api.requests.findLast(
      ({ session }) => session === ended.runtime_session_id,
    );
    assert.deepEqual(given?.prompts, [run.messages[0]?.text, "and then [[text Second.]]"]);
  });

  test("a turn that leaves work in the background is running until that has reported", async () => {
    const run = await fleet.start(
      `[[background python3 -c "import time; time.sleep(3)"]] [[text Started it.]]`,
    );
    const waiting = await fleet.reaches(
      run.run_id,
      (seen) => seen.status?.reason === "background work: 1",
      "background work",
    );
    assert.deepEqual([waiting.state, waiting.status?.status], ["active", "running"]);
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.equal(ended.report?.input_tokens, 3 * USAGE.input_tokens);
  });

  test("the window's name shows each stage, and the credential is in no place where people look", async () => {
    const first = await fleet.ends((await fleet.start("[[text warm]]")).run_id);
    const worker = first.worker ?? "";
    const names = join(fleet.homeOf(worker), "names");
    const record = `run-shell "echo '#{hook_window_name}' >> ${names}"`;
    await fleet.tmux(worker, "set-hook", "-g", "window-renamed", record);
    const run = await fleet.start("slow [[slow 2000]] [[text done]]", { worker });
    await fleet.shows(run.run_id, "running");
    for (const argv of commandLines()) assert.ok(!argv.includes(DUMMY_KEY), argv);
    const tmux = await fleet.tmux(
      worker,
      "list-windows",
      "-a",
      "-F",
      "#{window_name} #{@run} #{@status} #{@reason}",
      ";",
      "show-environment",
      "-g",
      ";",
      "show-options",
      "-g",
    );
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed");
    const seen = readFileSync(names, "utf8").trim().split("\n");
    assert.deepEqual(seen.filter((name, index) => name !== seen[index - 1]).slice(0, 3), [
      "agent:waiting",
      "agent:running",
      "agent:completed",
    ]);
    await until(async () => (await fleet.windowName(worker)) === "agent:completed", {
      what: "the name of a completed turn",
    });

    const forms = [DUMMY_KEY, base64Of(`ANTHROPIC_API_KEY=${DUMMY_KEY}`)];
    const events = JSON.stringify([await fleet.events(), ended, tmux]);
    for (const form of forms) assert.ok(!events.includes(form), "events, views and tmux");
    const holders = filesWith(fleet.home, forms);
    const allowed = /\/\.orchestrator\/auth\/kite\.env$/;
    assert.deepEqual(
      holders.filter((path) => !allowed.test(path)),
      [],
    );
    assert.ok(holders.length > 0, "the search finds the one place where it is");
  });
});

test("four tasks at once run on four workers, each with its own words", { skip }, async (t) => {
  await using fleet = await claudeFleet({ authKind: "auth-token" });
  const words = ["one", "two", "three", "four"];
  const runs = await Promise.all(
    words.map((word) =>
      fleet.start(`task ${word} [[bash echo ${word} > ${word}.txt]] [[text ${word}]]`),
    ),
  );
  const ended = await Promise.all(runs.map(({ run_id }) => fleet.ends(run_id)));
  assert.deepEqual(
    ended.map(({ state, report }) => [state, report?.summary]),
    words.map((word) => ["completed", word]),
  );
  assert.deepEqual(
    new Set(ended.map(({ worker }) => worker)),
    new Set(["kite-1", "kite-2", "kite-3", "kite-4"]),
  );
  for (const [index, word] of words.entries()) {
    const run_id = ended[index]?.run_id;
    const { diff } = await fleet.call<{ diff: string }>("run.diff", { run_id });
    assert.match(diff, new RegExp(`^\\+${word}$`, "m"));
    for (const other of words)
      if (other !== word) assert.doesNotMatch(diff, new RegExp(`${other}.txt`));
  }
  const delays = (await Promise.all(ended.map((run) => pushDelays(fleet, run.run_id)))).flat();
  delays.sort((a, b) => a - b);
  t.diagnostic(
    `from a hook's line to its event: ${delays.length} measured, median ${delays[delays.length >> 1]} ms, most ${delays.at(-1)} ms`,
  );
  assert.ok(delays.length >= 8);
});

/** How long after a hook's line its status was an event (ms). Worker and controller share a clock here. */
async function pushDelays(fleet: ClaudeFleet, runId: string): Promise<number[]> {
  const run = await fleet.show(runId);
  const told = (await fleet.events(runId)).filter(({ kind }) => kind === "run.status");
  const stages = [
    ["SessionStart", "session started"],
    ["UserPromptSubmit", "turn running"],
    ["Stop", "turn ended"],
  ] as const;
  return stages.flatMap(([event, reason]) => {
    const line = fleet.lines(run).find((candidate) => candidate.event === event);
    const status = told.find(({ payload }) => payload["reason"] === reason);
    return line === undefined || status === undefined ? [] : [status.at - line.at];
  });
}

const base64Of = (text: string) => Buffer.from(text).toString("base64").slice(0, 48);

/** The argument lists of all processes of this machine. */
function commandLines(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8");
      } catch {
        return "";
      }
    });
}

/** Files below the folder that hold one of the texts. */
function filesWith(folder: string, texts: readonly string[]): string[] {
  const patterns = texts.flatMap((text) => ["-e", text]);
  try {
    const found = execFileSync("grep", ["-rlaF", ...patterns, folder], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    return found.split("\n").filter((path) => path !== "");
  } catch (error) {
    // 1: none; 2: some files went away meanwhile, the others are listed.
    const { status, stdout } = error as { status: number; stdout: string };
    if (status === 1) return [];
    return stdout.split("\n").filter((path) => path !== "");
  }
}
