/** Longest line handed on, in bytes; what follows up to the newline is dropped. */
export const MAX_LINE_BYTES = 1024 * 1024;

const NEWLINE = 0x0a;

/** Cuts bytes into UTF-8 lines without their newline; invalid bytes become U+FFFD. A last line without newline counts. */
export async function* splitLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let parts: Uint8Array[] = [];
  let room = MAX_LINE_BYTES;
  const take = (part: Uint8Array) => {
    // A copy: a short piece must not keep its whole network buffer alive.
    if (room > 0 && part.length > 0) parts.push(Uint8Array.from(part.subarray(0, room)));
    room -= Math.min(room, part.length);
  };
  const line = () => {
    const text = Buffer.concat(parts).toString("utf8");
    parts = [];
    room = MAX_LINE_BYTES;
    return text;
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      take(chunk.subarray(start, end));
      yield line();
      start = end + 1;
    }
    take(chunk.subarray(start));
  }
  if (parts.length > 0) yield line();
}
