import type { CallScope } from "./call-scope.ts";
import { gather } from "./collect.ts";
import type { RunningCommand } from "./command.ts";
import type { Connection } from "./log-in.ts";
import { splitLines } from "./lines.ts";
import type { ExecStream, StreamOptions } from "./transport.ts";

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
  stdin: StreamOptions["stdin"],
): ExecStream {
  const { channel } = command;
  const stderr = gather(channel.stderr, MAX_STDERR_BYTES);
  const close = () => scope.end("closed");
  const guard = () => {
    if (channel.readableLength > MAX_UNREAD_BYTES) connection.socket.destroy();
  };
  connection.socket.on("data", guard);
  if (stdin instanceof Promise) {
    stdin.then((bytes) => channel.end(bytes), close);
  } else channel.end(stdin);

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

  const bytes = read(command, connection, scope);
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

async function* read(
  command: RunningCommand,
  connection: Connection,
  scope: CallScope,
): AsyncGenerator<Uint8Array> {
  const chunks: AsyncIterator<Buffer> = command.channel.iterator({ destroyOnReturn: false });
  let cut: ((reason: unknown) => void) | undefined;
  // A server closes a channel only when its silent command ends. A lost connection ends the channel by itself, with what was received.
  const onAbort = () => {
    if (!connection.lost.aborted) cut?.(scope.signal.reason);
  };
  scope.signal.addEventListener("abort", onAbort);
  try {
    for (;;) {
      const { promise, reject } = Promise.withResolvers<never>();
      cut = reject;
      if (scope.signal.aborted) onAbort();
      const next = await Promise.race([chunks.next(), promise]);
      if (next.done === true) break;
      yield next.value;
    }
    // The end of the bytes looks the same after a cut: only the end of the command tells.
    await command.ended;
  } finally {
    scope.signal.removeEventListener("abort", onAbort);
    scope.end("closed");
  }
}
