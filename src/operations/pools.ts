import { z } from "zod";
import { repoName } from "./inputs.ts";
import { operation } from "./operation.ts";
import { listPools } from "./pool-views.ts";
import { orchestrationOf } from "./require.ts";
import { poolView } from "./views.ts";

export const poolList = operation({
  id: "pool.list",
  summary: "List the pools: workers, queue, and what keeps new tasks out",
  runs: "anywhere",
  access: "read",
  input: z.strictObject({}),
  output: z.array(poolView),
  errors: [],
  cli: "pool list",
  answer: { kind: "once", handle: listPools },
});

export const poolPause = operation({
  id: "pool.pause",
  summary: "Give a pool's workers no further runs; what runs goes on, and new tasks queue",
  runs: "controller",
  access: "mutate",
  input: z.strictObject({ repo: repoName, reason: z.string().max(200).optional() }),
  output: poolView,
  errors: ["not_found", "unreachable"],
  cli: "pool pause",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).poolPause(input.repo, input.reason),
  },
});

export const poolResume = operation({
  id: "pool.resume",
  summary: "Let a paused pool's workers take runs again",
  runs: "controller",
  access: "mutate",
  input: z.strictObject({ repo: repoName }),
  output: poolView,
  errors: ["not_found", "unreachable"],
  cli: "pool resume",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).poolResume(input.repo),
  },
});
