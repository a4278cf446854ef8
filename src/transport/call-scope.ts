import type { Clock } from "../platform/clock.ts";
import type { TransportFailure } from "./transport.ts";
import { TransportError } from "./transport-error.ts";

/**
 * The life of one call. Whatever ends it first (deadline, caller, close, lost connection) aborts `signal` with a
 * `TransportError` as reason, which says whether the command can have started by then.
 */
export class CallScope implements Disposable {
  readonly #where: string;
  readonly #timeoutMs: number;
  readonly #ended = new AbortController();
  readonly #timer = new AbortController();
  readonly #watched: (() => void)[] = [];
  #outcome: "not-started" | "unknown" = "not-started";

  constructor(clock: Clock, timeoutMs: number, where: string) {
    this.#where = where;
    this.#timeoutMs = timeoutMs;
    clock.sleep(timeoutMs, this.#timer.signal).then(
      () => this.end("timeout"),
      () => {},
    );
  }

  get signal(): AbortSignal {
    return this.#ended.signal;
  }

  /** From here on nobody can say that the command did not run. Throws the reason when the call is already over. */
  markSent(): void {
    this.signal.throwIfAborted();
    this.#outcome = "unknown";
  }

  /** The server proved that it did not start the command after all. */
  markNotStarted(): void {
    this.#outcome = "not-started";
  }

  /** Ends this call with `failure` when `signal` aborts. */
  watch(signal: AbortSignal | undefined, failure: TransportFailure): void {
    if (signal === undefined) return;
    if (signal.aborted) return this.end(failure, signal.reason);
    const listener = () => this.end(failure, signal.reason);
    signal.addEventListener("abort", listener, { once: true });
    this.#watched.push(() => signal.removeEventListener("abort", listener));
  }

  /** Ends the call; a later end changes nothing. */
  end(failure: TransportFailure, cause?: unknown): void {
    if (!this.signal.aborted) this.#ended.abort(this.#error(failure, cause));
    this.#settle();
  }

  stopTimer(): void {
    this.#timer.abort();
  }

  [Symbol.dispose](): void {
    this.#settle();
  }

  #settle(): void {
    this.stopTimer();
    for (const forget of this.#watched.splice(0)) forget();
  }

  #error(failure: TransportFailure, cause: unknown): TransportError {
    const what = WHAT[failure](this.#where, this.#timeoutMs);
    const run = this.#outcome === "unknown" ? "; the command may have run" : "";
    return new TransportError(
      failure,
      this.#outcome,
      `${what}${run}`,
      cause === undefined ? {} : { cause },
    );
  }
}

const WHAT: Readonly<Record<TransportFailure, (where: string, timeoutMs: number) => string>> = {
  refused: (where) => `${where} refused the connection or channel`,
  timeout: (where, timeoutMs) => `${where} did not answer within ${timeoutMs} ms`,
  handshake: (where) => `${where} closed or broke the SSH handshake`,
  auth_failed: (where) => `${where} does not accept the controller's key`,
  host_key_changed: (where) => `${where} shows a host key that is not the pinned one`,
  connection_lost: (where) => `the connection to ${where} was lost`,
  closed: (where) => `the connection to ${where} was closed by this side`,
  aborted: (where) => `the call to ${where} was aborted`,
};
