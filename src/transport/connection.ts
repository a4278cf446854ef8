import type { Duplex } from "node:stream";
import ssh2, { type Algorithms, type Client } from "ssh2";

import { OrchestratorError } from "../domain/errors.ts";
import type { CallScope } from "./call-scope.ts";
import type { Dial } from "./dial.ts";
import type { HostKeyPin } from "./host-key.ts";
import type { ConnectSettings, TransportFailure } from "./transport.ts";

/** One authenticated SSH connection. */
export interface Connection {
  readonly client: Client;
  readonly socket: Duplex;
  /** Aborts when the connection is over, with the cause as far as known. */
  readonly lost: AbortSignal;
}

/** Elliptic curves first: a post-quantum exchange costs 60 ms of CPU a side; ed25519 first, so that the pinned key is the one shown. */
const ALGORITHMS: Algorithms = {
  kex: [
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
  ],
  serverHostKey: [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
  ],
};

/** Every other way that dialling fails is `refused`. A reset is the answer of somebody who had accepted. */
const DIAL_FAILURES: ReadonlyMap<unknown, TransportFailure> = new Map([
  ["ETIMEDOUT", "timeout"],
  ["ECONNRESET", "handshake"],
]);

/** SSH_DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE (RFC 4253, 11.1). */
const NO_MORE_AUTH_METHODS = 14;

/** Dials, checks the host key, logs in. Rejects with the scope's reason: each way to fail has its own `TransportFailure`. */
export async function connect(
  settings: ConnectSettings,
  pin: HostKeyPin,
  dial: Dial,
  scope: CallScope,
): Promise<Connection> {
  const socket = await dialFor(settings, dial, scope);
  // ssh2 listens with its own handlers; this one keeps an error between two of them from being thrown.
  socket.on("error", () => {});
  socket.setMaxListeners(0);
  const client = new ssh2.Client();
  const lost = new AbortController();
  const { promise, resolve, reject } = Promise.withResolvers<Connection>();
  let refusedKey = false;

  scope.signal.addEventListener("abort", () => {
    socket.destroy();
    reject(scope.signal.reason);
  });
  client.on("ready", () => resolve({ client, socket, lost: lost.signal }));
  client.on("error", (error) => {
    scope.end(refusedKey ? "host_key_changed" : failureOf(error), error);
    lost.abort(error);
    // A peer that broke the protocol need not close: nothing more is read from it.
    socket.destroy();
  });
  client.on("close", () => {
    scope.end("handshake");
    lost.abort();
  });
  try {
    client.connect({
      sock: socket,
      username: settings.address.user,
      privateKey: settings.privateKey,
      authHandler: ["publickey"],
      algorithms: ALGORITHMS,
      hostVerifier: (key: Buffer) => {
        refusedKey = !pin.accepts(key);
        return !refusedKey;
      },
      readyTimeout: 0,
      keepaliveInterval: settings.keepaliveMs,
      // ssh2 gives up one interval after the last of these went unanswered.
      keepaliveCountMax: 2,
    });
  } catch (cause) {
    socket.destroy();
    throw new OrchestratorError("invalid_config", "the controller's SSH key cannot be used", {
      cause,
    });
  }
  return promise.finally(() => scope[Symbol.dispose]());
}

async function dialFor(settings: ConnectSettings, dial: Dial, scope: CallScope): Promise<Duplex> {
  try {
    scope.signal.throwIfAborted();
    return await dial(settings.address, scope.signal);
  } catch (error) {
    if (error instanceof OrchestratorError) throw error;
    scope.end(DIAL_FAILURES.get(codeOf(error)) ?? "refused", error);
    throw scope.signal.reason;
  }
}

/** ssh2 says in `level` or `code` what went wrong; its texts are not looked at. */
function failureOf(error: unknown): TransportFailure {
  const level = property(error, "level");
  if (level === "client-authentication" || codeOf(error) === NO_MORE_AUTH_METHODS) {
    return "auth_failed";
  }
  return level === "client-timeout" ? "timeout" : "handshake";
}

const codeOf = (error: unknown): unknown => property(error, "code");

function property(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}
