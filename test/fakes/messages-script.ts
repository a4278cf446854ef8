/*
 * What the stub of the Messages API answers. A prompt says it itself with directives, one model call each, in order; when they
 * are used up, the turn ends with a short text. Text outside directives is ignored, so a real task can carry them.
 *
 *   [[text WORDS]]             ends the turn with these words          [[status 529 MESSAGE]]    HTTP error, every time
 *   [[bash COMMAND]]           Bash                                    [[fail 500 2]]            HTTP error twice, then goes on
 *   [[background COMMAND]]     Bash in the background                  [[retry-after 30]]        429 with that header
 *   [[write PATH CONTENT]]     Write (PATH without blanks)             [[hang]]                  no answer, socket open
 *   [[edit {JSON input}]]      Edit                                    [[drop]]                  socket cut before an answer
 *   [[tool NAME {JSON input}]] any tool                                [[cut]]                   socket cut within the stream
 *   [[agent PROMPT]]           Agent; PROMPT may hold directives       [[stream-error]]          error event within the stream
 *   [[work WORDS]]             writes NOTES.md and commits it          [[slow MS]] [[stream MS]] delay before / within the next answer
 *   [[stop REASON WORDS]]      words that end with this stop_reason    [[limit CLAIM SECONDS]]   429 of a usage limit that ends by then
 */

export type Reply =
  | {
      readonly kind: "text";
      readonly text: string;
      /** Default `end_turn`. */
      readonly stopReason?: string;
      readonly delayMs?: number;
      readonly streamMs?: number;
    }
  | {
      readonly kind: "tool";
      readonly tools: readonly {
        readonly name: string;
        readonly input: Readonly<Record<string, unknown>>;
      }[];
      readonly text?: string;
      readonly delayMs?: number;
      readonly streamMs?: number;
    }
  | {
      readonly kind: "status";
      readonly status: number;
      readonly message?: string;
      readonly headers?: Readonly<Record<string, string>>;
      readonly delayMs?: number;
    }
  | { readonly kind: "hang" | "drop" | "cut" | "stream-error"; readonly delayMs?: number };

/** One model call, as a scenario sees it. */
export interface Call {
  /** `x-claude-code-session-id`, and `x-claude-code-agent-id` of a subagent. */
  readonly session: string;
  readonly agent: string | null;
  /** The last text that came as a prompt, without reminders. */
  readonly prompt: string;
  /** Answers the model already gave to that prompt. */
  readonly answers: number;
  /** How often this very call came before (retries). */
  readonly repeats: number;
  readonly body: Readonly<Record<string, unknown>>;
}

export type Scenario = (call: Call) => Reply | undefined;

/** The directives of a text, outermost brackets only. */
export function directives(text: string): string[] {
  const found: string[] = [];
  let depth = 0;
  let start = 0;
  for (let at = 0; at < text.length - 1; at += 1) {
    const pair = text.slice(at, at + 2);
    if (pair === "[[") {
      if (depth === 0) start = at + 2;
      depth += 1;
      at += 1;
    } else if (pair === "]]" && depth > 0) {
      depth -= 1;
      if (depth === 0) found.push(text.slice(start, at).trim());
      at += 1;
    }
  }
  return found;
}

/** Answers by the directives of the prompt; `ending` is said when they are used up. */
export function scripted(call: Call, ending: string): Reply {
  let skip = call.answers;
  let delayMs = 0;
  let streamMs = 0;
  for (const directive of directives(call.prompt)) {
    const [word = "", ...parts] = directive.split(" ");
    const rest = directive.slice(word.length).trim();
    if (word === "slow" && skip === 0) delayMs += Number(rest);
    if (word === "stream" && skip === 0) streamMs += Number(rest);
    if (word === "slow" || word === "stream") continue;
    if (word === "fail") {
      const times = Number(parts[1] ?? 1);
      if (skip === 0 && call.repeats < times) return { kind: "status", status: Number(parts[0]) };
      continue;
    }
    if (skip > 0) {
      skip -= 1;
      continue;
    }
    return { ...answer(word, rest), delayMs, ...(streamMs > 0 ? { streamMs } : {}) };
  }
  return { kind: "text", text: ending, delayMs, ...(streamMs > 0 ? { streamMs } : {}) };
}

function answer(word: string, rest: string): Reply {
  const [first = "", ...others] = rest.split(" ");
  const after = others.join(" ");
  switch (word) {
    case "text":
      return { kind: "text", text: rest };
    case "bash":
      return tool("Bash", { command: rest, description: "Run a command" });
    case "background":
      return tool("Bash", { command: rest, description: "Run it", run_in_background: true });
    case "write":
      return tool("Write", { file_path: first, content: `${after}\n` });
    case "edit":
      return tool("Edit", JSON.parse(rest) as Record<string, unknown>);
    case "tool":
      return tool(first, JSON.parse(after) as Record<string, unknown>);
    case "agent":
      return tool("Agent", {
        description: "Helper",
        prompt: rest,
        subagent_type: "general-purpose",
      });
    case "work":
      return tool("Bash", { command: workCommand(rest), description: "Do the work" });
    case "status":
      return { kind: "status", status: Number(first), ...(after === "" ? {} : { message: after }) };
    case "retry-after":
      return { kind: "status", status: 429, headers: { "retry-after": first } };
    case "stop":
      return { kind: "text", text: after, stopReason: first };
    case "limit":
      return usageLimit(first, Number(after));
    case "hang":
    case "drop":
    case "cut":
    case "stream-error":
      return { kind: word };
    default:
      return { kind: "text", text: `unknown directive ${word}` };
  }
}

/** What the API answers when a subscription's window (`five_hour`, `seven_day` ...) is used up. */
export function usageLimit(claim: string, seconds: number): Reply {
  const reset = Math.ceil(Date.now() / 1_000) + seconds;
  return {
    kind: "status",
    status: 429,
    message: "This request would exceed your account's rate limit. Please try again later.",
    headers: {
      "retry-after": String(seconds),
      "x-should-retry": "false",
      "anthropic-ratelimit-unified-status": "rejected",
      "anthropic-ratelimit-unified-representative-claim": claim,
      "anthropic-ratelimit-unified-reset": String(reset),
    },
  };
}

const tool = (name: string, input: Readonly<Record<string, unknown>>): Reply => ({
  kind: "tool",
  tools: [{ name, input }],
});

/** A small real change: one line in NOTES.md, committed. */
export function workCommand(words: string): string {
  const line = words.replaceAll(/[^\p{L}\p{N} .,:-]/gu, "").slice(0, 100) || "work";
  return `printf '%s\\n' '${line}' >> NOTES.md && git add NOTES.md && git -c user.name=Agent -c user.email=agent@example.com commit -q -m 'Note: ${line.slice(0, 40)}'`;
}
