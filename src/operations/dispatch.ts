import { z } from "zod";
import { operation } from "./operation.ts";
import { orchestrationOf } from "./require.ts";
import { planView, runView } from "./views.ts";
import { repoName, requestId, taskText, workerNameInput } from "./inputs.ts";

export const dispatchRun = operation({
  id: "dispatch",
  summary: "Give a task to the next idle worker of a pool; it is created when none is idle",
  runs: "controller",
  access: "mutate",
  input: z.strictObject({
    repo: repoName,
    text: taskText,
    title: z.string().max(200).optional(),
    worker: workerNameInput.optional().describe("only this worker"),
    runtime: z.enum(["claude", "shell"]).optional(),
    mode: z.string().max(40).optional().describe("permission mode of the runtime"),
    on_full: z.enum(["queue", "fail"]).default("queue"),
    request_id: requestId.optional(),
  }),
  output: z.object({ run: runView, replayed: z.boolean() }),
  errors: [
    "not_found",
    "nothing_available",
    "limited",
    "request_mismatch",
    "invalid_config",
    "unreachable",
  ],
  cli: "dispatch",
  answer: {
    kind: "once",
    handle: (services, input) =>
      orchestrationOf(services).dispatch({
        repo: input.repo,
        text: input.text,
        title: input.title,
        worker: input.worker,
        runtime: input.runtime,
        mode: input.mode,
        onFull: input.on_full,
        requestId: input.request_id,
        resumes: undefined,
      }),
  },
});

export const dispatchPlan = operation({
  id: "dispatch.plan",
  summary: "Show which worker a dispatch would get now, and why; changes nothing",
  runs: "controller",
  access: "read",
  input: z.strictObject({ repo: repoName, worker: workerNameInput.optional() }),
  output: planView,
  errors: ["not_found", "unreachable"],
  cli: "dispatch --dry-run",
  answer: {
    kind: "once",
    handle: (services, input) =>
      orchestrationOf(services).plan({ repo: input.repo, worker: input.worker }),
  },
});
