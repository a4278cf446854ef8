import { z } from "zod";
import { branchName, runIdInput, repoName, requestId, taskText } from "./inputs.ts";
import { operation } from "./operation.ts";
import { orchestrationOf } from "./require.ts";
import { listRuns, showRun, waitForRun } from "./run-views.ts";
import {
  logLineView,
  recoveredView,
  runDetailView,
  runView,
  sentView,
  snapshotView,
} from "./views.ts";

const byId = z.strictObject({ run_id: runIdInput });

export const runList = operation({
  id: "run.list",
  summary: "List runs, newest first",
  runs: "anywhere",
  access: "read",
  input: z.strictObject({
    repo: repoName.optional(),
    live: z.boolean().default(false).describe("only runs that have not ended"),
    limit: z.int().min(1).max(1_000).default(50),
  }),
  output: z.array(runView),
  errors: [],
  cli: "run list",
  answer: { kind: "once", handle: listRuns },
});

export const runShow = operation({
  id: "run.show",
  summary: "Show one run: its steps, messages with receipts, status with evidence, and report",
  runs: "anywhere",
  access: "read",
  input: byId,
  output: runDetailView,
  errors: ["not_found"],
  cli: "run show",
  answer: { kind: "once", handle: showRun },
});

export const runWait = operation({
  id: "run.wait",
  summary: "Wait until a run has ended, or is blocked and needs a person",
  runs: "anywhere",
  access: "read",
  input: byId.extend({
    timeout_ms: z
      .int()
      .min(0)
      .max(7 * 86_400_000)
      .optional(),
    until: z.enum(["delivered", "settled", "ended"]).default("ended"),
  }),
  output: runDetailView,
  errors: ["not_found", "nothing_available"],
  cli: "run wait",
  answer: { kind: "once", handle: waitForRun },
});

export const runDiff = operation({
  id: "run.diff",
  summary: "Show what the run changed, files not committed included, as a patch",
  runs: "controller",
  access: "read",
  input: byId,
  output: z.object({ diff: z.string() }),
  errors: ["not_found", "unreachable"],
  cli: "run diff",
  answer: {
    kind: "once",
    handle: async (services, input) => ({
      diff: await orchestrationOf(services).diff(input.run_id),
    }),
  },
});

export const runSnapshots = operation({
  id: "run.snapshots",
  summary: "List the snapshots of a run that the mirror has, oldest first",
  runs: "controller",
  access: "read",
  input: byId,
  output: z.array(snapshotView),
  errors: ["not_found"],
  cli: "run recover --list",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).snapshots(input.run_id),
  },
});

export const runRecover = operation({
  id: "run.recover",
  summary: "Bring a snapshot of a run back, into a new folder or as a new branch",
  runs: "controller",
  access: "mutate",
  input: byId
    .extend({
      snapshot: z
        .union([z.literal("latest"), z.int().min(1)])
        .default("latest")
        .describe("its number, or latest"),
      folder: z
        .string()
        .max(4_096)
        .regex(/^\/[^\0]*$/, "an absolute path")
        .optional()
        .describe("a folder that does not exist, or is empty"),
      branch: branchName.optional().describe("a branch that does not exist in the mirror"),
      push: z.boolean().default(false).describe("push the branch to the repository's remote"),
    })
    .refine((input) => (input.folder === undefined) !== (input.branch === undefined), {
      error: "a folder or a branch is needed, and only one of them",
    }),
  output: recoveredView,
  errors: ["not_found", "branch_changed", "unreachable"],
  cli: "run recover",
  answer: {
    kind: "once",
    handle: (services, { run_id, snapshot, folder, branch, push }) =>
      orchestrationOf(services).recover(run_id, { snapshot, folder, branch, push }),
  },
});

export const runLogs = operation({
  id: "run.logs",
  summary: "Show the set-up logs of a run and the agent's screen",
  runs: "controller",
  access: "read",
  input: byId.extend({ lines: z.int().min(1).max(10_000).default(200) }),
  output: z.object({ text: z.string() }),
  errors: ["not_found", "unreachable"],
  cli: "run logs",
  answer: {
    kind: "once",
    handle: async (services, input) => ({
      text: await orchestrationOf(services).logs(input.run_id, { lines: input.lines }),
    }),
  },
});

export const runFollow = operation({
  id: "run.follow",
  summary:
    "Follow a run from its beginning to its end: its events, its set-up log, the agent's events",
  runs: "controller",
  access: "read",
  input: byId,
  output: logLineView,
  errors: ["not_found", "unreachable"],
  cli: "run logs --follow",
  answer: {
    kind: "stream",
    handle: (services, input, signal) => orchestrationOf(services).followLogs(input.run_id, signal),
  },
});

export const runCancel = operation({
  id: "run.cancel",
  summary: "Stop a run: its agent is stopped and proven over, its work saved",
  runs: "controller",
  access: "mutate",
  input: byId,
  output: runView,
  errors: ["not_found", "not_claimable"],
  cli: "run cancel",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).cancel(input.run_id),
  },
});

export const runRetry = operation({
  id: "run.retry",
  summary: "Start the run's task again as a new run, once the former one is proven over",
  runs: "controller",
  access: "mutate",
  input: byId.extend({ request_id: requestId.optional() }),
  output: runView,
  errors: ["not_found", "not_claimable", "unreachable"],
  cli: "run retry",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).retry(input.run_id, input.request_id),
  },
});

export const runResume = operation({
  id: "run.resume",
  summary: "Continue a blocked run's conversation with a new launch of its agent",
  runs: "controller",
  access: "mutate",
  input: byId.extend({
    text: taskText.optional().describe("what to tell the agent; default: go on with the task"),
  }),
  output: runView,
  errors: ["not_found", "not_claimable", "unreachable"],
  cli: "run resume",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).resume(input.run_id, input.text),
  },
});

export const sendMessage = operation({
  id: "send",
  summary:
    "Send a follow-up to a run's agent (or to the agent of a worker's last run), with a receipt",
  runs: "controller",
  access: "mutate",
  input: z.strictObject({
    target: z.string().max(60).describe("a run's id or a worker's name"),
    text: taskText,
    live: z.boolean().default(false).describe("paste into the live window instead of a new launch"),
    request_id: requestId.optional(),
  }),
  output: sentView,
  errors: [
    "not_found",
    "not_claimable",
    "needs_person",
    "delivery_unconfirmed",
    "request_mismatch",
  ],
  cli: "send",
  answer: {
    kind: "once",
    handle: (services, input) =>
      orchestrationOf(services).send(input.target, input.text, {
        live: input.live,
        requestId: input.request_id,
      }),
  },
});
