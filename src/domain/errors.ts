/** Every error code and its exit code (DESIGN 7). Doors map codes; nothing else decides an exit code. */
export const EXIT_CODES = {
  internal: 1,
  invalid_input: 2,
  invalid_config: 2,
  request_mismatch: 2,
  nothing_available: 3,
  not_found: 4,
  ambiguous: 4,
  truncated: 4,
  run_failed: 5,
  delivery_unconfirmed: 6,
  unreachable: 7,
  needs_person: 8,
  lease_stale: 9,
  stale_revision: 10,
  lease_held: 11,
  not_claimable: 12,
  path_conflict: 13,
  branch_changed: 13,
  forbidden: 14,
  unauthorized: 14,
  session_stale: 15,
  limited: 16,
  unhealthy: 17,
} as const;

export type ErrorCode = keyof typeof EXIT_CODES;
export type ErrorDetails = Readonly<Record<string, unknown>>;

export interface ErrorFields {
  readonly hint?: string | undefined;
  readonly retryable?: boolean;
  readonly retryAfterMs?: number | undefined;
  readonly details?: ErrorDetails;
  readonly cause?: unknown;
}

/** What every door shows: `{code, message, hint?, retryable, details}`. The message is one sentence that names the thing. */
export class OrchestratorError extends Error {
  override readonly name: string = "OrchestratorError";
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, options: ErrorFields = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.retryable = options.retryable ?? false;
    this.retryAfterMs = options.retryAfterMs;
    this.details = options.details ?? {};
  }
}

/** An error as it crosses a door. */
export interface WireError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint?: string;
  readonly retryable: boolean;
  readonly details: ErrorDetails;
}

export function toWireError(error: unknown): WireError {
  if (error instanceof OrchestratorError) {
    return {
      code: error.code,
      message: error.message,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      retryable: error.retryable,
      details: error.details,
    };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: "internal", message, retryable: false, details: {} };
}

export function fromWireError(wire: WireError): OrchestratorError {
  return new OrchestratorError(wire.code in EXIT_CODES ? wire.code : "internal", wire.message, {
    hint: wire.hint,
    retryable: wire.retryable,
    details: wire.details,
  });
}
