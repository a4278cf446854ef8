import { isFields, numberField, objectField, parseObject, textField } from "../fields.ts";
import type { Fields } from "../fields.ts";
import type { Usage } from "../runtime.ts";

const SYNTHETIC_MODEL = "<synthetic>";

interface Count {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheWriteTokens: number;
  readonly model: string | null;
}

/**
 * Tokens of a transcript (JSON lines). Each content block has a line of its own that repeats its message's usage, so a message id counts once,
 * with its last line; lines of unknown shape and the CLI's own error messages are skipped. Cost is the last `cost-state`, which the CLI writes at its exit.
 */
export function usageOfTranscript(transcript: string): Usage | null {
  const messages = new Map<string, Count>();
  let costUsd: number | null = null;
  for (const text of transcript.split("\n")) {
    const line = text.startsWith("{") ? parseObject(text) : null;
    if (line === null) continue;
    if (line["type"] === "cost-state") costUsd = costOf(line) ?? costUsd;
    const message = line["type"] === "assistant" ? objectField(line, "message") : null;
    const id = message === null ? null : textField(message, "id");
    const count = message === null ? null : countMessage(message);
    if (id !== null && count !== null) messages.set(id, count);
  }
  if (messages.size === 0 && costUsd === null) return null;
  const counts = [...messages.values()];
  const sum = (key: Exclude<keyof Count, "model">) =>
    counts.reduce((total, count) => total + count[key], 0);
  return {
    inputTokens: sum("inputTokens"),
    outputTokens: sum("outputTokens"),
    cacheReadTokens: sum("cacheReadTokens"),
    cacheWriteTokens: sum("cacheWriteTokens"),
    costUsd,
    model: counts.findLast((count) => count.model !== null)?.model ?? null,
  };
}

function countMessage(message: Fields): Count | null {
  const usage = message["usage"];
  const model = textField(message, "model");
  if (!isFields(usage) || model === SYNTHETIC_MODEL) return null;
  const tokens = (key: string) => Math.max(0, Math.trunc(numberField(usage, key) ?? 0));
  return {
    inputTokens: tokens("input_tokens"),
    outputTokens: tokens("output_tokens"),
    cacheReadTokens: tokens("cache_read_input_tokens"),
    cacheWriteTokens: tokens("cache_creation_input_tokens"),
    model,
  };
}

function costOf(line: Fields): number | null {
  const usd = numberField(line, "totalCostUSD");
  return usd === null || usd < 0 ? null : usd;
}
