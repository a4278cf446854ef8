import { OrchestratorError } from "../domain/errors.ts";
import type { Orchestration, Services } from "./services.ts";

/** The controller's face, or `unreachable` where this process is none. */
export function orchestrationOf(services: Services): Orchestration {
  if (services.orchestration !== undefined) return services.orchestration;
  throw new OrchestratorError(
    "unreachable",
    "this operation needs the controller, and none runs here",
    {
      hint: "start one with 'orchestrator serve'",
      retryable: true,
    },
  );
}
