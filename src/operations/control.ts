import { z } from "zod";
import { operation } from "./operation.ts";
import { orchestrationOf } from "./require.ts";

export const ping = operation({
  id: "controller.ping",
  summary: "Ask whether the controller answers, and what it is",
  runs: "controller",
  access: "read",
  input: z.strictObject({}),
  output: z.object({
    pid: z.number(),
    version: z.string(),
    fleet_id: z.string(),
    started_at: z.number(),
    live_runs: z.number(),
  }),
  errors: ["unreachable"],
  cli: "ping",
  answer: {
    kind: "once",
    handle: async (services) => ({
      pid: services.pid,
      version: services.version,
      fleet_id: services.store.fleetId,
      started_at: services.startedAt,
      live_runs: orchestrationOf(services).liveRuns(),
    }),
  },
});

export const stop = operation({
  id: "controller.stop",
  summary: "Stop the controller; agents go on, and their runs are taken up again at its next start",
  runs: "controller",
  access: "mutate",
  input: z.strictObject({}),
  output: z.object({ stopping: z.literal(true), live_runs: z.number() }),
  errors: ["unreachable"],
  cli: "stop",
  answer: {
    kind: "once",
    handle: async (services) => {
      const orchestration = orchestrationOf(services);
      orchestration.stop();
      return { stopping: true as const, live_runs: orchestration.liveRuns() };
    },
  },
});
