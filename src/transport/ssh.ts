import PQueue from "p-queue";

import { type Clock, systemClock } from "../platform/clock.ts";
import { CallScope } from "./call-scope.ts";
import { collect } from "./collect.ts";
import { type RunningCommand, startCommand } from "./command.ts";
import { connect } from "./connection.ts";
import { type Dial, describeAddress, dialTcp } from "./dial.ts";
import { execStream } from "./exec-stream.ts";
import { HostKeyPin } from "./host-key.ts";
import type { Connection } from "./log-in.ts";
import { remoteCommand } from "./quote.ts";
import type {
  ConnectSettings,
  ExecOptions,
  ExecResult,
  ExecStream,
  OpenTransport,
  StreamOptions,
  Transport,
} from "./transport.ts";
import { UPLOAD_SCRIPT, checkUploaded, uploadArguments } from "./upload.ts";

export interface SshEffects {
  readonly clock: Clock;
  readonly dial: Dial;
}

const DEFAULT_MAX_OUTPUT_BYTES = 1024 * 1024;

/** Uploads get this much longer than another call: 100 kB/s. */
const UPLOAD_BYTES_PER_MS = 100;

/** How long a peer has to answer our goodbye before the socket is destroyed. */
const GOODBYE_MS = 200;

/** SSH over what `dial` opens (TCP by default). Nothing is dialled before the first call. */
export const openSshTransport = (
  settings: ConnectSettings,
  effects: SshEffects = { clock: systemClock(), dial: dialTcp },
): Transport => new SshTransport(settings, effects);

openSshTransport satisfies OpenTransport;

class SshTransport implements Transport {
  readonly #settings: ConnectSettings;
  readonly #effects: SshEffects;
  readonly #where: string;
  readonly #pin: HostKeyPin;
  readonly #channels: PQueue;
  readonly #closing = new AbortController();
  #current: Connection | undefined;
  #connecting: Promise<Connection> | undefined;

  constructor(settings: ConnectSettings, effects: SshEffects) {
    this.#settings = settings;
    this.#effects = effects;
    this.#where = describeAddress(settings.address);
    this.#pin = new HostKeyPin(settings.hostKey, settings.onHostKey);
    this.#channels = new PQueue({ concurrency: settings.maxChannels });
  }

  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const command = remoteCommand(argv);
    using scope = this.#scope(options.timeoutMs, options.signal);
    return await this.#channels.add(
      async () => {
        const running = await this.#start(command, scope);
        const maxBytes = options.maxOutputBytes ?? DEFAULT_MAX_OUTPUT_BYTES;
        return await collect(running, options.stdin, maxBytes);
      },
      { signal: scope.signal },
    );
  }

  script(text: string, args: readonly string[] = [], options: ExecOptions = {}) {
    return this.exec(["sh", "-c", text, "sh", ...args], options);
  }

  async stream(argv: readonly string[], options: StreamOptions = {}): Promise<ExecStream> {
    const command = remoteCommand(argv);
    const scope = this.#scope(undefined, options.signal);
    const { promise, resolve, reject } = Promise.withResolvers<ExecStream>();
    const whole = async () => {
      const running = await this.#start(command, scope);
      scope.stopTimer();
      resolve(execStream(running, running.connection, scope, options.stdin));
      await running.ended;
    };
    this.#channels
      .add(whole, { signal: scope.signal })
      .catch(reject)
      .finally(() => scope[Symbol.dispose]());
    return await promise;
  }

  async upload(path: string, content: Uint8Array, mode: number): Promise<void> {
    const args = uploadArguments(path, mode, content.length);
    const timeoutMs = this.#settings.execTimeoutMs + content.length / UPLOAD_BYTES_PER_MS;
    checkUploaded(path, await this.script(UPLOAD_SCRIPT, args, { stdin: content, timeoutMs }));
  }

  get connected(): boolean {
    return this.#live() !== undefined;
  }

  disconnected(): Promise<void> {
    const lost = this.#live()?.lost;
    if (lost === undefined) return Promise.resolve();
    return new Promise((resolve) => {
      lost.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const current = this.#live();
    if (current === undefined) return;
    const over = this.disconnected();
    const waited = new AbortController();
    current.client.end();
    await Promise.race([over, this.#effects.clock.sleep(GOODBYE_MS, waited.signal)]);
    waited.abort();
    current.socket.destroy();
    await over;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** A call's life: its deadline also covers the wait for a channel and, when needed, for the connection. */
  #scope(timeoutMs: number | undefined, signal: AbortSignal | undefined): CallScope {
    const own = timeoutMs ?? this.#settings.execTimeoutMs;
    const opening = this.connected ? 0 : this.#settings.connectTimeoutMs;
    const scope = new CallScope(this.#effects.clock, own + opening, this.#where);
    scope.watch(this.#closing.signal, "closed");
    scope.watch(signal, "aborted");
    return scope;
  }

  async #start(
    command: string,
    scope: CallScope,
  ): Promise<RunningCommand & { connection: Connection }> {
    const connection = await this.#connection();
    return { ...(await startCommand(connection, command, scope)), connection };
  }

  /** The kept connection, or a new one; callers that come while it opens share it. */
  #connection(): Promise<Connection> {
    const live = this.#live();
    if (live !== undefined) return Promise.resolve(live);
    this.#connecting ??= this.#open().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #open(): Promise<Connection> {
    const { connectTimeoutMs } = this.#settings;
    using scope = new CallScope(this.#effects.clock, connectTimeoutMs, this.#where);
    scope.watch(this.#closing.signal, "closed");
    const opened = await connect(this.#settings, this.#pin, this.#effects.dial, scope);
    if (this.#closing.signal.aborted) {
      opened.socket.destroy();
      scope.end("closed");
      throw scope.signal.reason;
    }
    this.#current = opened;
    return opened;
  }

  #live(): Connection | undefined {
    return this.#current?.lost.aborted === false ? this.#current : undefined;
  }
}
