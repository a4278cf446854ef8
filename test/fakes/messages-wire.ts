import type { ServerResponse } from "node:http";
import type { Reply } from "./messages-script.ts";

/** Error `type` by status, as the API names them. */
const ERROR_TYPES: Readonly<Record<number, string>> = {
  400: "invalid_request_error",
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  500: "api_error",
  529: "overloaded_error",
};

const MESSAGES: Readonly<Record<number, string>> = {
  401: "invalid x-api-key",
  429: "This request would exceed your organization's rate limit",
  500: "Internal server error",
  529: "Overloaded",
};

export function sendStatus(response: ServerResponse, reply: Extract<Reply, { kind: "status" }>) {
  const type = ERROR_TYPES[reply.status] ?? "api_error";
  const message = reply.message ?? MESSAGES[reply.status] ?? `stub status ${reply.status}`;
  response.writeHead(reply.status, { "content-type": "application/json", ...reply.headers });
  response.end(JSON.stringify({ type: "error", error: { type, message } }));
}

/** What a key without money is told. */
export const NO_CREDIT =
  "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.";

type Block =
  | { type: "text"; text: string }
  | { type: "tool_use"; id: string; name: string; input: unknown };

function blocksOf(reply: Extract<Reply, { kind: "text" | "tool" }>, id: string): Block[] {
  if (reply.kind === "text") return [{ type: "text", text: reply.text }];
  const words: Block[] = reply.text === undefined ? [] : [{ type: "text", text: reply.text }];
  const tools = reply.tools.map(({ name, input }, index) => {
    return { type: "tool_use" as const, id: `toolu_${id}_${index}`, name, input };
  });
  return [...words, ...tools];
}

export const USAGE = {
  input_tokens: 100,
  cache_creation_input_tokens: 20,
  cache_read_input_tokens: 300,
  output_tokens: 40,
};

/** The whole message at once, for calls without `stream`. */
export function wholeMessage(
  reply: Extract<Reply, { kind: "text" | "tool" }>,
  model: string,
  id: string,
) {
  return {
    id: `msg_${id}`,
    type: "message",
    role: "assistant",
    model,
    content: blocksOf(reply, id),
    stop_reason: reply.kind === "tool" ? "tool_use" : (reply.stopReason ?? "end_turn"),
    stop_sequence: null,
    usage: USAGE,
  };
}

/** Server-sent events of one answer. `pause` is awaited between two pieces when the reply is to be slow. */
export async function* sseEvents(
  reply: Extract<Reply, { kind: "text" | "tool" }>,
  model: string,
  id: string,
  pause: (ms: number) => Promise<void>,
): AsyncGenerator<string> {
  const message = wholeMessage(reply, model, id);
  const start = {
    ...message,
    content: [],
    stop_reason: null,
    usage: { ...USAGE, output_tokens: 1 },
  };
  yield sse("message_start", { message: start });
  yield sse("ping", {});
  for (const [index, block] of message.content.entries()) {
    const empty = block.type === "text" ? { ...block, text: "" } : { ...block, input: {} };
    yield sse("content_block_start", { index, content_block: empty });
    const whole = block.type === "text" ? block.text : JSON.stringify(block.input);
    const pieces = cut(whole, reply.streamMs === undefined ? 1 : 20);
    for (const piece of pieces) {
      const delta =
        block.type === "text"
          ? { type: "text_delta", text: piece }
          : { type: "input_json_delta", partial_json: piece };
      yield sse("content_block_delta", { index, delta });
      if (reply.streamMs !== undefined) await pause(reply.streamMs / pieces.length);
    }
    yield sse("content_block_stop", { index });
  }
  const delta = { stop_reason: message.stop_reason, stop_sequence: null };
  yield sse("message_delta", { delta, usage: { output_tokens: USAGE.output_tokens } });
  yield sse("message_stop", {});
}

export const sse = (type: string, fields: Readonly<Record<string, unknown>>): string =>
  `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`;

function cut(text: string, count: number): string[] {
  const units = Array.from(text);
  const size = Math.max(1, Math.ceil(units.length / count));
  const pieces = [];
  for (let at = 0; at < units.length; at += size) pieces.push(units.slice(at, at + size).join(""));
  return pieces.length === 0 ? [""] : pieces;
}
