import type { Duplex } from "node:stream";
import ssh2, { type Algorithms, type Client, type PublicKeyAuthMethod } from "ssh2";

import { OrchestratorError } from "../domain/errors.ts";
import type { CallScope, Said } from "./call-scope.ts";
import { type Dial, describeHop } from "./dial.ts";
import { fingerprint, type HostKeyPin } from "./host-key.ts";
import type { Address, Hop, TransportFailure } from "./transport.ts";

/** One authenticated SSH connection. */
export interface Connection {
  readonly client: Client;
  readonly socket: Duplex;
  /** Aborts when the connection is over, with the cause as far as known. */
  readonly lost: AbortSignal;
}

/** How one server is logged in to. */
export interface Login {
  readonly user: string;
  readonly privateKeys: readonly string[];
  readonly pin: Pick<HostKeyPin, "accepts">;
  /** Asked for before others. */
  readonly hostKeyTypes: readonly string[];
  readonly keepaliveMs: number;
}

/** Elliptic curves first: a post-quantum exchange costs 60 ms of CPU a side; ed25519 first, so that the pinned key is the one shown. */
const KEX: NonNullable<Algorithms["kex"]> = [
  "curve25519-sha256",
  "curve25519-sha256@libssh.org",
  "ecdh-sha2-nistp256",
  "ecdh-sha2-nistp384",
  "ecdh-sha2-nistp521",
  "diffie-hellman-group16-sha512",
  "diffie-hellman-group14-sha256",
];

const HOST_KEY_TYPES = [
  "ssh-ed25519",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "rsa-sha2-512",
  "rsa-sha2-256",
] as const;

/** Every other way that dialling fails is `refused`. A reset is the answer of somebody who had accepted. */
const DIAL_FAILURES: ReadonlyMap<unknown, TransportFailure> = new Map([
  ["ETIMEDOUT", "timeout"],
  ["ECONNRESET", "handshake"],
]);

/** SSH_DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE (RFC 4253, 11.1). */
const NO_MORE_AUTH_METHODS = 14;

/** Called when an attempt has failed; only the first time counts. */
type Fail = (failure: TransportFailure, cause?: unknown, said?: Said) => void;

/** Logs in at one hop; when it shows another key, the error says which, and which was expected. */
export async function logInAt(
  hop: Hop,
  socket: Duplex,
  keepaliveMs: number,
  scope: CallScope,
): Promise<Connection> {
  let shown = "none";
  const pin = {
    accepts: (blob: Uint8Array) => {
      shown = fingerprint(blob);
      if (!hop.hostKeys.includes(shown)) return hop.onHostKey?.(shown, blob) === true;
      hop.onKnownKey?.(blob);
      return true;
    },
  };
  const { user, privateKeys, hostKeyTypes = [] } = hop;
  const fail: Fail = (failure, cause) => {
    if (failure === "host_key_changed") return scope.end(failure, cause, saidOfKey(hop, shown));
    scope.end(failure, cause, failure === "auth_failed" ? { hint: hop.howToLogIn } : {});
  };
  return logIn(socket, { user, privateKeys, pin, hostKeyTypes, keepaliveMs }, scope, fail);
}

function saidOfKey(hop: Hop, shown: string): Said {
  const known = hop.hostKeys.length === 0 ? "none" : hop.hostKeys.join(" or ");
  return {
    message: `${describeHop(hop)} shows the host key ${shown}, which is not the pinned one (${known})`,
    hint: hop.howToTrust?.(shown),
    details: { hop: hop.name, host_key_shown: shown, host_keys_pinned: hop.hostKeys },
  };
}

/** Speaks SSH over `socket`. `fail` ends the scope, with whose reason this then rejects. */
export async function logIn(
  socket: Duplex,
  login: Login,
  scope: CallScope,
  fail: Fail = (failure, cause) => scope.end(failure, cause),
): Promise<Connection> {
  // ssh2 listens with its own handlers; this one keeps an error between two of them from being thrown.
  socket.on("error", () => {});
  socket.setMaxListeners(0);
  const client = new ssh2.Client();
  const lost = new AbortController();
  const { promise, resolve, reject } = Promise.withResolvers<Connection>();
  let refusedKey = false;

  const giveUp = () => {
    socket.destroy();
    reject(scope.signal.reason);
  };
  if (scope.signal.aborted) giveUp();
  scope.signal.addEventListener("abort", giveUp);
  client.on("ready", () => resolve({ client, socket, lost: lost.signal }));
  client.on("error", (error) => {
    fail(refusedKey ? "host_key_changed" : failureOf(error), error);
    lost.abort(error);
    // A peer that broke the protocol need not close: nothing more is read from it.
    socket.destroy();
  });
  client.on("close", () => {
    fail("handshake");
    lost.abort();
  });
  try {
    client.connect({
      sock: socket,
      username: login.user,
      authHandler: login.privateKeys.map((key) => publicKeyLogin(login.user, key)),
      algorithms: { kex: KEX, serverHostKey: hostKeyOrder(login.hostKeyTypes) },
      hostVerifier: (key: Buffer) => {
        refusedKey = !login.pin.accepts(key);
        return !refusedKey;
      },
      readyTimeout: 0,
      keepaliveInterval: login.keepaliveMs,
      // ssh2 gives up one interval after the last of these went unanswered.
      keepaliveCountMax: 2,
    });
  } catch (cause) {
    socket.destroy();
    promise.catch(() => {});
    if (cause instanceof OrchestratorError) throw cause;
    throw new OrchestratorError("invalid_config", "the controller's SSH key cannot be used", {
      cause,
    });
  }
  return promise.finally(() => scope.signal.removeEventListener("abort", giveUp));
}

/** ssh2 passes over a key that it cannot read, and says in the end that the server refused. */
function publicKeyLogin(username: string, text: string): PublicKeyAuthMethod {
  const key = ssh2.utils.parseKey(text);
  if (key instanceof Error) {
    throw new OrchestratorError("invalid_config", "an SSH key cannot be used", { cause: key });
  }
  return { type: "publickey", username, key };
}

/** The known types first. An RSA key is shown under names of its own. */
function hostKeyOrder(known: readonly string[]): NonNullable<Algorithms["serverHostKey"]> {
  const isKnown = (type: string) =>
    known.includes(type) || (type.startsWith("rsa-sha2-") && known.includes("ssh-rsa"));
  return [...HOST_KEY_TYPES.filter(isKnown), ...HOST_KEY_TYPES.filter((type) => !isKnown(type))];
}

/** Opens the byte stream to an address; a failure ends the scope, with whose reason this then rejects. */
export async function dialFor(address: Address, dial: Dial, scope: CallScope): Promise<Duplex> {
  try {
    scope.signal.throwIfAborted();
    return await dial(address, scope.signal);
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
