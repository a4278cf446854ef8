import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type InitAnswers,
  type InitFacts,
  planInit,
  suggestedAnswers,
  suggestName,
} from "../../src/config/init.ts";
import { errorOf } from "./support.ts";

const FRESH: InitFacts = {
  configExists: false,
  repos: {},
  hasAuth: false,
  gitRemote: "https://me:tok-SECRET@github.com/team/Kite.js.git",
  claudeFound: true,
  credentials: ["ANTHROPIC_API_KEY"],
  keyExists: false,
};

const questions = (facts: InitFacts, answers: InitAnswers) => {
  const plan = planInit(facts, answers);
  return plan.kind === "ask" ? plan.questions.map(({ id, suggestion }) => [id, suggestion]) : [];
};

test("a fresh machine is asked for everything, with what is known as suggestion", () => {
  assert.deepEqual(questions(FRESH, {}), [
    ["url", "https://github.com/team/Kite.js.git"],
    ["repo", "kite-js"],
    ["credential", "api-key=env:ANTHROPIC_API_KEY"],
  ]);
  const bare = { ...FRESH, gitRemote: null, credentials: [] };
  assert.deepEqual(questions(bare, {}), [
    ["url", null],
    ["repo", null],
    ["credential", null],
  ]);
});

test("only what flags do not say is asked", () => {
  assert.deepEqual(questions(FRESH, { url: "/srv/lark", credential: "none" }), [["repo", "lark"]]);
  assert.deepEqual(questions(FRESH, { url: "/srv/lark", repo: "lark", runtime: "shell" }), []);
  const ready = { ...FRESH, repos: { kite: "x" }, hasAuth: true };
  assert.deepEqual(questions(ready, {}), []);
  assert.deepEqual(questions(ready, { repo: "lark" }), [
    ["url", "https://github.com/team/Kite.js.git"],
  ]);
});

test("the suggestions are answers that lead to a result", () => {
  const plan = planInit(FRESH, {});
  assert.ok(plan.kind === "ask");
  const done = planInit(FRESH, suggestedAnswers(plan.questions));
  assert.ok(done.kind === "ready");
  assert.deepEqual(done.result, {
    repo: { name: "kite-js", value: { url: "https://github.com/team/Kite.js.git" } },
    defaults: { auth: { kind: "api-key", secret: "env:ANTHROPIC_API_KEY" } },
    createsConfig: true,
    createsKey: true,
  });
  assert.deepEqual(done.notes, [
    "the controller reads the variable where it was started: cron may not have it",
  ]);
});

test("a machine that has everything is told so, and of the folder's repo if that is not configured", () => {
  const ready: InitFacts = {
    ...FRESH,
    configExists: true,
    keyExists: true,
    hasAuth: true,
    claudeFound: false,
    repos: { kite: "git@github.com:team/kite.js.git" },
  };
  const nothing = { repo: null, defaults: null, createsConfig: false, createsKey: false };
  const install = "claude is not in PATH here; workers install it themselves";
  assert.deepEqual(planInit(ready, {}), { kind: "ready", result: nothing, notes: [install] });
  assert.deepEqual(planInit({ ...ready, repos: { lark: "/srv/lark" } }, {}), {
    kind: "ready",
    result: nothing,
    notes: [
      "the repository of this folder is not configured: `orchestrator repo add` adds it",
      install,
    ],
  });
});

test("an answer that cannot be is refused without showing it", async () => {
  const good = { url: "/srv/lark", repo: "lark", credential: "none" };
  for (const [answers, message] of [
    [{ ...good, repo: "La rk" }, 'repo name "La rk" is not a valid name'],
    [{ ...good, credential: "sk-ant-SECRET" }, "the credential is not KIND=REFERENCE"],
    [
      { ...good, credential: "api-key=sk-ant-SECRET" },
      "answers: defaults.auth.secret must be env:NAME, file:PATH (absolute or ~/...) or cmd:COMMAND; never the secret itself",
    ],
    [{ ...good, credential: "api-key" }, "the credential is not KIND=REFERENCE"],
    [
      { ...good, url: "https://SECRET@h/a" },
      "answers: repos.lark.url must not hold a credential; use git.deployKey, or a credential helper on the workers",
    ],
  ] as const) {
    assert.equal((await errorOf(() => planInit(FRESH, answers))).message, message);
  }
});

test("names are made from the last part of a URL", () => {
  for (const [url, name] of [
    ["git@github.com:team/kite.git", "kite"],
    ["ssh://git@host:2222/team/My_Repo/", "my-repo"],
    ["host:kite", "kite"],
    ["/srv/git/kite.git", "kite"],
    [`/srv/${"k".repeat(39)}-x`, "k".repeat(39)],
    ["/srv/taken", null],
    ["https://h/é", null],
    ["", null],
  ] as const) {
    assert.equal(suggestName(url, ["taken"]), name, url);
  }
});
