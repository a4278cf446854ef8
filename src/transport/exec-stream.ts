import type { CallScope } from "./call-scope.ts";
import { gather } from "./collect.ts";
import type { RunningCommand } from "./command.ts";
import type { Connection } from "./connection.ts";
import { splitLines } from "./lines.ts";
import type { ExecStream } from "./transport.ts";

const MAX_STDERR_BYTES = 64 * 1024;

/** SSH grants a channel 2 MiB ahead of the reader. A server that sends more breaks the protocol to fill our memory. */
const MAX_UNREAD_BYTES = 4 * 1024 * 1024;

/**
 * The command's stdout as it is read: nothing is taken from the channel before the reader asks, so a slow reader slows
 * the sender. Leaving a loop over it closes the command.
 */
export function execStream(
  command: RunningCommand,
  connection: Connection,
  scope: CallScope,
  stdin: string | Uint8Array | undefined,
): ExecStream {
  const { channel } = command;
  const stderr = gather(channel.stderr, MAX_STDERR_BYTES);
  const close = () => scope.end("closed");
  const guard = () => {
    if (channel.readableLength > MAX_UNREAD_BYTES) connection.socket.destroy();
  };
  connection.socket.on("data", guard);
  channel.end(stdin);

  const result = command.ended.then((end) => ({
    ...end,
    stdout: "",
    stderr: stderr.text(),
    truncated: stderr.truncated(),
  }));
  const settled = result.then(
    () => {},
    () => {},
  );
  void settled.then(() => connection.socket.off("data", guard));

  const bytes = read(command, close);
  return {
    bytes,
    lines: splitLines(bytes),
    result,
    close,
    [Symbol.asyncDispose]: () => {
      close();
      return settled;
    },
  };
}

async function* read(command: RunningCommand, close: () => void): AsyncGenerator<Uint8Array> {
  try {
    const chunks: AsyncIterable<Buffer> = command.channel.iterator({ destroyOnReturn: false });
    for await (const chunk of chunks) yield chunk;
    // The end of the bytes looks the same after a cut: only the end of the command tells.
    await command.ended;
  } finally {
    close();
  }
}
