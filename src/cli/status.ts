import type { StatusView } from "../operations/views.ts";
import { cleanLine } from "./clean.ts";
import { paletteOf, type Palette } from "./colour.ts";
import type { Context } from "./context.ts";
import { formatStatus } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import { limitTable } from "./limit.ts";
import { poolTable } from "./pool.ts";
import { runTable } from "./run.ts";
import { targetName } from "./run-target.ts";
import { performAt } from "./session.ts";
import { isSet, json, type CommandSpec, type Given } from "./spec.ts";
import { asStatus } from "./views.ts";
import { workerTable } from "./worker.ts";

export const commands: readonly CommandSpec[] = [
  {
    path: "status",
    summary: "Status of the fleet, a pool, a worker or a run, with source, reason and age",
    arguments: [
      { name: "target", help: "a repo, a worker or a run; default: all", optional: true },
    ],
    options: [{ name: "explain", help: "show every reading a status rests on" }, json],
    examples: [
      "orchestrator status",
      "orchestrator status kite-1 --explain",
      "orchestrator status run-7k3m9x2q0abc --json",
    ],
    run: runStatus,
  },
];

async function runStatus(context: Context, given: Given): Promise<number> {
  const [word] = given.arguments;
  const input = word === undefined ? {} : { target: targetName(word) };
  const status = asStatus(await performAt(context, "store", "status", input, { repeatable: true }));
  const { io } = context;
  if (isSet(given, "json")) {
    printJson(io, status);
    return 0;
  }
  const now = context.clock().now();
  if (status.limits.length > 0)
    printLines(context, [...limitTable(status.limits, now, io.columns), ""]);
  if (status.paused.length > 0) printLines(context, [...poolTable(status.paused, io.columns), ""]);
  if (status.workers.length === 0 && status.runs.length === 0)
    printLine(io, "no workers, no live runs");
  if (status.workers.length > 0) printLines(context, workerTable(status.workers, io.columns));
  if (status.workers.length > 0 && status.runs.length > 0) printLine(io);
  if (status.runs.length > 0) printLines(context, runTable(status.runs, now, io.columns));
  const isOne = word !== undefined && status.runs.length === 1;
  if (isOne || isSet(given, "explain")) {
    const palette = paletteOf(io);
    for (const run of status.runs)
      printLines(context, explain(run.run_id, run.status, isSet(given, "explain"), palette));
  }
  return 0;
}

function explain(
  name: string,
  status: StatusView | null,
  withReadings: boolean,
  palette: Palette,
): string[] {
  const readings = withReadings ? (status?.explain ?? []) : [];
  return [
    "",
    `${palette.bold(name)}  ${formatStatus(status)}`,
    ...readings.map((line) => `  ${cleanLine(line)}`),
  ];
}

function printLines(context: Context, lines: readonly string[]): void {
  for (const line of lines) printLine(context.io, line);
}
