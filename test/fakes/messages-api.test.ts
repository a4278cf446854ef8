import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { startMessagesApi } from "./messages-api.ts";
import type { MessagesApi, MessagesApiOptions } from "./messages-api.ts";
import { directives } from "./messages-script.ts";

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly retryAfter: string | null;
}

const user = (content: unknown) => ({ role: "user", content });
const assistant = (text: string) => ({ role: "assistant", content: [{ type: "text", text }] });

async function ask(api: MessagesApi, messages: readonly unknown[], stream = true): Promise<Answer> {
  const response = await fetch(`${api.url}/v1/messages?beta=true`, {
    method: "POST",
    headers: { "x-claude-code-session-id": "s1" },
    body: JSON.stringify({ model: "m", stream, messages }),
  });
  const { status } = response;
  return { status, text: await response.text(), retryAfter: response.headers.get("retry-after") };
}

async function withApi(
  options: MessagesApiOptions,
  check: (api: MessagesApi) => Promise<void>,
): Promise<void> {
  await using api = await startMessagesApi(options);
  await check(api);
}

test("directives are the outermost brackets, in order", () => {
  const text = "do [[bash echo [x]]] and [[agent [[text a]] b]] ]] [[text end]]";
  assert.deepEqual(directives(text), ["bash echo [x", "agent [[text a]] b", "text end"]);
});

test("a prompt's directives are answered one by one, then the ending", () =>
  withApi({ ending: "The end." }, async (api) => {
    const prompt = user("[[bash ls]] [[text one]]");
    const first = await ask(api, [prompt]);
    assert.match(first.text, /"type":"tool_use".*"name":"Bash"/);
    assert.match(first.text, /event: message_stop/);
    const result = user([{ type: "tool_result", tool_use_id: "t", content: "README" }]);
    assert.match((await ask(api, [prompt, assistant(""), result])).text, /"text":"one"/);
    const more = [prompt, assistant(""), result, assistant(""), user([])];
    assert.match((await ask(api, more)).text, /"text":"The end."/);
    assert.deepEqual(api.requests.at(-1)?.toolResults, ["README"]);
    assert.equal(api.requests[0]?.answered, "tool Bash");
    assert.equal(api.requests[0]?.session, "s1");
  }));

test("reminders are no prompts, and the last prompt of a merged message counts", () =>
  withApi({}, async (api) => {
    const blocks = [
      { type: "text", text: "<system-reminder>[[status 500]]</system-reminder>" },
      { type: "text", text: "[[status 400]]" },
      { type: "text", text: "[[text last]]" },
    ];
    const answer = await ask(api, [user(blocks)]);
    assert.match(answer.text, /"text":"last"/);
    assert.deepEqual(api.prompts(), ["[[status 400]]", "[[text last]]"]);
  }));

test("an error can come every time, or a few times and then no more", () =>
  withApi({}, async (api) => {
    assert.equal((await ask(api, [user("[[status 529 busy]]")])).status, 529);
    assert.match((await ask(api, [user("[[status 529 busy]]")])).text, /overloaded_error.*busy/);
    const statuses = [];
    for (let count = 0; count < 3; count += 1)
      statuses.push((await ask(api, [user("[[fail 500 2]] [[text ok]]")])).status);
    assert.deepEqual(statuses, [500, 500, 200]);
    assert.equal((await ask(api, [user("[[retry-after 7]]")])).retryAfter, "7");
  }));

test("a call without stream gets the whole message at once", () =>
  withApi({}, async (api) => {
    const message = JSON.parse((await ask(api, [user("[[text hi]]")], false)).text) as object;
    assert.ok("content" in message && JSON.stringify(message.content).includes("hi"));
  }));

test("a dropped and a cut answer end in an error of the connection", () =>
  withApi({}, async (api) => {
    await assert.rejects(ask(api, [user("[[drop]]")]));
    await assert.rejects(ask(api, [user("[[cut]]")]));
  }));

test("a hanging answer does not keep the stub from closing", async () => {
  const api = await startMessagesApi();
  const hung = assert.rejects(ask(api, [user("[[hang]]")]));
  await until(api);
  await api[Symbol.asyncDispose]();
  await hung;
});

async function until(api: MessagesApi): Promise<void> {
  while (api.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
}

test("a scenario function is asked before the directives", () =>
  withApi(
    { scenario: ({ prompt }) => ({ kind: "text", text: `heard ${prompt}` }) },
    async (api) => {
      assert.match((await ask(api, [user("[[status 500]]x")])).text, /heard \[\[status 500\]\]x/);
    },
  ));

test("with work, a prompt without directives becomes a commit", () =>
  withApi({ work: true }, async (api) => {
    const { text } = await ask(api, [user("fix 'the' bug; $(rm)")]);
    assert.match(text, /git add NOTES.md/);
    assert.ok(!text.includes("$(rm)"));
  }));

test("run as a program it prints its address, answers, and ends when told", async () => {
  const child = spawn(process.execPath, [join(import.meta.dirname, "messages-api.ts"), "--work"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout });
  const [url] = (await once(lines, "line")) as [string];
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+$/);
  const answer = await fetch(`${url}/__requests`);
  assert.deepEqual(await answer.json(), []);
  child.kill("SIGTERM");
  const [code] = (await once(child, "exit")) as [number];
  assert.equal(code, 0);
});
