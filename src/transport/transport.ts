/*
 * The transport: reaches one worker over SSH and runs programs on it.
 *
 * An implementation guarantees:
 * - `exec` resolves only with proof that the command ended: its exit status (or signal) as the remote side sent it. An exit code is
 *   data. A connection that broke, a missing status or a passed deadline rejects with `TransportError`, whose
 *   `outcome` says whether the command can have run (`not-started`) or not be known (`unknown`).
 * - One connection is kept and shared; it is opened on first need, and its loss is noticed within `keepaliveMs * 3`.
 *   Nothing reconnects by itself: the next call does.
 * - Every call has a deadline; no promise stays pending after `close`.
 * - argv is quoted here, once; NUL in an argument is `invalid_input`. Commands start in the worker's `$HOME`.
 * - The host key is checked against the pin before authentication; another key is `host_key_changed`, never accepted.
 *   With no pin yet, `onHostKey` learns the key (first bootstrap) and decides. On a route with jump hosts this holds for every hop, and
 *   an error names the hop.
 * - Output over `maxOutputBytes` per stream is cut (`truncated: true`) while the command runs on and is drained.
 */

/** Where to dial, as data. Providers return it; the dialer wired in the controller understands it. */
export type Address =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly user: string }
  | {
      readonly kind: "sprite-proxy";
      readonly name: string;
      readonly port: number;
      readonly user: string;
    }
  /** A machine of the operator, by its name in the configuration; `ConnectSettings.route` says how to get there. */
  | {
      readonly kind: "ssh-host";
      readonly name: string;
      readonly host: string;
      readonly port: number;
      readonly user: string;
    };

/** One SSH server on the way to a worker, the worker's own included, and how to log in there. */
export interface Hop {
  /** For messages: how the operator calls it. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** PEM, tried in this order. */
  readonly privateKeys: readonly string[];
  /** Fingerprints that it may show; empty: `onHostKey` decides. */
  readonly hostKeys: readonly string[];
  /** Types of the known keys (`ssh-ed25519` ...): asked for first, so that a server with several shows the known one. */
  readonly hostKeyTypes?: readonly string[] | undefined;
  /** Called with what was shown when it is not among `hostKeys`; accepts it by returning true. */
  readonly onHostKey?: ((fingerprint: string, blob: Uint8Array) => boolean) | undefined;
  /** Called with one of `hostKeys` when it was shown. */
  readonly onKnownKey?: ((blob: Uint8Array) => void) | undefined;
  /** Told in the hint when no key was let in. */
  readonly howToLogIn?: string | undefined;
  /** Told in the hint when another key is shown. */
  readonly howToTrust?: ((fingerprint: string) => string) | undefined;
}

/** The jump hosts in order, then the worker's machine. Each one's host key is checked by itself. */
export type Route = readonly [Hop, ...Hop[]];

export interface ExecOptions {
  readonly stdin?: string | Uint8Array | undefined;
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Default 1 MiB per stream. */
  readonly maxOutputBytes?: number | undefined;
}

export interface ExecResult {
  /** The exit code; null when a signal ended it. */
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly truncated: boolean;
}

/** A running remote command whose output is read as it comes. */
export interface ExecStream extends AsyncDisposable {
  /** Decoded UTF-8 lines without their newline; a line over 1 MiB is cut. Ends when the command's stdout ends; throws `TransportError` on loss. */
  readonly lines: AsyncIterable<string>;
  /** Raw stdout, for binary output. Use either this or `lines`. */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Resolves with the proof of the end, as `exec` does (stdout empty). */
  readonly result: Promise<ExecResult>;
  /** Closes the channel; the remote side notices at its next write. */
  close(): void;
}

export interface StreamOptions {
  readonly signal?: AbortSignal;
  readonly stdin?: string | Uint8Array | Promise<Uint8Array>;
}

export interface Transport extends AsyncDisposable {
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** Runs a POSIX sh script text with positional arguments ($1...). */
  script(text: string, args?: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** With a promise as its input the command starts at once, and reads it when it is there; a rejection closes the command. */
  stream(argv: readonly string[], options?: StreamOptions): Promise<ExecStream>;
  /** Writes a file atomically (temporary name, fsync, rename) with this mode; `path` is absolute or relative to `$HOME`. */
  upload(path: string, content: Uint8Array, mode: number): Promise<void>;
  readonly connected: boolean;
  /** Resolves when the connection that exists now ends (at once when there is none). */
  disconnected(): Promise<void>;
  /** Ends the connection and rejects what is pending. Idempotent. */
  close(): Promise<void>;
}

export type TransportFailure =
  | "refused"
  | "timeout"
  | "handshake"
  | "auth_failed"
  | "host_key_changed"
  /** A jump host could not be passed; the error's details name it and say why. */
  | "jump_failed"
  | "connection_lost"
  | "closed"
  | "aborted";

export interface ConnectSettings {
  readonly address: Address;
  /** PEM of the controller's private key. */
  readonly privateKey: string;
  /** `SHA256:...` of the pinned host key, or null at first bootstrap. */
  readonly hostKey: string | null;
  /** Called with the key seen when there is no pin; return false to refuse. */
  readonly onHostKey?: ((fingerprint: string) => boolean) | undefined;
  /** Asked before every dial; it then replaces `privateKey`, `hostKey` and `onHostKey`, and the address is only a name. */
  readonly route?: (() => Promise<Route>) | undefined;
  readonly connectTimeoutMs: number;
  /** Interval of keepalive probes; three missed ones end the connection. */
  readonly keepaliveMs: number;
  /** Channels open at once; further calls wait in order. */
  readonly maxChannels: number;
  readonly execTimeoutMs: number;
}

export type OpenTransport = (settings: ConnectSettings) => Transport;
