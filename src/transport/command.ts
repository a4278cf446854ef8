import type { ClientChannel } from "ssh2";

import type { CallScope } from "./call-scope.ts";
import type { Connection } from "./log-in.ts";

/** How a remote command ended, as the remote side said it. */
export interface CommandEnd {
  readonly code: number | null;
  readonly signal: string | null;
}

export interface RunningCommand {
  readonly channel: ClientChannel;
  /**
   * Resolves when the exit status came and both outputs were read to their end; rejects with the scope's reason, or
   * `connection_lost` when the channel closed without a status. Someone must read stdout and stderr.
   */
  readonly ended: Promise<CommandEnd>;
}

/** Starts `command` on its own channel. When the scope ends, the channel is closed and the rest of its output dropped. */
export function startCommand(
  connection: Connection,
  command: string,
  scope: CallScope,
): Promise<RunningCommand> {
  const { promise, resolve, reject } = Promise.withResolvers<RunningCommand>();
  // A call that is over must neither send nor leave a listener on the connection.
  scope.signal.throwIfAborted();
  scope.signal.addEventListener("abort", () => reject(scope.signal.reason));
  scope.watch(connection.lost, "connection_lost");
  scope.markSent();
  const onChannel = (error: Error | undefined, channel: ClientChannel) => {
    if (error !== undefined) {
      // A numeric reason is the server's answer to the channel request: the command was never sent.
      if (typeof Reflect.get(error, "reason") === "number") scope.markNotStarted();
      scope.end("refused", error);
      return;
    }
    const ended = waitForEnd(channel, scope);
    ended.catch(() => {});
    resolve({ channel, ended });
  };
  try {
    connection.client.exec(command, onChannel);
  } catch (error) {
    // ssh2 throws at once when its socket is not writable any more.
    scope.markNotStarted();
    scope.end("connection_lost", error);
  }
  return promise;
}

/** Called in the same tick as the channel opens: its exit status may already be on its way. */
function waitForEnd(channel: ClientChannel, scope: CallScope): Promise<CommandEnd> {
  const { promise, resolve, reject } = Promise.withResolvers<CommandEnd>();
  let end: CommandEnd | undefined;
  const giveUp = () => {
    reject(scope.signal.reason);
    abandon(channel);
  };
  channel.on("error", () => {});
  channel.on("exit", (code: number | null, signal?: string) => {
    end = { code, signal: signal ?? null };
  });
  channel.on("close", () => {
    if (end === undefined) scope.end("connection_lost");
    else resolve(end);
  });
  if (scope.signal.aborted) giveUp();
  else scope.signal.addEventListener("abort", giveUp);
  return promise;
}

function abandon(channel: ClientChannel): void {
  channel.stderr.resume();
  channel.resume();
  channel.close();
}
