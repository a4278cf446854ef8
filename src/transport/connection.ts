import type { CallScope } from "./call-scope.ts";
import type { Dial } from "./dial.ts";
import type { HostKeyPin } from "./host-key.ts";
import { jump } from "./jump.ts";
import { type Connection, dialFor, logIn, logInAt } from "./log-in.ts";
import type { ConnectSettings, Route } from "./transport.ts";

/**
 * Dials, checks the host key, logs in; with a route, at every hop. Rejects with the scope's reason: each way to fail has its own
 * `TransportFailure`.
 */
export async function connect(
  settings: ConnectSettings,
  pin: HostKeyPin,
  dial: Dial,
  scope: CallScope,
): Promise<Connection> {
  try {
    const { address, privateKey, keepaliveMs } = settings;
    if (settings.route !== undefined) {
      return await connectThrough(await settings.route(), keepaliveMs, dial, scope);
    }
    const socket = await dialFor(address, dial, scope);
    const login = {
      user: address.user,
      privateKeys: [privateKey],
      pin,
      hostKeyTypes: [],
      keepaliveMs,
    };
    return await logIn(socket, login, scope);
  } finally {
    scope[Symbol.dispose]();
  }
}

/** Jumps as far as the last hop and logs in there; the hops' connections end with the last one. */
async function connectThrough(
  route: Route,
  keepaliveMs: number,
  dial: Dial,
  scope: CallScope,
): Promise<Connection> {
  const jumps = await jump(route, keepaliveMs, dial, scope);
  try {
    const connection = await logInAt(jumps.target, jumps.socket, keepaliveMs, scope);
    connection.lost.addEventListener("abort", () => jumps.end(), { once: true });
    return connection;
  } catch (error) {
    jumps.end();
    throw error;
  }
}
