import { EXIT_CODES, OrchestratorError, type ErrorCode, type WireError } from "../domain/errors.ts";
import { cleanLine } from "./clean.ts";
import { printJson, type Io } from "./io.ts";

/** Exit codes are decided here and nowhere else. Ctrl-C while following is no error of ours: 128 + SIGINT, as shells do. */
export const INTERRUPTED = 130;
export const exitCodeOf = (code: ErrorCode): number => EXIT_CODES[code];

/**
 * Any thrown value as an error of ours. By its shape, not its class: bundles loaded later carry a class of their own.
 */
export function asOrchestratorError(error: unknown): OrchestratorError {
  if (error instanceof OrchestratorError) return error;
  if (isAlike(error)) {
    return new OrchestratorError(error.code, error.message, {
      hint: error.hint,
      retryable: error.retryable,
      details: error.details,
      cause: error,
    });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new OrchestratorError("internal", message, { cause: error });
}

function isAlike(error: unknown): error is OrchestratorError {
  return (
    error instanceof Error &&
    error.name.endsWith("Error") &&
    "code" in error &&
    typeof error.code === "string" &&
    error.code in EXIT_CODES &&
    "retryable" in error &&
    "details" in error
  );
}

export function toJsonError(error: OrchestratorError): WireError {
  return {
    code: error.code,
    message: error.message,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    retryable: error.retryable,
    details: error.details,
  };
}

/** Shows a thrown value as the brief form people or programs want; returns the exit code. */
export function showError(io: Io, thrown: unknown, asJson: boolean): number {
  const error = asOrchestratorError(thrown);
  if (asJson) printJson(io, { error: toJsonError(error) });
  else {
    io.writeError(`error: ${cleanLine(error.message, 2_000)}\n`);
    if (error.hint !== undefined) io.writeError(`hint: ${cleanLine(error.hint, 2_000)}\n`);
  }
  return exitCodeOf(error.code);
}
