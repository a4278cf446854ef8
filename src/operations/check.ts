import { z } from "zod";
import { repoName, workerNameInput } from "./inputs.ts";
import { operation } from "./operation.ts";
import { orchestrationOf } from "./require.ts";
import { checkView } from "./views.ts";

export const checkFleet = operation({
  id: "check",
  summary:
    "Compare the window names of every awake worker with the derived status, and log changes",
  runs: "controller",
  // It corrects names; repeating it acts only where something is still wrong.
  access: "mutate",
  input: z.strictObject({
    worker: workerNameInput.optional().describe("only this worker"),
    repo: repoName.optional().describe("only this pool"),
  }),
  output: checkView,
  errors: ["not_found", "invalid_config", "unreachable"],
  cli: "check",
  answer: {
    kind: "once",
    handle: (services, input, signal) =>
      orchestrationOf(services).check({ worker: input.worker, repo: input.repo }, signal),
  },
});
