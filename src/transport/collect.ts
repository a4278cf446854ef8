import type { Readable } from "node:stream";

import type { RunningCommand } from "./command.ts";
import type { ExecResult } from "./transport.ts";

/** Feeds stdin, gathers both outputs up to `maxBytes` each (the rest is read and dropped), waits for the end. */
export async function collect(
  command: RunningCommand,
  stdin: string | Uint8Array | undefined,
  maxBytes: number,
): Promise<ExecResult> {
  const { channel } = command;
  const stdout = gather(channel, maxBytes);
  const stderr = gather(channel.stderr, maxBytes);
  channel.end(stdin);
  const end = await command.ended;
  return {
    ...end,
    stdout: stdout.text(),
    stderr: stderr.text(),
    truncated: stdout.truncated() || stderr.truncated(),
  };
}

export interface Gathered {
  text(): string;
  truncated(): boolean;
}

/** Reads `stream` to its end and keeps the first `maxBytes`. A character cut in two by the limit is left out. */
export function gather(stream: Readable, maxBytes: number): Gathered {
  const chunks: Buffer[] = [];
  let room = maxBytes;
  let cut = false;
  stream.on("data", (chunk: Buffer) => {
    if (chunk.length > room) cut = true;
    if (room > 0) chunks.push(chunk.subarray(0, room));
    room -= Math.min(room, chunk.length);
  });
  return {
    text: () =>
      new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.concat(chunks), { stream: cut }),
    truncated: () => cut,
  };
}
