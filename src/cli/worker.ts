import { OrchestratorError } from "../domain/errors.ts";
import { parseName } from "../domain/names.ts";
import type { WorkerView } from "../operations/views.ts";
import { cleanLine } from "./clean.ts";
import type { Context } from "./context.ts";
import { formatAge, formatStatus, formatTime } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import { performAt, type Reach } from "./session.ts";
import {
  argumentOf,
  isSet,
  json,
  printOption,
  textOf,
  type CommandSpec,
  type Given,
} from "./spec.ts";
import { workerNamed } from "./run-target.ts";
import { table } from "./table.ts";
import { asBusy, asTrusted, asWorker, asWorkers } from "./views.ts";

export const workerArgument = { name: "worker", help: "the worker's name, for example kite-1" };
const READ = { repeatable: true };

export const commands: readonly CommandSpec[] = [
  {
    path: "worker list",
    summary: "List workers with allocation, agent status and its age",
    options: [
      { name: "repo", value: "name", help: "only this pool" },
      { name: "all", help: "destroyed ones too" },
      json,
    ],
    examples: ["orchestrator worker list", "orchestrator worker list --repo kite --all"],
    async run(context, given) {
      const input = { repo: textOf(given, "repo"), all: isSet(given, "all") };
      const workers = asWorkers(await performAt(context, "store", "worker.list", input, READ));
      if (isSet(given, "json")) for (const worker of workers) printJson(context.io, worker);
      else if (workers.length === 0) printLine(context.io, "no workers");
      else for (const line of workerTable(workers, context.io.columns)) printLine(context.io, line);
      return 0;
    },
  },
  {
    path: "worker show",
    summary: "Show one worker: its state, its agent, its run, and why it is not idle",
    arguments: [workerArgument],
    options: [json],
    examples: ["orchestrator worker show kite-1"],
    run: (context, given) =>
      showWorkerAfter(context, given, "store", "worker.show", byName(given), true),
  },
  {
    path: "worker create",
    summary: "Create and prepare the pool's next worker, without a task",
    options: [{ name: "repo", value: "name", help: "the pool (required)" }, json],
    examples: ["orchestrator worker create --repo kite"],
    async run(context, given) {
      const repo = textOf(given, "repo");
      if (repo === undefined) {
        throw new OrchestratorError("invalid_input", "--repo is missing", {
          hint: "for example: orchestrator worker create --repo kite",
        });
      }
      const input = { repo: parseName(repo, "--repo") };
      return showWorkerAfter(context, given, "controller", "worker.create", input, false);
    },
  },
  {
    path: "worker setup",
    summary: "Run the set-up of an unready worker again, from the step that failed",
    arguments: [workerArgument],
    options: [
      {
        name: "create",
        help: "make the worker when it is not there; nothing to do when it is ready",
      },
      json,
    ],
    examples: ["orchestrator worker setup kite-1", "orchestrator worker setup kite-1 --create"],
    run(context, given) {
      const input = { ...byName(given), create: isSet(given, "create") };
      return showWorkerAfter(context, given, "controller", "worker.setup", input, false);
    },
  },
  {
    path: "worker busy",
    summary: "Say whether a worker is busy, and why: looked up on the worker at this moment",
    notes: "Exit code 0 when it is busy, 3 when it is not, 7 when it cannot be reached.",
    arguments: [workerArgument],
    options: [json],
    examples: ["orchestrator worker busy kite-1"],
    async run(context, given) {
      const answer = asBusy(
        await performAt(context, "controller", "worker.busy", byName(given), READ),
      );
      if (isSet(given, "json")) printJson(context.io, answer);
      else
        printLine(context.io, `${answer.busy ? "busy" : "not busy"}: ${cleanLine(answer.reason)}`);
      return answer.busy ? 0 : 3;
    },
  },
  {
    path: "worker attach",
    summary: "Put your terminal into a worker's tmux (the same as 'orchestrator attach')",
    arguments: [{ name: "target", help: "a worker or a run" }],
    options: [printOption, json],
    examples: ["orchestrator worker attach kite-1"],
    run: async (context, given) => (await import("./attach.ts")).runAttach(context, given),
  },
  {
    path: "worker trust",
    summary: "Accept the new host key of a worker's machine, or of a jump host before it",
    notes:
      "Only the key that you name is accepted, and only if it is shown now. Look it up on the machine itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
    arguments: [workerArgument],
    options: [{ name: "host-key", value: "fingerprint", help: "SHA256:... (required)" }, json],
    examples: [
      "orchestrator worker trust kite-1 --host-key SHA256:uNiVztksCsDhcc0u9e8BrqXmYyqDyYIYgXq5Aq0X2dM",
    ],
    run: runTrust,
  },
  {
    path: "worker destroy",
    summary:
      "Destroy a worker, after proof at that moment that its work is saved and nobody uses it",
    arguments: [workerArgument],
    options: [json],
    examples: ["orchestrator worker destroy kite-1"],
    run: (context, given) =>
      showWorkerAfter(context, given, "controller", "worker.destroy", byName(given), false),
  },
];

