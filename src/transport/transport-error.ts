import { type ErrorDetails, OrchestratorError } from "../domain/errors.ts";
import type { TransportFailure } from "./transport.ts";

/** A call that could not be kept. Code `unreachable`, or `needs_person` for a changed host key. */
export class TransportError extends OrchestratorError {
  override readonly name = "TransportError";
  readonly failure: TransportFailure;
  /** Whether the remote command certainly did not start, or nobody knows. */
  readonly outcome: "not-started" | "unknown";

  constructor(
    failure: TransportFailure,
    outcome: "not-started" | "unknown",
    message: string,
    options: {
      cause?: unknown;
      hint?: string | undefined;
      details?: ErrorDetails | undefined;
    } = {},
  ) {
    const needsPerson = failure === "host_key_changed";
    super(needsPerson ? "needs_person" : "unreachable", message, {
      ...options,
      retryable: !needsPerson && failure !== "auth_failed",
      details: { ...options.details, failure, outcome },
    });
    this.failure = failure;
    this.outcome = outcome;
  }
}
