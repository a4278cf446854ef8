import { createHash } from "node:crypto";
import { MAX_MESSAGE_BYTES } from "../domain/message.ts";
import type { Encoding } from "./runtime.ts";

/** The kernel takes 131,071 bytes as one argument (MAX_ARG_STRLEN less its NUL); the rest is margin. */
export const MAX_ARGUMENT_BYTES = 120_000;

export interface MessagePlace {
  readonly runId: string;
  readonly seq: number;
  /** The worker's `$HOME`, absolute. */
  readonly home: string;
}

/** Why no runtime can be given this text as an argument, or null. */
export function refuseText(text: string): string | null {
  if (text.trim() === "") return "the message is empty";
  if (text.includes("\0")) return "the message holds a NUL character, which no argument can carry";
  if (!text.isWellFormed())
    return "the message holds half a surrogate pair, which has no UTF-8 form";
  const bytes = Buffer.byteLength(text, "utf8");
  if (bytes > MAX_MESSAGE_BYTES)
    return `the message has ${bytes} bytes, more than the ${MAX_MESSAGE_BYTES} that are taken`;
  return null;
}

/** Absolute path of a file in the run's folder on the worker. */
export const runFile = (place: Pick<MessagePlace, "runId" | "home">, name: string): string =>
  `${place.home}/.orchestrator/runs/${place.runId}/${name}`;

/** A text that no argument can carry whole: the agent is told to read it from a file that holds it byte for byte. */
export function fileReference(text: string, place: MessagePlace): Encoding {
  const bytes = Buffer.byteLength(text, "utf8");
  const sha256 = createHash("sha256").update(text, "utf8").digest("hex");
  const path = runFile(place, `message-${place.seq}`);
  const sent =
    `Read the file ${path} and do what it says. It holds your task in the user's own words ` +
    `(${bytes} bytes, SHA-256 ${sha256}). Read all of it, in parts where needed.`;
  return { kind: "encoded", message: { form: "file", sent, file: text } };
}