export const byName = (given: Given) => ({ worker: workerNamed(argumentOf(given, 0)) });
export async function showWorkerAfter(
  context: Context,
  given: Given,
  reach: Reach,
  op: string,
  input: object,
  repeatable: boolean,
): Promise<number> {
  const worker = asWorker(await performAt(context, reach, op, input, { repeatable }));
  if (isSet(given, "json")) printJson(context.io, worker);
  else for (const line of describeWorker(worker)) printLine(context.io, line);
  return 0;
}

async function runTrust(context: Context, given: Given): Promise<number> {
  const hostKey = textOf(given, "host-key");
  if (hostKey === undefined) {
    throw new OrchestratorError("invalid_input", "--host-key is missing", {
      hint: "name the fingerprint that the machine's owner told you: --host-key SHA256:...",
    });
  }
  const input = { ...byName(given), host_key: hostKey };
  const answer = asTrusted(await performAt(context, "controller", "worker.trust", input));
  if (isSet(given, "json")) printJson(context.io, answer);
  else {
    const { trusted, fingerprint } = answer;
    printLine(context.io, `trusted: ${cleanLine(trusted)} may show ${cleanLine(fingerprint)}`);
  }
  return 0;
}

/** Also used by `status`. */
export function workerTable(workers: readonly WorkerView[], columns: number): string[] {
  return table(
    ["WORKER", "STATE", "MACHINE", "AGENT", "RUN", "WHY"],
    workers.map((worker) => [
      worker.worker,
      worker.idle ? "idle" : worker.allocation,
      machineOf(worker),
      worker.status === null ? "-" : `${worker.status.status} ${formatAge(worker.status.age_ms)}`,
      worker.run_id ?? "-",
      worker.reason ?? worker.not_idle_because ?? "",
    ]),
    columns,
  );
}

function machineOf(worker: WorkerView): string {
  if (worker.provider_state === null) return "-";
  const age = worker.provider_state_age_ms;
  return age === null ? worker.provider_state : `${worker.provider_state} ${formatAge(age)}`;
}

export function describeWorker(worker: WorkerView): string[] {
  const flags = [worker.cordoned ? "cordoned" : "", worker.draining ? "draining" : ""].filter(
    Boolean,
  );
  return [
    `worker    ${worker.worker} (${worker.provider})`,
    `state     ${[worker.idle ? "idle" : worker.allocation, ...flags].join(", ")}${worker.reason === null ? "" : `: ${cleanLine(worker.reason)}`}`,
    ...(worker.not_idle_because === null
      ? []
      : [`not idle  ${cleanLine(worker.not_idle_because)}`]),
    `machine   ${machineOf(worker)}`,
    `agent     ${formatStatus(worker.status)}`,
    `run       ${worker.run_id ?? "-"}`,
    `created   ${formatTime(worker.created_at)}`,
    `watch     ${cleanLine(worker.attach)}`,
  ];
}
