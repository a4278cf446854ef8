import { OrchestratorError, type ErrorCode } from "../domain/errors.ts";

export type ProviderFailure =
  | "name_taken"
  | "no_capacity"
  | "unknown_outcome"
  | "unavailable"
  | "rejected"
  | "gone";

const CODES: Readonly<Record<ProviderFailure, ErrorCode>> = {
  name_taken: "not_claimable",
  no_capacity: "nothing_available",
  unknown_outcome: "unreachable",
  unavailable: "unreachable",
  rejected: "invalid_config",
  gone: "not_found",
};

/** A provider call that failed; `failure` is what callers branch on. `unknown_outcome`: look it up, never repeat blindly. */
export class ProviderError extends OrchestratorError {
  override readonly name = "ProviderError";
  readonly failure: ProviderFailure;

  constructor(
    failure: ProviderFailure,
    message: string,
    options: { cause?: unknown; hint?: string; retryAfterMs?: number } = {},
  ) {
    super(CODES[failure], message, {
      ...options,
      retryable: failure === "unavailable" || failure === "no_capacity",
      details: { failure },
    });
    this.failure = failure;
  }
}
