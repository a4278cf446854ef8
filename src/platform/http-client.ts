import { request } from "undici";
import type { z } from "zod";

export interface HttpRequest<Body extends z.ZodType> {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  readonly url: string;
  /** May hold secrets; never logged, never in an error. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  /** Covers connection, answer and body together. */
  readonly timeoutMs: number;
  /** What the body of a 2xx answer must be. */
  readonly body: Body;
  readonly signal?: AbortSignal;
}

export type HttpAnswer<Body> =
  | { readonly kind: "ok"; readonly status: number; readonly body: Body }
  /** Another status; `text` is the start of the body. */
  | {
      readonly kind: "status";
      readonly status: number;
      readonly text: string;
      readonly retryAfterMs: number | null;
    }
  /** A 2xx answer that is not what was asked for. */
  | { readonly kind: "malformed"; readonly status: number }
  /** No answer: refused, timed out, cut. */
  | { readonly kind: "unreachable"; readonly why: string };

const MAX_TEXT = 2_000;

/**
 * One JSON request over undici, parsed with zod at the edge. Every outcome is a value: it throws nothing but the signal's reason. Redirects are not
 * followed, so that a credential goes nowhere else.
 */
export async function requestJson<Body extends z.ZodType>(
  input: HttpRequest<Body>,
): Promise<HttpAnswer<z.output<Body>>> {
  const deadline = AbortSignal.timeout(input.timeoutMs);
  const signal = input.signal === undefined ? deadline : AbortSignal.any([deadline, input.signal]);
  try {
    const answer = await request(input.url, {
      method: input.method,
      signal,
      headers: {
        accept: "application/json",
        ...(input.json === undefined ? {} : { "content-type": "application/json" }),
        ...input.headers,
      },
      ...(input.json === undefined ? {} : { body: JSON.stringify(input.json) }),
    });
    const text = await answer.body.text();
    const status = answer.statusCode;
    if (status < 200 || status > 299) {
      return {
        kind: "status",
        status,
        text: text.slice(0, MAX_TEXT),
        retryAfterMs: retryAfter(answer.headers["retry-after"]),
      };
    }
    const parsed = input.body.safeParse(parseJson(text));
    return parsed.success
      ? { kind: "ok", status, body: parsed.data }
      : { kind: "malformed", status };
  } catch (error) {
    input.signal?.throwIfAborted();
    return {
      kind: "unreachable",
      why: deadline.aborted ? "it did not answer in time" : codeOf(error),
    };
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Seconds, as APIs send it; a date is not understood. */
function retryAfter(header: string | string[] | undefined): number | null {
  const seconds = Number(Array.isArray(header) ? header[0] : header);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1_000 : null;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "the connection failed";
}
