import { isTerminal } from "../domain/run.ts";
import type { RunView } from "../operations/views.ts";
import { cleanBlock, cleanLine } from "./clean.ts";
import { paletteOf } from "./colour.ts";
import type { Context } from "./context.ts";
import { exitCodeOf, showError, toJsonError } from "./errors.ts";
import { judge } from "./follow.ts";
import { formatAge } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import { duration, wholeNumber } from "./parse.ts";
import { lastEventOf, targetName } from "./run-target.ts";
import { openSession, performAt } from "./session.ts";
import { argumentOf, isSet, json, textOf, type CommandSpec, type Given } from "./spec.ts";
import { table } from "./table.ts";
import { readTaskText, saysStandardInput, textOptions } from "./task-text.ts";
import { asDiff, asLogs, asRun, asRunDetail, asRuns } from "./views.ts";

const runArgument = { name: "run", help: "the run's id" };
const READ = { repeatable: true };

const runId = (given: Given): { readonly run_id: string } => ({
  run_id: targetName(argumentOf(given, 0), "run"),
});

export const commands: readonly CommandSpec[] = [
  {
    path: "run list",
    summary: "List runs, newest first",
    options: [
      { name: "repo", value: "name", help: "only this pool" },
      { name: "live", help: "only runs that have not ended" },
      { name: "limit", value: "n", help: "at most this many; default 50" },
      json,
    ],
    examples: ["orchestrator run list", "orchestrator run list --repo kite --live"],
    async run(context, given) {
      const input = {
        repo: textOf(given, "repo"),
        live: isSet(given, "live"),
        limit: wholeNumber(given, "limit", 1),
      };
      const runs = asRuns(await performAt(context, "store", "run.list", input, READ));
      if (isSet(given, "json")) for (const run of runs) printJson(context.io, run);
      else printRuns(context, runs);
      return 0;
    },
  },
  {
    path: "run show",
    summary: "Show one run: steps, messages with receipts, status with evidence, report",
    arguments: [runArgument],
    options: [json],
    examples: ["orchestrator run show run-7k3m9x2q0abc"],
    async run(context, given) {
      const run = asRunDetail(await performAt(context, "store", "run.show", runId(given), READ));
      if (isSet(given, "json")) printJson(context.io, run);
      else {
        const { describeRun } = await import("./run-detail.ts");
        const lines = describeRun(run, context.clock().now(), paletteOf(context.io));
        for (const line of lines) printLine(context.io, line);
      }
      return 0;
    },
  },
  {
    path: "run diff",
    summary: "Show what the run changed, files not committed included, as a patch",
    notes:
      "Byte for byte when it goes to a file or a pipe; cleaned of control characters on a terminal.",
    arguments: [runArgument],
    options: [json],
    examples: [
      "orchestrator run diff run-7k3m9x2q0abc",
      "orchestrator run diff run-7k3m9x2q0abc | git apply",
    ],
    async run(context, given) {
      const answer = asDiff(await performAt(context, "controller", "run.diff", runId(given), READ));
      if (isSet(given, "json")) printJson(context.io, answer);
      else context.io.write(context.io.isTerminal ? cleanBlock(answer.diff) : answer.diff);
      return 0;
    },
  },
  {
    path: "run recover",
    summary: "Bring a snapshot of a run back, into a new folder or as a new branch",
    notes: `Works when the worker is gone: snapshots are in the mirror. --to ./folder makes a clone with branch, stashes, staged and not
committed files as they were; --to name makes a branch of the mirror. Nothing that exists is ever written over.`,
    arguments: [runArgument],
    options: [
      { name: "list", help: "show what there is, and bring back nothing" },
      { name: "snapshot", value: "n", help: "its number, or latest (default)" },
      {
        name: "to",
        value: "where",
        help: "a folder (begins with / or .), or else the name of a branch",
      },
      { name: "push", help: "push the branch to the repository's remote as well" },
      json,
    ],
    examples: [
      "orchestrator run recover run-7k3m9x2q0abc --list",
      "orchestrator run recover run-7k3m9x2q0abc --to ./rescued",
      "orchestrator run recover run-7k3m9x2q0abc --snapshot 1763640000123 --to rescued-work --push",
    ],
    run: async (context, given) => (await import("./recover.ts")).runRecover(context, given),
  },
  {
    path: "run logs",
    summary: "Show the set-up logs of a run and the agent's screen, or follow it to its end",
    notes: `--follow shows the run from its beginning as it happens: its events, the output of its set-up, and what the agent's hooks say; whichever worker it is on.
It ends with the run. Exit codes with --follow: 0 completed; 5 failed or cancelled; 130 after Ctrl-C, which stops nothing.`,
    arguments: [runArgument],
    options: [
      { name: "lines", value: "n", help: "last lines of each; default 200" },
      { name: "follow", short: "f", help: "show what happens until the run has ended" },
      json,
    ],
    examples: [
      "orchestrator run logs run-7k3m9x2q0abc --lines 50",
      "orchestrator run logs -f latest",
    ],
    async run(context, given) {
      if (isSet(given, "follow"))
        return (await import("./run-follow.ts")).followRunLogs(context, given, runId(given).run_id);
      const input = { ...runId(given), lines: wholeNumber(given, "lines", 1) };
      const answer = asLogs(await performAt(context, "controller", "run.logs", input, READ));
      if (isSet(given, "json")) printJson(context.io, answer);
      else context.io.write(ended(cleanBlock(answer.text)));
      return 0;
    },
  },
  {
    path: "run wait",
    summary: "Wait until a run is as far as asked",
    notes: `--until delivered: the agent has the message; settled: it has ended or needs a person; ended (default).
Exit codes: 0 completed or delivered; 3 the time is over; 5 failed or cancelled; 6 delivery not confirmed; 8 blocked;
16 blocked by a limit that somebody must lift (one with a time is waited for).`,
    arguments: [runArgument],
    options: [
      { name: "until", value: "what", help: "how far", choices: ["delivered", "settled", "ended"] },
      { name: "timeout", value: "time", help: "for example 90s, 5m or 2h; default: no limit" },
      json,
    ],
    examples: ["orchestrator run wait run-7k3m9x2q0abc --timeout 30m"],
    run: runWait,
  },
  {
    path: "run cancel",
    summary: "Stop a run: its agent is stopped and proven over, its work saved",
    arguments: [runArgument],
    options: [json],
    examples: ["orchestrator run cancel run-7k3m9x2q0abc"],
    async run(context, given) {
      const run = asRun(await performAt(context, "controller", "run.cancel", runId(given), READ));
      if (isSet(given, "json")) printJson(context.io, run);
      else printLine(context.io, `${run.run_id} is ${run.state}`);
      return 0;
    },
  },
  {
    path: "run retry",
    summary: "Start a run's task again as a new run, once the former one is proven over",
    arguments: [runArgument],
    options: [
      {
        name: "request-id",
        value: "id",
        help: "name of this request: repeated it never acts twice",
      },
      { name: "wait", help: "follow until the new run has ended, or needs a person" },
      json,
    ],
    examples: ["orchestrator run retry run-7k3m9x2q0abc"],
    async run(context, given) {
      const input = {
        ...runId(given),
        request_id: textOf(given, "request-id") ?? context.ids().next("request"),
      };
      return actAndFollow(context, given, "run.retry", input, false);
    },
  },
  {
    path: "run resume",
    summary: "Continue a blocked run's conversation with a new launch of its agent",
    notes: "Without a text the agent is told to go on with its task.",
    arguments: [
      runArgument,
      { name: "-", help: "read the text from standard input", optional: true },
    ],
    options: [
      ...textOptions,
      { name: "wait", help: "follow until the run has ended, or needs a person again" },
      json,
    ],
    examples: [
      "orchestrator run resume run-7k3m9x2q0abc",
      'orchestrator run resume run-7k3m9x2q0abc --command "use the other branch"',
    ],
    async run(context, given) {
      const isNamed = textOf(given, "command") !== undefined || textOf(given, "file") !== undefined;
      const reads = saysStandardInput(given, 1);
      // The text is optional here: a pipe that happens to be there is not read.
      const text = isNamed || reads ? await readTaskText(context.io, given, reads) : undefined;
      return actAndFollow(context, given, "run.resume", { ...runId(given), text }, true);
    },
  },
];

