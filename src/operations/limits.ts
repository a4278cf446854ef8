import { z } from "zod";
import { listLimits } from "./limit-views.ts";
import { operation } from "./operation.ts";
import { orchestrationOf } from "./require.ts";
import { limitView } from "./views.ts";

export const limitList = operation({
  id: "limit.list",
  summary: "List the limits that keep agents' accounts from working, with the runs that wait",
  runs: "anywhere",
  access: "read",
  input: z.strictObject({ all: z.boolean().default(false).describe("lifted ones too") }),
  output: z.array(limitView),
  errors: [],
  cli: "limit list",
  answer: { kind: "once", handle: listLimits },
});

export const limitClear = operation({
  id: "limit.clear",
  summary: "End a limit by your word: the runs that wait for it go on, one after the other",
  runs: "controller",
  access: "mutate",
  input: z.strictObject({
    limit_id: z
      .string()
      .max(40)
      .regex(/^limit-[a-z0-9]+$/, "a limit's id such as limit-7k3m9x2q0abc"),
  }),
  output: limitView,
  errors: ["not_found", "unreachable"],
  cli: "limit clear",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).limitClear(input.limit_id),
  },
});
