import { cleanLine } from "./clean.ts";
import { printJson, printLine } from "./io.ts";
import { duration } from "./parse.ts";
import { performAt } from "./session.ts";
import { isSet, json, type CommandSpec } from "./spec.ts";
import { asRescued } from "./views.ts";
import { byName, describeWorker, showWorkerAfter, workerArgument } from "./worker.ts";

/** Commands that take workers out of use, bring them back, and save their work. */
export const commands: readonly CommandSpec[] = [
  {
    path: "worker cordon",
    summary: "Give a worker no new run; the one that it has goes on",
    arguments: [workerArgument],
    options: [json],
    examples: ["orchestrator worker cordon kite-1"],
    run: (context, given) =>
      showWorkerAfter(context, given, "controller", "worker.cordon", byName(given), true),
  },
  {
    path: "worker uncordon",
    summary: "Use a worker again that was cordoned or draining",
    arguments: [workerArgument],
    options: [json],
    examples: ["orchestrator worker uncordon kite-1"],
    run: (context, given) =>
      showWorkerAfter(context, given, "controller", "worker.uncordon", byName(given), true),
  },
  {
    path: "worker drain",
    summary: "Give a worker no new run, and optionally wait for the end of its run and destroy it",
    notes: `It keeps draining until it is uncordoned. With --wait: exit code 8 when its run is blocked, 3 when the time is over; the
worker drains on all the same.`,
    arguments: [workerArgument],
    options: [
      { name: "wait", help: "until its run has ended" },
      { name: "destroy", help: "wait, then destroy it, after the same proof as 'worker destroy'" },
      {
        name: "timeout",
        value: "time",
        help: "how long to wait, for example 2h; default: no limit",
      },
      json,
    ],
    examples: [
      "orchestrator worker drain kite-1",
      "orchestrator worker drain kite-1 --wait --timeout 2h",
      "orchestrator worker drain kite-1 --destroy",
    ],
    run: (context, given) => {
      const input = {
        ...byName(given),
        wait: isSet(given, "wait"),
        destroy: isSet(given, "destroy"),
        timeout_ms: duration(given, "timeout"),
      };
      return showWorkerAfter(context, given, "controller", "worker.drain", input, !input.destroy);
    },
  },
  {
    path: "worker reset",
    summary: "Bring a worker back to what a new one is like, after proof that its work is saved",
    notes:
      "Refused (exit code 8, with the reason) while a run has it, its agent works, somebody is attached, or work on it cannot be saved.",
    arguments: [workerArgument],
    options: [json],
    examples: ["orchestrator worker reset kite-1"],
    run: (context, given) =>
      showWorkerAfter(context, given, "controller", "worker.reset", byName(given), false),
  },
  {
    path: "worker rescue",
    summary: "Save what is on a worker that was set aside, and make the worker usable again",
    notes: `For workers that are 'unready: unrescued'. What cannot be saved is named with the reason (exit code 8), and the worker stays as it
is. The work is then in the mirror: 'orchestrator run recover RUN'.`,
    arguments: [workerArgument],
    options: [json],
    examples: ["orchestrator worker rescue kite-1"],
    async run(context, given) {
      const rescued = asRescued(
        await performAt(context, "controller", "worker.rescue", byName(given)),
      );
      const { io } = context;
      if (isSet(given, "json")) {
        printJson(io, rescued);
        return 0;
      }
      for (const line of describeWorker(rescued)) printLine(io, line);
      const run = cleanLine(rescued.rescued_run);
      printLine(io, `saved     the work of ${run}; see 'orchestrator run recover ${run} --list'`);
      for (const name of rescued.skipped) printLine(io, `left      ${cleanLine(name)}`);
      return 0;
    },
  },
  {
    path: "worker adopt",
    summary:
      "Take a machine of this fleet that the store does not know back into its pool, set aside",
    notes:
      "For after an older store was restored. Never a machine of another fleet. 'worker rescue' then saves what is on it and makes it usable.",
    arguments: [workerArgument],
    options: [json],
    examples: ["orchestrator worker adopt kite-3"],
    run: (context, given) =>
      showWorkerAfter(context, given, "controller", "worker.adopt", byName(given), true),
  },
];
