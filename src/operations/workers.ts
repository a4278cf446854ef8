import { z } from "zod";
import { repoName, requestId, taskText, workerNameInput } from "./inputs.ts";
import { operation } from "./operation.ts";
import { orchestrationOf } from "./require.ts";
import { workerHistory } from "./run-views.ts";
import { historyView, windowSentView, workerView } from "./views.ts";
import { fleetStatus, listWorkers, showWorker } from "./worker-views.ts";
import { runView } from "./views.ts";

const byName = z.strictObject({ worker: workerNameInput });

export const workerList = operation({
  id: "worker.list",
  summary: "List workers with allocation, agent status and its age",
  runs: "anywhere",
  access: "read",
  input: z.strictObject({ repo: repoName.optional(), all: z.boolean().default(false) }),
  output: z.array(workerView),
  errors: [],
  cli: "worker list",
  answer: { kind: "once", handle: listWorkers },
});

export const workerShow = operation({
  id: "worker.show",
  summary: "Show one worker",
  runs: "anywhere",
  access: "read",
  input: byName,
  output: workerView,
  errors: ["not_found"],
  cli: "worker show",
  answer: { kind: "once", handle: showWorker },
});

export const workerCreate = operation({
  id: "worker.create",
  summary: "Create and prepare the pool's next worker, without a task",
  runs: "controller",
  access: "mutate",
  input: z.strictObject({ repo: repoName }),
  output: workerView,
  errors: ["not_found", "nothing_available", "unreachable"],
  cli: "worker create",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).workerCreate(input.repo),
  },
});

export const workerSetup = operation({
  id: "worker.setup",
  summary: "Run the set-up of an unready worker again, from the step that failed",
  runs: "controller",
  access: "mutate",
  input: byName.extend({
    create: z
      .boolean()
      .default(false)
      .describe("make the worker when it is not there; nothing to do when it is ready"),
  }),
  output: workerView,
  errors: ["not_found", "not_claimable", "nothing_available", "unreachable"],
  cli: "worker setup",
  answer: {
    kind: "once",
    handle: (services, input) =>
      orchestrationOf(services).workerSetup(input.worker, { create: input.create }),
  },
});

export const workerBusy = operation({
  id: "worker.busy",
  summary: "Say whether a worker is busy, and why: looked up on the worker at this moment",
  runs: "controller",
  access: "read",
  input: byName,
  output: z.object({ busy: z.boolean(), reason: z.string() }),
  errors: ["not_found", "unreachable"],
  cli: "worker busy",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).workerBusy(input.worker),
  },
});

export const workerExec = operation({
  id: "worker.exec",
  summary: "Run a program on a worker, in its home folder",
  runs: "controller",
  access: "mutate",
  input: byName.extend({
    argv: z.array(z.string()).min(1).max(1_000),
    timeout_ms: z.int().min(100).max(3_600_000).default(60_000),
    tilde: z
      .boolean()
      .default(false)
      .describe("a leading ~ of an argument is the worker's home folder"),
  }),
  output: z.object({
    code: z.number().nullable(),
    stdout: z.string(),
    stderr: z.string(),
    truncated: z.boolean(),
  }),
  errors: ["not_found", "unreachable"],
  cli: "worker exec",
  answer: {
    kind: "once",
    handle: (services, input) =>
      orchestrationOf(services).workerExec(input.worker, input.argv, {
        timeoutMs: input.timeout_ms,
        tilde: input.tilde,
      }),
  },
});

export const workerAttach = operation({
  id: "worker.attach",
  summary: "Say how to put an operator into a worker's tmux",
  runs: "controller",
  access: "read",
  input: byName,
  output: z.object({
    argv: z.array(z.string()),
    env: z.record(z.string(), z.string()),
    command: z.string(),
  }),
  errors: ["not_found", "unreachable"],
  cli: "attach",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).workerAttach(input.worker),
  },
});

export const workerConsole = operation({
  id: "worker.console",
  summary: "Say how to put an operator into a shell on a worker",
  runs: "controller",
  access: "read",
  input: byName,
  output: workerAttach.output,
  errors: ["not_found", "unreachable"],
  cli: "console",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).workerConsole(input.worker),
  },
});

export const workerSend = operation({
  id: "worker.send",
  summary:
    "Type a command into a window of a worker; for the agent's window, deliver it as a message with its receipt",
  runs: "controller",
  access: "mutate",
  input: byName.extend({
    window: z
      .string()
      .regex(/^([a-z][a-z0-9:-]{0,39}|\d{1,4}|@\d{1,9})$/, "a window's name, index or id")
      .describe("shell, agent, or a window's index or id"),
    text: taskText,
    request_id: requestId.optional(),
  }),
  output: windowSentView,
  errors: [
    "not_found",
    "not_claimable",
    "needs_person",
    "delivery_unconfirmed",
    "request_mismatch",
    "unreachable",
  ],
  cli: "worker send",
  answer: {
    kind: "once",
    handle: (services, input) =>
      orchestrationOf(services).workerSend(
        input.worker,
        input.window,
        input.text,
        input.request_id,
      ),
  },
});

export const workerHistoryRead = operation({
  id: "worker.history",
  summary: "List the runs of a worker with what was asked of them, newest first",
  runs: "anywhere",
  access: "read",
  input: byName.extend({ limit: z.int().min(1).max(1_000).default(20) }),
  output: z.array(historyView),
  errors: ["not_found"],
  cli: "worker history",
  answer: { kind: "once", handle: workerHistory },
});

export const workerDestroy = operation({
  id: "worker.destroy",
  summary: "Destroy a worker, after proof at that moment that its work is saved and nobody uses it",
  runs: "controller",
  access: "mutate",
  input: byName,
  output: workerView,
  errors: ["not_found", "needs_person", "unreachable"],
  cli: "worker destroy",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).workerDestroy(input.worker),
  },
});

export const status = operation({
  id: "status",
  summary: "Status of the fleet, a pool, a worker or a run, with source, reason and age",
  runs: "anywhere",
  access: "read",
  input: z.strictObject({
    target: z.string().max(60).optional().describe("a repo, a worker or a run; default: all"),
  }),
  output: z.object({ workers: z.array(workerView), runs: z.array(runView) }),
  errors: ["not_found"],
  cli: "status",
  answer: { kind: "once", handle: fleetStatus },
});