async function actAndFollow(
  context: Context,
  given: Given,
  op: string,
  input: {
    readonly run_id: string;
    readonly request_id?: string;
    readonly text?: string | undefined;
  },
  sameRun: boolean,
): Promise<number> {
  const session = openSession(context, "controller");
  try {
    const after = sameRun ? await lastEventOf(session, input.run_id) : 0;
    const run = asRun(
      await session.call(op, input, { repeatable: input.request_id !== undefined }),
    );
    const asJson = isSet(given, "json");
    if (!asJson) printLine(context.io, `run       ${run.run_id}: ${cleanLine(run.task, 100)}`);
    const { followAndReport } = await import("./follow-command.ts");
    return await followAndReport(context, session, run, {
      until: isSet(given, "wait") ? "ended" : "delivered",
      json: asJson,
      after,
    });
  } finally {
    await session.close();
  }
}

async function runWait(context: Context, given: Given): Promise<number> {
  const timeout = duration(given, "timeout");
  const input = { ...runId(given), timeout_ms: timeout, until: textOf(given, "until") };
  let run = asRunDetail(await performAt(context, "store", "run.show", runId(given), READ));
  // A run that has not ended needs its controller to come further.
  if (!isTerminal(run.state)) {
    run = asRunDetail(await performAt(context, "controller", "run.wait", input, READ));
  }
  const { error } = judge(run);
  if (isSet(given, "json")) {
    printJson(context.io, {
      ...run,
      ...(error === undefined ? {} : { error: toJsonError(error) }),
    });
    return error === undefined ? 0 : exitCodeOf(error.code);
  }
  printLine(
    context.io,
    `${run.run_id}  ${run.state}${run.state_reason === null ? "" : `: ${cleanLine(run.state_reason)}`}`,
  );
  return error === undefined ? 0 : showError(context.io, error, false);
}

function printRuns(context: Context, runs: readonly RunView[]): void {
  if (runs.length === 0) return printLine(context.io, "no runs");
  const now = context.clock().now();
  for (const line of runTable(runs, now, context.io.columns)) printLine(context.io, line);
}

/** Also used by `status`. */
export function runTable(runs: readonly RunView[], now: number, columns: number): string[] {
  return table(
    ["RUN", "STATE", "WORKER", "AGENT", "AGE", "TASK"],
    runs.map((run) => [
      run.run_id,
      stateOf(run),
      run.worker ?? "-",
      run.status === null || isTerminal(run.state)
        ? "-"
        : `${run.status.status} ${formatAge(run.status.age_ms)}`,
      formatAge(now - run.created_at),
      run.task,
    ]),
    columns,
  );
}

function stateOf(run: RunView): string {
  const unrescued = run.unrescued ? " unrescued" : "";
  const reason =
    run.state === "blocked" && run.state_reason !== null
      ? `: ${cleanLine(run.state_reason, 40)}`
      : "";
  return `${run.state}${unrescued}${reason}`;
}

const ended = (text: string): string => (text === "" || text.endsWith("\n") ? text : `${text}\n`);
