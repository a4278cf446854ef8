import assert from "node:assert/strict";
import { access, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { createClaudeRuntime } from "../../src/runtimes/claude/runtime.ts";
import { deriveStatus } from "../../src/runtimes/derive-status.ts";
import { runFile } from "../../src/runtimes/encode.ts";
import { hashText } from "../../src/runtimes/fold.ts";
import { isDelivered } from "../../src/runtimes/proof.ts";
import { startMessagesApi } from "../fakes/messages-api.ts";
import { NO_CREDIT } from "../fakes/messages-wire.ts";
import type { MessagesApi, MessagesApiOptions } from "../fakes/messages-api.ts";
import { agentWindow, isAlive } from "../support/agent-window.ts";
import type { AgentOptions, AgentWindow } from "../support/agent-window.ts";
import { claudeCli, cleanEnv, DUMMY_KEY_LAST20 } from "../support/claude-cli.ts";
import { until } from "../support/wait.ts";

const cli = await claudeCli();
const skip = cli.kind === "missing" ? cli.reason : false;
const runtime = createClaudeRuntime();

/** A turn is a second or two alone; the machine may be busy. */
const TIMEOUT_MS = 40_000;

type Options = Omit<Partial<AgentOptions>, "env"> & {
  api?: MessagesApiOptions;
  env?: (home: string, api: MessagesApi) => Record<string, string>;
};

/** Runs `check` with the real CLI in a window of its own and a stub of its own. */
async function withAgent(
  options: Options,
  check: (agent: AgentWindow, api: MessagesApi) => Promise<void>,
): Promise<void> {
  if (cli.kind === "missing") return;
  await using api = await startMessagesApi(options.api);
  await using agent = await agentWindow({
    runtime,
    program: cli.path,
    auth: { kind: "api-key", last20: DUMMY_KEY_LAST20 },
    mode: "default",
    ...options,
    env: (home) => options.env?.(home, api) ?? cleanEnv(home, api.url),
  });
  await check(agent, api);
}

const reaches = (agent: AgentWindow, status: string, what = status) =>
  agent.reaches((verdict) => verdict.status === status, what, TIMEOUT_MS);

const here = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

const SLEEP = `[[bash python3 -c "import time; time.sleep(60)" || perl -e "sleep 60"]]`;

describe("the real Claude Code CLI", { concurrency: 3, skip }, () => {
  const hostile: readonly (readonly [string, string])[] = [
    ["quotes, dollars and backticks", "a \"b\" 'c' `d` $(e) ${f} \\n %s # ! [[text ok]]"],
    ["tabs, blanks at both ends and newlines", "  \tone\n\n\ttwo\r\nthree  \n\n[[text ok]]\n \n"],
    [
      "scripts, emoji and joiners",
      "grün 漢字 👩‍👩‍👧 ❤️ می‌خواهم e\u0301 \u00a0 \ufffd \ue0b0 [[text ok]]",
    ],
    ["what is not seen", "\u202e\u200b\u00ad a\ufe0f \u{e0041} a\rb\u2028c \r\n [[text ok]]"],
    [
      "escape sequences and bells",
      "\u001b[31mred\u001b]0;t\u0007 \u0001 \b \u007f \u009b [[text ok]]",
    ],
    ["a shell command mark", "!ls [[text ok]]"],
    ["a flag", "--version [[text ok]]"],
    ["a backslash at the end", "[[text ok]] look at this\\"],
    ["a command", "/help [[text ok]]"],
    ["a word that quits", "exit"],
    ["many lines", `[[text ok]]\n${"line of text\n".repeat(9_000)}`],
  ];

  for (const [what, text] of hostile) {
    test(`is shown exactly what was encoded: ${what}`, () =>
      withAgent({}, async (agent, api) => {
        const message = await agent.start(text);
        assert.ok(message);
        await reaches(agent, "completed");
        const evidence = await agent.evidence();
        assert.ok(isDelivered(evidence, { ...hashText(message.sent), launch: 1 }));
        assert.equal(evidence.foreignTurn, false);
        assert.ok(
          api.prompts().some((prompt) => prompt.includes(message.sent.trim())),
          "the model was given it",
        );
      }));
  }

  test("starts without a dialog, ends a text turn, keeps the words and the cost", () =>
    withAgent({}, async (agent, api) => {
      await agent.start("[[text All is well.]]");
      const verdict = await reaches(agent, "completed");
      assert.equal(verdict.source, "hook");
      const evidence = await agent.evidence();
      assert.equal(evidence.summary, "All is well.");
      assert.equal(evidence.process?.value.alive, true);
      assert.match(evidence.transcriptPath ?? "", /\.jsonl$/);
      assert.equal(runtime.dialog(await agent.screen()), null);
      await until(async () => (await agent.screen()).includes("kite-1 run-test"), {
        what: "worker and run on the status line",
      });
      await until(async () => ((await agent.evidence()).costUsd ?? 0) > 0, { what: "the cost" });
      const transcript = await readFile(evidence.transcriptPath ?? "", "utf8");
      const { inputTokens, outputTokens, cacheReadTokens } = runtime.usage(transcript) ?? {};
      const calls = api.requests.filter(({ answered }) => answered === "text").length;
      assert.deepEqual(
        [inputTokens, outputTokens, cacheReadTokens],
        [100 * calls, 40 * calls, 300 * calls],
      );
    }));

  test("works unattended in the clone, also as root", () =>
    withAgent({ mode: "bypassPermissions" }, async (agent) => {
      await agent.start("[[bash echo made > made]] [[write other.txt words]]");
      await reaches(agent, "completed");
      assert.ok(await here(join(agent.cwd, "made")));
      assert.ok(await here(join(agent.cwd, "other.txt")));
    }));

  test("is blocked while it asks, running once allowed, completed in the end", () =>
    withAgent({}, async (agent) => {
      await agent.start(`[[bash touch made; python3 -c "import time; time.sleep(4)"]]`);
      const asks = await agent.reaches(
        ({ status, explain }) =>
          status === "blocked" && explain.join().includes("registry: waiting"),
        "the question",
        TIMEOUT_MS,
      );
      assert.equal(asks.reason, "asks: Bash");
      assert.equal(runtime.dialog(await agent.screen())?.id, "permission");
      assert.ok(!(await here(join(agent.cwd, "made"))));
      await agent.keys("Enter");
      const given = await reaches(agent, "running");
      assert.deepEqual([given.reason, given.source], ["permission given", "registry"]);
      await reaches(agent, "completed");
      assert.ok(await here(join(agent.cwd, "made")));
    }));

  test("is interrupted when a permission is denied", () =>
    withAgent({}, async (agent) => {
      await agent.start("[[bash touch made]]");
      await agent.reaches(
        ({ status, explain }) =>
          status === "blocked" && explain.join().includes("registry: waiting"),
        "the question",
        TIMEOUT_MS,
      );
      await agent.keys("Escape");
      const verdict = await reaches(agent, "interrupted");
      assert.deepEqual(
        [verdict.source, verdict.reason],
        ["registry", "permission denied or dismissed"],
      );
      assert.ok(!(await here(join(agent.cwd, "made"))));
    }));

  test("is interrupted by its interrupt keys, and a person's next prompt is a foreign turn", () =>
    withAgent({ mode: "bypassPermissions" }, async (agent) => {
      await agent.start(SLEEP);
      await agent.reaches(
        ({ explain }) => explain.join().includes("running (Bash)"),
        "the tool",
        TIMEOUT_MS,
      );
      assert.ok(runtime.interrupt.kind === "keys");
      await agent.keys(...runtime.interrupt.keys);
      const verdict = await reaches(agent, "interrupted");
      assert.deepEqual([verdict.source, verdict.reason], ["registry", "turn interrupted"]);
      await agent.keys("-l", "something else [[text fine]]");
      await until(async () => (await agent.screen()).includes("something else"), {
        what: "the typed text",
      });
      await agent.keys("Enter");
      await reaches(agent, "completed");
      assert.equal((await agent.evidence()).foreignTurn, true);
    }));

  const failures: readonly (readonly [string, string, string, string])[] = [
    ["500", "[[status 500]]", "error", "server_error: API Error: 500 Internal server error."],
    ["529", "[[status 529]]", "blocked", "API overloaded"],
    ["429", "[[status 429]]", "blocked", "rate limit"],
    ["401", "[[status 401]]", "blocked", "API key refused"],
    ["403", "[[status 403 no permission]]", "blocked", "credential refused"],
    ["400", "[[status 400 nobody knows this]]", "error", "unknown: API Error: 400 nobody knows"],
    [
      "a prompt too long",
      "[[status 400 prompt is too long: 250000 tokens > 200000 maximum]]",
      "error",
      "context exhausted",
    ],
    ["credit", `[[status 400 ${NO_CREDIT}]]`, "blocked", "credit balance too low"],
    ["cut stream", "[[stream-error]]", "error", "server_error: "],
  ];
  for (const [what, text, status, reason] of failures) {
    test(`a failed turn says why: ${what}`, () =>
      withAgent({}, async (agent) => {
        await agent.start(text);
        const verdict = await agent.reaches(
          (seen) =>
            seen.status === "error" || seen.status === "blocked" || seen.status === "completed",
          "the end of the turn",
          TIMEOUT_MS,
        );
        const shown = verdict.reason.slice(0, Math.max(reason.length, status === "error" ? 0 : 99));
        assert.deepEqual([verdict.status, shown, verdict.source], [status, reason, "hook"]);
      }));
  }

  // The program asks again by itself, with words of its own: each answer has to end so.
  for (const [stopReason, reason] of [
    ["refusal", "refused by the model"],
    ["max_tokens", "answer over its token limit"],
    ["model_context_window_exceeded", "context exhausted"],
  ] as const) {
    const scenario = () => ({ kind: "text", text: "partly said", stopReason }) as const;
    test(`a turn whose answers all end as ${stopReason} is no completion`, () =>
      withAgent({ api: { scenario } }, async (agent) => {
        await agent.start("a task");
        const verdict = await agent.reaches(
          (seen) => seen.status === "error" || seen.status === "completed",
          "the end of the turn",
          TIMEOUT_MS,
        );
        assert.deepEqual([verdict.status, verdict.reason], ["error", reason]);
      }));
  }

  test("a spent window is a limit until its end, and the program does not go on by itself then", () =>
    withAgent(
      {
        auth: { kind: "oauth-token" },
        env: (home, api) => {
          const { ANTHROPIC_API_KEY: token = "", ...env } = cleanEnv(home, api.url);
          return { ...env, CLAUDE_CODE_OAUTH_TOKEN: token };
        },
      },
      async (agent) => {
        const asked = Date.now();
        await agent.start("[[limit five_hour 900]]");
        const verdict = await reaches(agent, "blocked");
        assert.equal(verdict.reason, "5-hour usage limit");
        const { turn } = await agent.evidence();
        const endsIn = (turn?.value.cause?.until ?? 0) - asked;
        assert.ok(endsIn > 900_000 && endsIn < 990_000, `${endsIn} ms`);
        await until(async () => runtime.dialog(await agent.screen())?.id === "usage-limit", {
          what: "what the program asks at the limit",
        });
        assert.equal((await agent.status()).reason, "5-hour usage limit");
      },
    ));

  test("a passing server error is retried and no failure", () =>
    withAgent({}, async (agent) => {
      await agent.start("[[fail 529 1]] [[text made it]]");
      await reaches(agent, "completed");
      assert.equal((await agent.evidence()).summary, "made it");
    }));

  test("killed in a turn, it is an error at once and for ever", () =>
    withAgent({ mode: "bypassPermissions" }, async (agent) => {
      await agent.start("[[hang]]");
      await reaches(agent, "running");
      const pid = await agent.pid();
      process.kill(pid, "SIGKILL");
      await until(() => !isAlive(pid), { what: "its death" });
      const verdict = await reaches(agent, "error");
      assert.equal(verdict.source, "process");
      const context = { runState: "active", launchIntendedAt: Date.now(), launch: 1 } as const;
      const later = deriveStatus(await agent.evidence(), {
        ...context,
        now: Date.now() + 3_600_000,
      });
      assert.equal(later.status, "error");
    }));

  test("resumes its conversation after it was killed, as a new launch", () =>
    withAgent({}, async (agent, api) => {
      await agent.start("[[text first words]]");
      await reaches(agent, "completed");
      const transcript = (await agent.evidence()).transcriptPath ?? "";
      // The CLI writes it a moment after the end of the turn.
      const written = () => readFile(transcript, "utf8").catch(() => "");
      await until(async () => (await written()).includes("first words"), {
        what: "the transcript",
      });
      process.kill(await agent.pid(), "SIGKILL");
      await agent.reaches(({ source }) => source === "process", "its death", TIMEOUT_MS);
      const message = await agent.start("go on [[text second words]]", { resume: true });
      assert.ok(message);
      await agent.reaches(
        ({ status }, evidence) => status === "completed" && evidence.launch === 2,
        "the end of the second turn",
        TIMEOUT_MS,
      );
      const evidence = await agent.evidence();
      assert.ok(isDelivered(evidence, { ...hashText(message.sent), launch: 2 }));
      assert.equal(evidence.summary, "second words");
      const prompts = api.requests.at(-1)?.prompts ?? [];
      assert.ok(prompts.some((prompt) => prompt.includes("first words")));
    }));

  test("runs until its background work is done", () =>
    withAgent({ mode: "bypassPermissions" }, async (agent) => {
      await agent.start(`[[background python3 -c "import time; time.sleep(3)"]]`);
      const verdict = await agent.reaches(
        ({ reason }) => reason.startsWith("background work"),
        "background work",
        TIMEOUT_MS,
      );
      assert.equal(verdict.status, "running");
      await reaches(agent, "completed");
      const evidence = await agent.evidence();
      assert.equal(evidence.prompts.length, 2);
      assert.equal(evidence.foreignTurn, false);
    }));

  test("runs until its subagent is done, whose own end is not its end", () =>
    withAgent({ mode: "bypassPermissions" }, async (agent, api) => {
      await agent.start(`[[agent [[bash python3 -c "import time; time.sleep(2)"]] ]]`);
      await agent.reaches(
        ({ reason }) => reason.startsWith("background work"),
        "background",
        TIMEOUT_MS,
      );
      await reaches(agent, "completed");
      assert.ok(api.requests.some((request) => request.agent !== null));
    }));

  test("reads a task too large for an argument from its file without asking", () =>
    withAgent(
      {
        api: {
          scenario: ({ prompt, answers }) => {
            const path = /Read the file (\S+) and/.exec(prompt)?.[1];
            if (path === undefined || answers > 0) return undefined;
            return {
              kind: "tool",
              tools: [{ name: "Read", input: { file_path: path, limit: 3 } }],
            };
          },
        },
      },
      async (agent, api) => {
        const message = await agent.start(`the first line\n${"more and more\n".repeat(12_000)}`);
        assert.equal(message?.form, "file");
        await reaches(agent, "completed");
        const file = runFile({ runId: "run-test", home: agent.home }, "message-1");
        assert.ok(message.sent.includes(file));
        assert.match(api.requests.at(-1)?.toolResults.join() ?? "", /the first line/);
      },
    ));

  test("a start dialog is recognised, and blocked once the start took too long", () =>
    withAgent(
      { seed: false, env: (home) => cleanEnv(home, "http://127.0.0.1:9"), prepare: trustMissing },
      async (agent) => {
        await agent.start("[[text never]]");
        await until(async () => runtime.dialog(await agent.screen())?.id === "workspace-trust", {
          what: "the dialog",
          timeoutMs: TIMEOUT_MS,
        });
        assert.equal((await agent.status()).status, "starting");
        const now = Date.now() + 31_000;
        const context = { runState: "launched", launchIntendedAt: Date.now(), launch: 1 } as const;
        assert.equal(deriveStatus(await agent.evidence(), { ...context, now }).status, "blocked");
        assert.ok(isAlive(await agent.pid()));
      },
    ));

  test("a user's own hooks run beside ours, and their settings stay as they are", () =>
    withAgent({ prepare: ownHook }, async (agent) => {
      const settings = join(agent.home, ".claude", "settings.json");
      const before = await readFile(settings, "utf8");
      await agent.start("[[text ok]]");
      await reaches(agent, "completed");
      await until(() => here(join(agent.home, "own-hook-ran")), { what: "the user's hook" });
      assert.equal(await readFile(settings, "utf8"), before);
    }));
});

async function trustMissing(home: string): Promise<void> {
  const customApiKeyResponses = { approved: [DUMMY_KEY_LAST20], rejected: [] };
  const state = { hasCompletedOnboarding: true, customApiKeyResponses };
  await writeFile(join(home, ".claude.json"), JSON.stringify(state));
}

async function ownHook(home: string): Promise<void> {
  await mkdir(join(home, ".claude"));
  const hook = { type: "command", command: `touch ${join(home, "own-hook-ran")}` };
  const settings = { hooks: { Stop: [{ hooks: [hook] }] } };
  await writeFile(join(home, ".claude", "settings.json"), JSON.stringify(settings));
}
