import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { claudeFleet, skip, type ClaudeFleet } from "../support/claude-fleet.ts";

const PREFIX = "Task (sent as text, not as a command):\n";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

/** Texts that reach the agent byte for byte, and what is hostile in them. */
const EXACT: readonly (readonly [string, string])[] = [
  ["tabs, blanks and newlines at both ends", "\t one\n\n\ttwo  \n\n \n"],
  [
    "quotes, substitutions, backticks and formats",
    "a \"b\" 'c' `id` $(id) ${HOME} $$ %s \\n #{pid} ; | &",
  ],
  ["scripts, emoji and their joiners", "grün 漢字 👩‍👩‍👧 ❤️ می‌خواهم e\u0301 \u00a0 \ufffd"],
  ["a mark that runs commands in the box", "!touch hostile"],
  ["a flag of the program", "--dangerously-skip-permissions --version"],
  ["a mark of notes", "# remember this"],
  ["a mark of files", "@README.md explain"],
  ["a backslash at the end", "look at this\\"],
];

const PREFIXED: readonly (readonly [string, string])[] = [
  ["a command of the program", "/exit now"],
  ["a word that quits", "exit"],
  ["another word that quits", " Quit\n"],
];

describe("texts given to the real Claude Code CLI", { skip, concurrency: 3 }, () => {
  let fleet: ClaudeFleet;
  before(async () => {
    fleet = await claudeFleet({
      // No directives: hostile texts are taken as they are.
      api: { scenario: ({ prompt, answers }) => readOrAnswer(prompt, answers) },
    });
  });
  after(() => fleet[Symbol.asyncDispose]());

  /** Dispatches the text; the run after its end, and what the model was given as the prompt. */
  async function give(text: string) {
    const run = await fleet.start(text);
    const ended = await fleet.ends(run.run_id);
    assert.equal(ended.state, "completed", await fleet.history(run.run_id));
    assert.equal(ended.receipt, "accepted");
    const request = fleet.api.requests.find(({ session }) => session === run.runtime_session_id);
    return { ended, message: ended.messages[0], given: request?.prompts.at(-1) ?? "" };
  }

  for (const [what, text] of EXACT) {
    test(`arrives exactly: ${what}`, async () => {
      const { ended, message, given } = await give(text);
      assert.deepEqual([message?.form, message?.text], ["exact", text]);
      assert.equal(hookSaw(fleet, ended), text);
      // The program itself leaves out blanks at the ends of what it gives the model.
      assert.equal(given.trim(), text.trim());
    });
  }

  for (const [what, text] of PREFIXED) {
    test(`arrives whole after a line that is on record: ${what}`, async () => {
      const { ended, message, given } = await give(text);
      assert.deepEqual([message?.form, message?.text], ["prefixed", text]);
      assert.equal(hookSaw(fleet, ended), PREFIX + text);
      assert.equal(given.trim(), (PREFIX + text).trim());
    });
  }

  test("arrives exactly: a hundred thousand bytes", async () => {
    const text = "long text, line of it ✓\n".repeat(3_700);
    const { ended, message, given } = await give(text);
    assert.deepEqual([message?.form, message?.bytes], ["exact", Buffer.byteLength(text)]);
    assert.ok(Buffer.byteLength(text) > 95_000);
    assert.equal(sha256(given.trim()), sha256(text.trim()));
    assert.equal(ended.launch, 1);
  });

  for (const [what, text] of [
    ["a million bytes", `first line\n${"a line of a long task\n".repeat(48_000)}`],
    [
      "characters that the program would change",
      "\u001b[31mred\u0007 \u200bhidden \u202eback a\rb",
    ],
  ] as const) {
    test(`is given as a file that the agent reads, byte for byte: ${what}`, async () => {
      const { ended, message, given } = await give(text);
      assert.equal(message?.form, "file");
      assert.ok(given.includes(sha256(text)), given);
      const path = join(
        fleet.homeOf(ended.worker ?? ""),
        `.orchestrator/runs/${ended.run_id}/message-1`,
      );
      assert.ok(given.includes(path));
      assert.equal(sha256(readFileSync(path, "utf8")), sha256(text));
      const read = fleet.api.requests.findLast(
        ({ session }) => session === ended.runtime_session_id,
      );
      assert.match(read?.toolResults.join("") ?? "", /first line|hidden/);
    });
  }

  test("a text that no agent could be given is refused by name, before anything starts", async () => {
    for (const [text, why] of [
      ["nul \0", /NUL/],
      [" \n", /empty/],
    ] as const) {
      await assert.rejects(fleet.start(text), why);
    }
  });
});

function readOrAnswer(prompt: string, answers: number) {
  const path = /^Read the file (\S+) and do what it says/.exec(prompt)?.[1];
  if (path === undefined || answers > 0) return { kind: "text", text: "Done." } as const;
  const input = { file_path: path, limit: 3 };
  return { kind: "tool", tools: [{ name: "Read", input }] } as const;
}

/** The prompt as the agent's own hook showed it. */
function hookSaw(fleet: ClaudeFleet, run: Parameters<ClaudeFleet["lines"]>[0]): unknown {
  const line = fleet.lines(run).find(({ event }) => event === "UserPromptSubmit");
  return line?.payload["prompt"];
}
