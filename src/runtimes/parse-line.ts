import { z } from "zod";
import { parseObject } from "./fields.ts";
import type { WorkerLine } from "./signal.ts";

/** A line of events.jsonl is under 4,000 bytes; far longer ones are not read at all. */
const MAX_LINE_LENGTH = 65_536;

/** Largest payload file that is worth fetching (bytes); what is larger is no prompt and no last word of an agent. */
export const MAX_PAYLOAD_BYTES = 16 * 1024 * 1024;

const MAX_TIME_MS = 8.64e15;

const envelope = z.object({
  v: z.literal(1),
  run: z.string().regex(/^[a-z0-9][a-z0-9-]{0,79}$/),
  launch: z.int().min(0).max(1_000_000),
  source: z.enum(["hook", "launcher", "guard", "shell"]),
  event: z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/),
  at: z.number().min(0).max(MAX_TIME_MS),
  up: z.number().min(0).max(MAX_TIME_MS),
  payload: z.record(z.string(), z.unknown()).optional(),
  payload_file: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/)
    .optional(),
  payload_bytes: z.int().min(0).optional(),
});

function parseEnvelope(raw: string): z.output<typeof envelope> | null {
  if (raw.length > MAX_LINE_LENGTH) return null;
  const parsed = envelope.safeParse(parseObject(raw));
  return parsed.success ? parsed.data : null;
}

/**
 * Parses one raw line of `events.jsonl`, which is hostile input; null when it is none. Strings of the payload stay as they
 * are: they are data here and cleaned where they are shown. `payloadText` is the content of the payload file
 * (`payloadFileOf`); without it, or when it is no JSON object, such a line has an empty payload.
 */
export function parseLine(raw: string, payloadText: string | null = null): WorkerLine | null {
  const line = parseEnvelope(raw);
  if (line === null) return null;
  const fromFile =
    line.payload_file === undefined || payloadText === null ? null : parseObject(payloadText);
  return {
    run: line.run,
    launch: line.launch,
    source: line.source,
    event: line.event,
    at: line.at,
    up: line.up,
    payload: fromFile ?? line.payload ?? {},
  };
}

/** The payload file that a raw line names (fetch it with `payload RUN NAME`), or null: none, or too large to fetch. */
export function payloadFileOf(raw: string): { name: string; bytes: number } | null {
  if (!raw.includes('"payload_file"')) return null;
  const line = parseEnvelope(raw);
  if (line?.payload_file === undefined) return null;
  const bytes = line.payload_bytes ?? 0;
  return bytes > MAX_PAYLOAD_BYTES ? null : { name: line.payload_file, bytes };
}
