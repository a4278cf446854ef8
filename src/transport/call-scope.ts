import type { ErrorDetails } from "../domain/errors.ts";
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
  #jumpHost: string | undefined;

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

  /** Until told otherwise, what fails is this jump host's doing. */
  at(jumpHost: string | undefined): void {
    this.#jumpHost = jumpHost;
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
  end(failure: TransportFailure, cause?: unknown, said: Said = {}): void {
    if (!this.signal.aborted) this.#ended.abort(this.#error(failure, cause, said));
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

  #error(failure: TransportFailure, cause: unknown, said: Said): TransportError {
    const jumpHost = this.#jumpHost;
    if (jumpHost !== undefined && HOP_FAILURES.has(failure)) {
      const message = `${WHAT[failure](jumpHost, this.#timeoutMs)}, so that ${this.#where} cannot be reached`;
      const details = { hop: jumpHost, hop_failure: failure };
      const options = { cause, details, hint: said.hint };
      return new TransportError("jump_failed", this.#outcome, message, options);
    }
    const what = said.message ?? WHAT[failure](this.#where, this.#timeoutMs);
    const run = this.#outcome === "unknown" ? "; the command may have run" : "";
    return new TransportError(failure, this.#outcome, `${what}${run}`, {
      cause,
      hint: said.hint,
      details: said.details,
    });
  }
}

/** What the error says beyond its kind. */
export interface Said {
  readonly message?: string | undefined;
  readonly hint?: string | undefined;
  readonly details?: ErrorDetails | undefined;
}

/** A changed key needs a person wherever it is shown; what this side ended is nobody's failure. */
const HOP_FAILURES: ReadonlySet<TransportFailure> = new Set([
  "refused",
  "timeout",
  "handshake",
  "auth_failed",
  "connection_lost",
]);

const WHAT: Readonly<Record<TransportFailure, (where: string, timeoutMs: number) => string>> = {
  refused: (where) => `${where} refused the connection or channel`,
  timeout: (where, timeoutMs) => `${where} did not answer within ${timeoutMs} ms`,
  handshake: (where) => `${where} closed or broke the SSH handshake`,
  auth_failed: (where) => `${where} does not accept the controller's key`,
  host_key_changed: (where) => `${where} shows a host key that is not the pinned one`,
  jump_failed: (where) => `the way to ${where} is closed`,
  connection_lost: (where) => `the connection to ${where} was lost`,
  closed: (where) => `the connection to ${where} was closed by this side`,
  aborted: (where) => `the call to ${where} was aborted`,
};
