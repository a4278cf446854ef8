import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { scripted, workCommand } from "./messages-script.ts";
import type { Call, Reply, Scenario } from "./messages-script.ts";
import { sendStatus, sse, sseEvents, wholeMessage } from "./messages-wire.ts";

/** One request that reached the stub. */
export interface RecordedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly session: string;
  readonly agent: string | null;
  /** Every text that came as a prompt in this conversation, oldest first, without reminders and tool results. */
  readonly prompts: readonly string[];
  /** Results of tools, as text, oldest first. */
  readonly toolResults: readonly string[];
  readonly model: string;
  /** What was answered: `text`, `tool Bash`, `status 500` ... */
  readonly answered: string;
}

export interface MessagesApi extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`: the value of ANTHROPIC_BASE_URL. */
  readonly url: string;
  readonly requests: readonly RecordedRequest[];
  /** Texts the model was given as prompts, over all conversations, each once and in order of arrival. */
  prompts(): string[];
}

export interface MessagesApiOptions {
  readonly port?: number;
  /** Asked first; undefined: the directives of the prompt decide (messages-script.ts). */
  readonly scenario?: Scenario;
  /** What is said when the directives are used up. */
  readonly ending?: string;
  /** Status of what is asked beside messages, e.g. the list of models; default 200. */
  readonly otherStatus?: (request: IncomingMessage) => number;
  /** A prompt without directives makes a small commit in the working folder. */
  readonly work?: boolean;
}

const MAX_BODY_BYTES = 64 * 1024 * 1024;

/**
 * A stub of the Messages API on 127.0.0.1, enough for the real Claude Code CLI: `POST /v1/messages` streams the answer that the
 * prompt or `scenario` asks for. `GET /__requests` gives the recorded requests as JSON to another process.
 */
export async function startMessagesApi(options: MessagesApiOptions = {}): Promise<MessagesApi> {
  const requests: RecordedRequest[] = [];
  const repeats = new Map<string, number>();
  const stopping = new AbortController();
  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });

  async function handle(request: IncomingMessage, response: ServerResponse) {
    const path = (request.url ?? "/").split("?")[0] ?? "/";
    if (request.method === "GET" && path === "/__requests") return json(response, requests);
    if (request.method !== "POST" || path !== "/v1/messages") {
      record(requests, request, null, "none");
      if (path === "/v1/messages/count_tokens") return json(response, { input_tokens: 100 });
      response.writeHead(options.otherStatus?.(request) ?? 200).end();
      return undefined;
    }
    const call = readCall(request, JSON.parse(await bodyOf(request)) as Record<string, unknown>);
    const key = JSON.stringify([call.session, call.agent, call.prompt, call.answers]);
    const seen = repeats.get(key) ?? 0;
    repeats.set(key, seen + 1);
    const reply = choose({ ...call, repeats: seen }, options);
    record(requests, request, call, describe(reply));
    if (reply.delayMs !== undefined && reply.delayMs > 0) await pause(reply.delayMs);
    await send(response, reply, call, requests.length);
    return undefined;
  }

  const pause = async (ms: number) => {
    await delay(ms, undefined, { signal: stopping.signal });
  };

  async function send(response: ServerResponse, reply: Reply, call: Call, number: number) {
    const model = modelOf(call);
    switch (reply.kind) {
      case "status":
        return sendStatus(response, reply);
      case "hang":
        return undefined;
      case "drop":
        return response.destroy();
      case "cut":
      case "stream-error": {
        if (call.body["stream"] !== true)
          return sendStatus(response, { kind: "status", status: 500 });
        response.writeHead(200, { "content-type": "text/event-stream" });
        const events = sseEvents({ kind: "text", text: "partly" }, model, `${number}`, pause);
        for (let count = 0; count < 4; count += 1) {
          const next = await events.next();
          if (next.done !== true) response.write(next.value);
        }
        if (reply.kind === "cut") return response.destroy();
        const error = { type: "api_error", message: "stub error within the stream" };
        return response.end(sse("error", { error }));
      }
      default: {
        if (call.body["stream"] !== true)
          return json(response, wholeMessage(reply, model, `${number}`));
        response.writeHead(200, {
          "content-type": "text/event-stream",
          "cache-control": "no-cache",
        });
        for await (const event of sseEvents(reply, model, `${number}`, pause))
          response.write(event);
        return response.end();
      }
    }
  }

  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port ?? 0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    prompts: () => [...new Set(requests.flatMap((request) => request.prompts))],
    [Symbol.asyncDispose]: async () => {
      stopping.abort();
      server.closeAllConnections();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}

function choose(call: Call, options: MessagesApiOptions): Reply {
  const chosen = options.scenario?.(call);
  if (chosen !== undefined) return chosen;
  const plain = !call.prompt.includes("[[") && !call.prompt.startsWith("<");
  if (options.work === true && plain && call.answers === 0) {
    const input = { command: workCommand(call.prompt), description: "Do the work" };
    return { kind: "tool", tools: [{ name: "Bash", input }] };
  }
  return scripted(call, options.ending ?? "Done.");
}

const modelOf = ({ body }: Call): string => {
  const { model } = body;
  return typeof model === "string" ? model : "";
};

interface Block {
  readonly type?: string;
  readonly text?: string;
  readonly content?: unknown;
}

interface Message {
  readonly role: string;
  readonly content: string | readonly Block[];
}

const messagesOf = (body: Readonly<Record<string, unknown>>) =>
  (body["messages"] ?? []) as readonly Message[];

const blocksOf = (message: Message): readonly Block[] =>
  typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content;

const REMINDER = /<system-reminder>[\s\S]*?<\/system-reminder>\n?/g;

/** Prompt texts of one message: text blocks of the user that hold more than reminders. */
function promptsIn(message: Message): string[] {
  if (message.role !== "user") return [];
  return blocksOf(message)
    .filter((block) => block.type === "text")
    .map((block) => (block.text ?? "").replaceAll(REMINDER, ""))
    .filter((text) => text.trim() !== "" && !text.startsWith("[Request interrupted"));
}

function readCall(request: IncomingMessage, body: Record<string, unknown>): Call {
  const messages = messagesOf(body);
  const last = messages.findLastIndex((message) => promptsIn(message).length > 0);
  const lastMessage = messages[last];
  const prompt = lastMessage === undefined ? "" : (promptsIn(lastMessage).at(-1) ?? "");
  const answers = messages.slice(last + 1).filter(({ role }) => role === "assistant").length;
  return { ...callers(request), prompt, answers, repeats: 0, body };
}

function callers(request: IncomingMessage): { session: string; agent: string | null } {
  const one = (name: string) => request.headers[name]?.toString() ?? null;
  return { session: one("x-claude-code-session-id") ?? "", agent: one("x-claude-code-agent-id") };
}

function record(
  requests: RecordedRequest[],
  request: IncomingMessage,
  call: Call | null,
  answered: string,
): void {
  const messages = call === null ? [] : messagesOf(call.body);
  requests.push({
    method: request.method ?? "",
    path: request.url ?? "",
    headers: Object.fromEntries(
      Object.entries(request.headers).map(([name, value]) => [name, String(value)]),
    ),
    ...callers(request),
    prompts: messages.flatMap(promptsIn),
    toolResults: messages.flatMap((message) =>
      blocksOf(message)
        .filter((block) => block.type === "tool_result")
        .map((block) => textOf(block.content)),
    ),
    model: call === null ? "" : modelOf(call),
    answered,
  });
}

const textOf = (content: unknown): string =>
  typeof content === "string"
    ? content
    : Array.isArray(content)
      ? content.map((block: Block) => block.text ?? "").join("")
      : "";

function describe(reply: Reply): string {
  switch (reply.kind) {
    case "tool":
      return `tool ${reply.tools.map(({ name }) => name).join(" ")}`;
    case "status":
      return `status ${reply.status}`;
    default:
      return reply.kind;
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw new Error("request body too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "0" },
      ending: { type: "string" },
      work: { type: "boolean", default: false },
    },
  });
  const api = await startMessagesApi({
    port: Number(values.port),
    work: values.work,
    ...(values.ending === undefined ? {} : { ending: values.ending }),
  });
  console.log(api.url);
  const end = async () => {
    await api[Symbol.asyncDispose]();
    process.exit(0);
  };
  process.once("SIGTERM", () => void end());
  process.once("SIGINT", () => void end());
}
