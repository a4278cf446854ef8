import { OrchestratorError, type ErrorCode } from "../../src/domain/errors.ts";

/** For `assert.rejects`: an error of the product with this code. */
export const isOrchestratorError =
  (code: ErrorCode) =>
  (error: unknown): boolean =>
    error instanceof OrchestratorError && error.code === code;
