import { splitWorkerName } from "../domain/names.ts";
import type { CheckView } from "../operations/views.ts";
import { cleanLine } from "./clean.ts";
import type { Context } from "./context.ts";
import { asOrchestratorError, exitCodeOf } from "./errors.ts";
import { formatAge, formatMs, plural } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import { targetName, workerNamed } from "./run-target.ts";
import { performAt } from "./session.ts";
import { argumentOf, isSet, json, type CommandSpec, type Given } from "./spec.ts";
import { table } from "./table.ts";
import { asCheck } from "./views.ts";

export const commands: readonly CommandSpec[] = [
  {
    path: "check",
    summary:
      "Compare the window names of every awake worker with the derived status, and log changes",
    notes: `Corrects a name that keeps saying something else, starts a guard again that has ended, and writes a line for each change and one for
the check to the status log (check.log in config.yaml). Wakes no worker. With --silent nothing is printed, whatever happens: what went wrong is
a line in the log, and the exit code. 'orchestrator cron install' runs it every 30 minutes.`,
    arguments: [
      { name: "worker", help: "only this worker (or only this pool)", optional: true },
      { name: "repo", help: "the worker's pool", optional: true },
    ],
    options: [{ name: "silent", help: "print nothing" }, json],
    examples: [
      "orchestrator check",
      "orchestrator check --silent",
      "orchestrator check --silent kite-1 kite",
    ],
    run: runCheck,
  },
];

async function runCheck(context: Context, given: Given): Promise<number> {
  const isSilent = isSet(given, "silent");
  try {
    const reach = isSilent ? "brief" : "controller";
    const answer = await performAt(context, reach, "check", scopeOf(given), { repeatable: true });
    if (!isSilent) show(context, given, asCheck(answer));
    return 0;
  } catch (thrown) {
    if (!isSilent) throw thrown;
    const error = asOrchestratorError(thrown);
    const { logFailure } = await import("./config-files.ts");
    // Nobody is left to be told when even that fails.
    await logFailure(context, error).catch(() => {});
    return exitCodeOf(error.code);
  }
}

function scopeOf(given: Given): { worker?: string; repo?: string } {
  const [first, second] = [argumentOf(given, 0), argumentOf(given, 1)];
  if (first === "") return {};
  if (second !== "") return { worker: workerNamed(first), repo: targetName(second, "repo") };
  return splitWorkerName(first) === undefined
    ? { repo: targetName(first, "worker or repo") }
    : { worker: first };
}

function show(context: Context, given: Given, check: CheckView): void {
  const { io } = context;
  if (isSet(given, "json")) return printJson(io, check);
  const changes = check.workers.filter(({ changed }) => changed);
  if (changes.length === 0) printLine(io, "no changes");
  else for (const line of changeTable(changes, io.columns)) printLine(io, line);
  const { counts } = check;
  const parts = Object.entries(counts)
    .filter(([name, value]) => name !== "workers" && value > 0)
    .map(([name, value]) => `${value} ${name.replace("_", " ")}`);
  const what = [plural(counts.workers, "worker"), ...parts].join(", ");
  printLine(io, `${what}, in ${formatMs(check.ms)}; log: ${cleanLine(check.log)}`);
  if (check.log_refused !== null) {
    io.writeError(`warning: ${cleanLine(check.log_refused)} cannot be written\n`);
  }
}

const changeTable = (changes: CheckView["workers"], columns: number): string[] =>
  table(
    ["WORKER", "MACHINE", "WINDOW", "STATUS", "RUN", "FOUND", "WHY"],
    changes.map((each) => [
      each.worker,
      each.machine ?? "-",
      each.was === null ? (each.window ?? "-") : `${each.was} -> ${each.window ?? "-"}`,
      each.status === null ? "-" : `${each.status} ${formatAge(each.age_ms)}`,
      each.run_id ?? "-",
      each.found.length === 0 ? "ok" : each.found.join(", "),
      each.reason,
    ]),
    columns,
  );
