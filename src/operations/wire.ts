import { isUtf8 } from "node:buffer";
import { OrchestratorError, type WireError } from "../domain/errors.ts";

/*
 * What client and controller say to each other over the unix socket: one JSON object a line, UTF-8, LF.
 *
 *   request   {"v":1,"version":"0.1.0","id":1,"op":"run.show","input":{...}}
 *   answer    {"id":1,"value":...} | {"id":1,"error":{code,message,hint?,retryable,details}}
 *   stream    {"id":1,"item":...} any number of times, then {"id":1,"end":true} or an error
 *   cancel    {"id":1,"cancel":true}, answered by {"id":1,"end":true}; closing the connection cancels all of its requests
 *   pulse     {"pulse":true} while a request is being worked on: a controller that is silent for long is not well
 *
 * Requests of one connection run at the same time; answers come in any order. `id` is chosen by the client, and is free
 * again after its last answer. A line that is no request is answered with `"id":null` and the connection is closed.
 * `controller.ping` and `controller.stop` are answered whatever `v` and `version` say: a newer client can stop an older
 * controller. Loads nothing: every start of the CLI passes here.
 */

export const PROTOCOL = 1;

/** A task of 4 MiB whose every byte JSON writes as `\u0000`, and room for the rest. */
export const MAX_REQUEST_BYTES = 26 * 1024 * 1024;
/** What a client takes in one line: a patch of a run may be large. */
export const MAX_ANSWER_BYTES = 256 * 1024 * 1024;
/** How often a controller that works on a request says so. */
export const PULSE_MS = 2_000;
/** After this time without a byte, a controller that owes an answer counts as unreachable. */
export const SILENT_MS = 10_000;

/** Operations that every version answers to every other. */
export const ANSWERED_TO_ALL: ReadonlySet<string> = new Set(["controller.ping", "controller.stop"]);

export interface Call {
  readonly kind: "call";
  readonly v: number;
  readonly version: string | undefined;
  readonly id: number;
  readonly op: string;
  readonly input: unknown;
}

export type Request = Call | { readonly kind: "cancel"; readonly id: number };

export type Answer =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number | null; readonly error: WireError }
  | { readonly id: number; readonly item: unknown }
  | { readonly id: number; readonly end: true }
  | { readonly pulse: true };

export const encodeLine = (message: object): string => `${JSON.stringify(message)}\n`;

/**
 * Cuts a byte stream into lines: give it chunks, get the lines they complete, without their LF. Throws `invalid_input`
 * when a line grows beyond `maxBytes`; memory held never exceeds that and one chunk.
 */
export function lineCutter(maxBytes: number): (chunk: Buffer) => Buffer[] {
  let held: Buffer[] = [];
  let heldBytes = 0;
  return (chunk) => {
    const lines: Buffer[] = [];
    let start = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, start)) {
      const end = chunk.subarray(start, at);
      if (heldBytes + end.length > maxBytes) throw tooLong(maxBytes);
      lines.push(held.length === 0 ? end : Buffer.concat([...held, end]));
      held = [];
      heldBytes = 0;
      start = at + 1;
    }
    const rest = chunk.subarray(start);
    heldBytes += rest.length;
    if (heldBytes > maxBytes) throw tooLong(maxBytes);
    if (rest.length > 0) held.push(rest);
    return lines;
  };
}

/** Reads one request line; throws `invalid_input` for anything else. The operation's input is not looked at. */
export function parseRequest(line: Buffer): Request {
  const request = parseObject(line);
  const { id } = request;
  if (typeof id !== "number" || !Number.isSafeInteger(id) || id < 0) {
    throw garbage("'id' is no whole number from 0");
  }
  if (request["cancel"] === true) return { kind: "cancel", id };
  const { v, version, op, input } = request;
  if (typeof v !== "number") throw garbage("'v' is missing");
  if (typeof op !== "string") throw garbage("'op' is missing");
  return {
    kind: "call",
    v,
    version: typeof version === "string" ? version : undefined,
    id,
    op,
    input: input ?? {},
  };
}

/** Reads one answer line; throws `invalid_input` when it is none. */
export function parseAnswer(line: Buffer): Answer {
  const answer = parseObject(line);
  if (answer["pulse"] === true) return { pulse: true };
  const { id, error } = answer;
  if (isWireError(error) && (id === null || typeof id === "number")) return { id, error };
  if (typeof id !== "number") throw garbage("'id' is missing");
  if (answer["end"] === true) return { id, end: true };
  if ("item" in answer) return { id, item: answer["item"] };
  return { id, value: answer["value"] };
}

function parseObject(line: Buffer): Record<string, unknown> {
  if (!isUtf8(line)) throw garbage("it is no UTF-8");
  let value: unknown;
  try {
    value = JSON.parse(line.toString("utf8"));
  } catch (error) {
    throw garbage("it is no JSON", error);
  }
  if (!isRecord(value)) throw garbage("it is no JSON object");
  return value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isWireError(value: unknown): value is WireError {
  return (
    isRecord(value) &&
    typeof value["code"] === "string" &&
    typeof value["message"] === "string" &&
    isRecord(value["details"])
  );
}

function garbage(why: string, cause?: unknown): OrchestratorError {
  return new OrchestratorError("invalid_input", `a line on the socket was not understood: ${why}`, {
    cause,
  });
}

function tooLong(maxBytes: number): OrchestratorError {
  return new OrchestratorError(
    "invalid_input",
    `a line on the socket is longer than ${maxBytes} bytes`,
  );
}
