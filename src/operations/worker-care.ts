import { z } from "zod";
import { workerNameInput } from "./inputs.ts";
import { operation } from "./operation.ts";
import { orchestrationOf } from "./require.ts";
import { workerView } from "./views.ts";

/** Operations with which workers are taken out of use, brought back, and their work saved. */

const byName = z.strictObject({ worker: workerNameInput });

export const workerCordon = operation({
  id: "worker.cordon",
  summary: "Give a worker no new run; the one that it has goes on",
  runs: "controller",
  access: "mutate",
  input: byName,
  output: workerView,
  errors: ["not_found", "not_claimable"],
  cli: "worker cordon",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).workerCordon(input.worker),
  },
});

export const workerUncordon = operation({
  id: "worker.uncordon",
  summary: "Use a worker again that was cordoned or draining",
  runs: "controller",
  access: "mutate",
  input: byName,
  output: workerView,
  errors: ["not_found", "not_claimable"],
  cli: "worker uncordon",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).workerUncordon(input.worker),
  },
});

export const workerDrain = operation({
  id: "worker.drain",
  summary: "Give a worker no new run, and optionally wait for the end of its run and destroy it",
  runs: "controller",
  access: "mutate",
  input: byName.extend({
    wait: z.boolean().default(false).describe("until its run has ended"),
    destroy: z.boolean().default(false).describe("wait, then destroy it as 'worker destroy' does"),
    timeout_ms: z
      .int()
      .min(0)
      .max(7 * 86_400_000)
      .optional()
      .describe("how long to wait; default: without limit"),
  }),
  output: workerView,
  errors: ["not_found", "not_claimable", "nothing_available", "needs_person", "unreachable"],
  cli: "worker drain",
  answer: {
    kind: "once",
    handle: (services, { worker, wait, destroy, timeout_ms }, signal) =>
      orchestrationOf(services).workerDrain(
        worker,
        { wait: wait || destroy, destroy, timeoutMs: timeout_ms ?? null },
        signal,
      ),
  },
});

export const workerReset = operation({
  id: "worker.reset",
  summary: "Bring a worker back to what a new one is like, after proof that its work is saved",
  runs: "controller",
  access: "mutate",
  input: byName,
  output: workerView,
  errors: ["not_found", "needs_person", "not_claimable", "unreachable"],
  cli: "worker reset",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).workerReset(input.worker),
  },
});

export const workerRescue = operation({
  id: "worker.rescue",
  summary: "Save what is on a worker that was set aside, and make the worker usable again",
  runs: "controller",
  access: "mutate",
  input: byName,
  output: workerView.extend({
    rescued_run: z.string().describe("the run whose work it is, for 'run recover'"),
    snapshot: z.string().nullable().describe("commit in the mirror that holds the work"),
    skipped: z.array(z.string()).describe("left in place by rule: secrets and large files"),
  }),
  errors: ["not_found", "needs_person", "not_claimable", "unreachable"],
  cli: "worker rescue",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).workerRescue(input.worker),
  },
});

export const workerAdopt = operation({
  id: "worker.adopt",
  summary:
    "Take a machine of this fleet that the store does not know back into its pool, set aside",
  runs: "controller",
  access: "mutate",
  input: byName,
  output: workerView,
  errors: ["not_found", "forbidden", "not_claimable", "unreachable"],
  cli: "worker adopt",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).workerAdopt(input.worker),
  },
});
