import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";

import { parameterLines, parseJobLine } from "../../src/provisioner/job.ts";
import type { StepName } from "../../src/provisioner/provisioner.ts";
import { parseSaved } from "../../src/provisioner/work.ts";
import { isOrchestratorError } from "../support/errors.ts";

const STEPS: readonly StepName[] = ["owner", "clone"];
const parse = (text: string) => parseJobLine(text, STEPS);

test("every line of the contract is read", () => {
  const boot = "3be01ff2-757f-4cef-92a1-72851ce4eacb";
  assert.deepEqual(parse(`worker\t/home/a\t1000\t${boot}`), {
    kind: "worker",
    home: "/home/a",
    uid: 1000,
    bootId: boot,
  });
  assert.deepEqual(parse("start\tclone\t1763640000123"), { kind: "start", step: "clone" });
  assert.deepEqual(parse("fact\tclone\tbase\tabc"), {
    kind: "fact",
    step: "clone",
    key: "base",
    value: "abc",
  });
  assert.deepEqual(parse("done\tclone\t12"), { kind: "done", step: "clone", ms: 12 });
  assert.deepEqual(parse("skip\tclone\t12\twhy not"), {
    kind: "skip",
    step: "clone",
    ms: 12,
    why: "why not",
  });
  assert.deepEqual(parse("fail\tclone\t12\t40"), { kind: "fail", step: "clone", ms: 12, code: 40 });
  assert.deepEqual(parse("tail\tclone\ta\tb"), { kind: "tail", step: "clone", text: "a b" });
  assert.deepEqual(parse("end\t0"), { kind: "end", code: 0 });
  assert.deepEqual(parse("end\tlost"), { kind: "end", code: "lost" });
});

test("a line that is not exactly one of the contract is dropped", () => {
  for (const text of [
    "",
    "done",
    "done\tclone",
    "done\tclone\t-1",
    "done\tclone\t1e3",
    "done\tclone\t1\t2",
    "done\tsetup\t1",
    "done\tCLONE\t1",
    " done\tclone\t1",
    "fail\tclone\t1\tmany",
    "fact\tclone\t__proto__\tx",
    "fact\tclone\tBase\tx",
    "worker\trelative\t0\t3be01ff2-757f",
    "worker\t/home/\u001b[2J\t0\t3be01ff2-757f",
    "worker\t/home/a\troot\t3be01ff2-757f",
    "end\tLOST",
    "end\t",
    "start\tclone\tnow",
  ]) {
    assert.equal(parse(text), undefined, JSON.stringify(text));
  }
});

test("no line, however odd, throws or lets a control character through", () => {
  const word = fc.oneof(
    fc.constantFrom(
      "worker",
      "start",
      "fact",
      "done",
      "skip",
      "fail",
      "tail",
      "end",
      "clone",
      "owner",
      "12",
      "lost",
      "/h",
    ),
    fc.string({ unit: "binary" }),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 6 }), (fields) => {
      const line = parse(fields.join("\t"));
      for (const value of Object.values(line ?? {})) {
        if (typeof value === "string") assert.doesNotMatch(value, /\p{Cc}/u);
      }
    }),
  );
});

test("parameters end with END, and a value cannot add a line", () => {
  assert.equal(parameterLines({ REPO: "kite", BRANCH: "" }), "REPO=kite\nBRANCH=\nEND\n");
  for (const value of ["a\nEND", "a\rb", "a\0b"]) {
    assert.throws(() => parameterLines({ REPO: value }), isOrchestratorError("invalid_input"));
  }
});

test("what save prints is read strictly: an odd line is counted, a ref outside the snapshot is one", () => {
  const sha = "a".repeat(40);
  const prefix = "refs/orchestrator/run-1/1/1/";
  const { saved, dropped } = parseSaved(
    [
      `ref\t${prefix}head\t${sha}`,
      `ref\trefs/heads/main\t${sha}`,
      `ref\t${prefix}work\tnot-a-commit`,
      "skipped\tsecret\t.env",
      "unsaved\tunreadable\ta?b",
      `head\t${sha}`,
      "branch\tmain",
      `fingerprint\tf1-${"0".repeat(64)}`,
      "hello",
      "",
    ].join("\n"),
    prefix,
  );
  assert.deepEqual(saved, {
    refs: [{ name: `${prefix}head`, sha }],
    skipped: [{ why: "secret", path: ".env" }],
    unsaved: [{ why: "unreadable", path: "a?b" }],
    head: sha,
    branch: "main",
    fingerprint: `f1-${"0".repeat(64)}`,
  });
  assert.equal(dropped, 3);
});
