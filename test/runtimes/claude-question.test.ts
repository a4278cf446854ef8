import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  hasAmended,
  questionOnScreen,
  takesWords,
  turnOnScreen,
  versionOf,
} from "../../src/runtimes/claude/question.ts";
import { TESTED_VERSION } from "../../src/runtimes/claude/vendor-data.ts";

const folder = join(import.meta.dirname, "..", "fixtures", "screens", "claude", TESTED_VERSION);
const screenOf = (name: string) => readFileSync(join(folder, `${name}.txt`), "utf8").trimEnd();
const VERSION = TESTED_VERSION;

test("the recorded permission prompts are questions with one way to allow and one to deny; no other screen is", () => {
  const found = new Map(
    readdirSync(folder)
      .toSorted()
      .map((file) => {
        const name = file.replace(/\.txt$/, "");
        return [name, questionOnScreen(screenOf(name), VERSION)?.id ?? null];
      }),
  );
  const questions = [...found].filter(([, id]) => id !== null);
  assert.deepEqual(questions, [
    ["permission-bash", "permission"],
    ["permission-fetch", "fetch-permission"],
    ["permission-read", "permission"],
    ["permission-write", "permission"],
  ]);
  const bash = questionOnScreen(screenOf("permission-bash"), VERSION);
  assert.deepEqual(
    bash?.options.map(({ number, role }) => [number, role]),
    [
      [1, "allow"],
      [2, "other"],
      [3, "other"],
      [4, "deny"],
    ],
  );
  assert.ok(bash?.text.includes("touch made"));
  assert.equal(bash?.selected, 1);
  assert.equal(questionOnScreen(screenOf("permission-fetch"), VERSION)?.amendKeys, null);
});

test("a version that was not recorded has no questions and no turns", () => {
  for (const version of ["2.1.197", "2.1.330", "", null]) {
    assert.equal(questionOnScreen(screenOf("permission-bash"), version), null);
    assert.equal(turnOnScreen(screenOf("working"), version), null);
  }
});

test("what the agent wrote above is no question, and what is not whole is none", () => {
  const real = screenOf("permission-bash");
  const menu = real.slice(real.indexOf(" Do you want to proceed?"));
  const changed: ReadonlyArray<readonly [string, string]> = [
    ["the same words in a conversation with the box open", `${menu}\n${screenOf("idle")}`],
    ["the same words above another dialog", `${real}\n${screenOf("question")}`],
    ["another footer", real.replace("Tab to amend", "Tab to accept all")],
    ["text below the menu", `${real}\nsomething else`],
    ["no mark", real.replace("❯ 1. Yes", "  1. Yes")],
    ["two marks", real.replace("  2. Yes", "❯ 2. Yes")],
    ["a number left out", real.replace("   3. Yes", "   5. Yes")],
    ["a denial that does something else", real.replace("4. No", "4. No, and delete it")],
    ["two ways to allow", real.replace(/2\. Yes, .*/, "2. Yes")],
    ["another sentence", real.replace("Do you want to proceed?", "Do you want to pay?")],
    ["no rule above", real.replaceAll("─", "-")],
  ];
  for (const [what, screen] of changed) {
    assert.equal(questionOnScreen(screen, VERSION), null, what);
  }
});

test("the question stays the same whatever is selected in it, and is another one for another command", () => {
  const real = screenOf("permission-bash");
  const moved = real.replace("❯ 1. Yes", "  1. Yes").replace("  4. No", "❯ 4. No");
  const [one, two] = [real, moved].map((screen) => questionOnScreen(screen, VERSION));
  assert.equal(two?.selected, 4);
  assert.equal(one?.fingerprint, two?.fingerprint);
  const other = questionOnScreen(real.replaceAll("touch made", "touch more"), VERSION);
  assert.notEqual(other?.fingerprint, one?.fingerprint);
});

test("words are a denial's only when they stand there whole, alone and with nothing to amend", () => {
  const real = screenOf("permission-bash").replace("❯ 1. Yes", "  1. Yes");
  const open = (label: string) =>
    real
      .replace("  4. No", `❯ 4. ${label}`)
      .replace("Esc to cancel · Tab to amend", "Esc to cancel");
  assert.ok(takesWords(open("No, and tell Claude what to do differently"), VERSION));
  assert.ok(!takesWords(open("No"), VERSION));
  assert.ok(!takesWords(open("No, and tell Claude what to do differently"), "2.1.330"));
  assert.ok(!takesWords(screenOf("permission-bash"), VERSION));
  assert.ok(
    hasAmended(open("No, use the other\n      database"), VERSION, "use the other database"),
  );
  assert.ok(!hasAmended(open("No, use the other"), VERSION, "use the other database"));
  assert.ok(!hasAmended(open("No, use it all"), VERSION, "use it"));
  assert.ok(!hasAmended(real.replace("  4. No", "❯ 4. No, use it"), VERSION, "use it"));
});

test("a turn is on the screen only below an open box", () => {
  assert.equal(turnOnScreen(screenOf("working"), VERSION), "esc to interrupt");
  assert.equal(turnOnScreen(screenOf("idle"), VERSION), null);
  assert.equal(turnOnScreen(screenOf("permission-bash"), VERSION), null);
  const talk = screenOf("idle").replace("All done.", "press esc to interrupt");
  assert.equal(turnOnScreen(talk, VERSION), null);
});

test("the version is the registry's, or not known", () => {
  assert.equal(versionOf('{"pid":1,"version":"2.1.329"}'), "2.1.329");
  for (const text of ["", "{}", "[]", '{"version":1}', "nonsense"])
    assert.equal(versionOf(text), null);
});
