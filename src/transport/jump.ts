import type { Duplex } from "node:stream";

import type { CallScope } from "./call-scope.ts";
import { type Connection, dialFor, logInAt } from "./log-in.ts";
import { type Dial, describeHop } from "./dial.ts";
import { HopSocket } from "./hop-socket.ts";
import type { Hop, Route } from "./transport.ts";

export interface Jumps {
  /** Leads to the target's SSH port. */
  readonly socket: Duplex;
  readonly target: Hop;
  /** Ends the connections to the jump hosts. */
  end(): void;
}

/** SSH_OPEN_CONNECT_FAILED (RFC 4254, 5.1): the jump host works, the other end does not. */
const CONNECT_FAILED = 2;

/**
 * Logs in at every jump host in turn, each through the one before, and opens the way to the target's port. What fails on the way ends
 * the scope and names the hop.
 */
export async function jump(
  [first, ...rest]: Route,
  keepaliveMs: number,
  dial: Dial,
  scope: CallScope,
): Promise<Jumps> {
  const passed: Connection[] = [];
  const end = () => {
    for (const { client, socket } of passed.toReversed()) {
      client.end();
      socket.destroy();
    }
  };
  let hop = first;
  try {
    scope.at(rest.length === 0 ? undefined : `jump host ${describeHop(hop)}`);
    const { host, port, user } = hop;
    let socket = await dialFor({ kind: "tcp", host, port, user }, dial, scope);
    for (const next of rest) {
      const connection = await logInAt(hop, socket, keepaliveMs, scope);
      passed.push(connection);
      socket = await forward(connection, hop, next, scope);
      hop = next;
      const isLast = next === rest.at(-1);
      scope.at(isLast ? undefined : `jump host ${describeHop(hop)}`);
    }
    return { socket, target: hop, end };
  } catch (error) {
    end();
    throw error;
  }
}

function forward({ client }: Connection, hop: Hop, next: Hop, scope: CallScope): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(scope.signal.reason);
    if (scope.signal.aborted) return giveUp();
    scope.signal.addEventListener("abort", giveUp, { once: true });
    const refuse = (error: unknown) => {
      const reason =
        typeof error === "object" && error !== null ? Reflect.get(error, "reason") : undefined;
      const details = { hop: hop.name };
      const way = `jump host ${describeHop(hop)}`;
      if (reason === CONNECT_FAILED) {
        scope.at(undefined);
        const message = `${describeHop(next)} cannot be reached from ${way}`;
        return scope.end("refused", error, { message, details });
      }
      const message = `${way} does not let us through to ${describeHop(next)}`;
      scope.end("jump_failed", error, { message, details });
    };
    try {
      client.forwardOut("127.0.0.1", 0, next.host, next.port, (error, channel) => {
        scope.signal.removeEventListener("abort", giveUp);
        if (scope.signal.aborted) {
          channel?.close();
          return giveUp();
        }
        if (error === undefined) return resolve(new HopSocket(channel));
        refuse(error);
        giveUp();
      });
    } catch (error) {
      // ssh2 throws at once when its socket is not writable any more.
      scope.end("connection_lost", error);
    }
  });
}
