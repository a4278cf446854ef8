import { OrchestratorError } from "../domain/errors.ts";
import { parseName } from "../domain/names.ts";
import type { HistoryView } from "../operations/views.ts";
import { goTo } from "./attach.ts";
import { cleanBlock, cleanLine } from "./clean.ts";
import type { Context } from "./context.ts";
import { followAndReport } from "./follow-command.ts";
import { formatTime } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import { duration, wholeNumber } from "./parse.ts";
import { workerNamed } from "./run-target.ts";
import { reportReceipt } from "./send.ts";
import { openSession, performAt } from "./session.ts";
import {
  argumentOf,
  isSet,
  json,
  printOption,
  textOf,
  type CommandSpec,
  type Given,
  type OptionSpec,
} from "./spec.ts";
import { asExecuted, asHistory, asLogs, asPlan, asWindowSent, asWorker } from "./views.ts";

/* What operators do with one worker: look, run, type, read. */

const workerArgument = { name: "worker", help: "the worker's name, for example kite-1" };
const argvArgument = {
  name: "argv",
  help: "program and arguments, after --",
  variadic: true,
} as const;
const spriteOption: OptionSpec = {
  name: "worker",
  short: "s",
  value: "name",
  help: "the worker (required)",
};
const execOptions: readonly OptionSpec[] = [
  { name: "timeout", value: "time", help: "for example 90s or 5m; default 60s" },
  { name: "as-is", help: "leave ~ and your own home folder in arguments as they are" },
  json,
];
const EXEC_NOTES = `The exit code is the program's own. A leading ~ of an argument is the worker's home folder; so is your own home folder, which is
what your shell makes of an unquoted ~ before this program sees it.`;
const READ = { repeatable: true };
const EXEC = { summary: "Run a program on a worker, in its home folder", notes: EXEC_NOTES };
const CONSOLE = {
  summary: "Put your terminal into a shell on a worker, in which 'tmux attach' finds its session",
  notes: "'orchestrator attach' goes to the agent's window at once.",
};

const byName = (given: Given) => ({ worker: workerNamed(argumentOf(given, 0)) });

export const commands: readonly CommandSpec[] = [
  {
    path: "worker allocate",
    summary: "Print the name of the worker that a dispatch would get now; changes nothing",
    notes:
      "The dispatch claims it. Exit code 3 when the task would have to wait; the reason is on standard error.",
    arguments: [{ name: "repo", help: "the pool" }],
    options: [json],
    examples: ["orchestrator worker allocate kite"],
    run: runAllocate,
  },
  {
    ...EXEC,
    path: "worker exec",
    arguments: [workerArgument, argvArgument],
    options: execOptions,
    examples: [
      "orchestrator worker exec kite-1 -- git -C kite log -1",
      "orchestrator worker exec kite-1 -- cat ~/.claude/history.jsonl",
    ],
    run: (context, given) =>
      runExec(context, given, workerNamed(argumentOf(given, 0)), given.arguments.slice(1)),
  },
  {
    path: "worker send",
    summary: "Type a command into a window of a worker, or give a message to its agent",
    notes: `'shell', an index or an id: typed as it is, one line, ended by Enter, and only where a shell waits for it. 'agent', or the index of the
agent's window: delivered as by 'orchestrator send', with its receipt.`,
    arguments: [
      workerArgument,
      { name: "window", help: "shell, agent, or a window's index" },
      { name: "text", help: "the command or message, as one argument" },
    ],
    options: [
      {
        name: "request-id",
        value: "id",
        help: "name of this request: repeated it never acts twice",
      },
      json,
    ],
    examples: [
      'orchestrator worker send kite-1 shell "git status"',
      'orchestrator worker send kite-1 agent "also update the docs"',
    ],
    run: runSendTo,
  },
  {
    path: "worker logs",
    summary: "Show the set-up logs of a worker's run and its agent's screen",
    arguments: [workerArgument],
    options: [{ name: "lines", value: "n", help: "at most this many; default 200" }, json],
    examples: ["orchestrator worker logs kite-1"],
    run: runLogs,
  },
  {
    path: "worker history",
    summary: "List a worker's runs with what was asked of them, newest last",
    arguments: [workerArgument],
    options: [{ name: "limit", value: "n", help: "at most this many runs; default 20" }, json],
    examples: ["orchestrator worker history kite-1"],
    run: runHistory,
  },
  {
    ...CONSOLE,
    path: "worker console",
    arguments: [workerArgument],
    options: [printOption, json],
    examples: ["orchestrator worker console kite-1"],
    run: (context, given) =>
      goTo(context, given, "worker.console", workerNamed(argumentOf(given, 0))),
  },
];

/** The same two as Fly's `sprite` has them. */
export const topCommands: readonly CommandSpec[] = [
  {
    ...EXEC,
    path: "exec",
    arguments: [argvArgument],
    options: [spriteOption, ...execOptions],
    examples: ["orchestrator exec -s kite-1 -- cat ~/.claude/history.jsonl"],
    run: (context, given) => runExec(context, given, spriteOf(given), given.arguments),
  },
  {
    ...CONSOLE,
    path: "console",
    options: [spriteOption, printOption, json],
    examples: ["orchestrator console -s kite-1"],
    run: (context, given) => goTo(context, given, "worker.console", spriteOf(given)),
  },
];

function spriteOf(given: Given): string {
  const name = textOf(given, "worker");
  if (name !== undefined) return workerNamed(name);
  throw new OrchestratorError("invalid_input", "-s is missing", {
    hint: "for example: orchestrator console -s kite-1",
  });
}

async function runAllocate(context: Context, given: Given): Promise<number> {
  const repo = parseName(argumentOf(given, 0), "repo");
  const plan = asPlan(
    await performAt(context, "controller", "dispatch.plan", { repo }, { repeatable: true }),
  );
  if (isSet(given, "json")) printJson(context.io, plan);
  else if (plan.worker !== null) printLine(context.io, cleanLine(plan.worker));
  if (plan.worker !== null) return 0;
  if (!isSet(given, "json")) context.io.writeError(`${cleanLine(plan.reason)}\n`);
  return 3;
}

async function runExec(
  context: Context,
  given: Given,
  worker: string,
  argv: readonly string[],
): Promise<number> {
  const isAsIs = isSet(given, "as-is");
  const input = {
    worker,
    argv: isAsIs ? argv : argv.map((word) => withTilde(word, context.env.userHome)),
    timeout_ms: duration(given, "timeout"),
    tilde: !isAsIs,
  };
  const result = asExecuted(await performAt(context, "controller", "worker.exec", input));
  const { io } = context;
  if (isSet(given, "json")) printJson(io, result);
  else {
    io.write(io.isTerminal ? cleanBlock(result.stdout) : result.stdout);
    io.writeError(io.isErrorTerminal ? cleanBlock(result.stderr) : result.stderr);
    if (result.truncated) io.writeError("the output was longer: only its beginning is shown\n");
    if (result.code === null)
      io.writeError("the program was ended by a signal or the time limit\n");
  }
  return result.code ?? 1;
}

/** The person's home folder at the beginning of a word is what their shell made of `~`. */
function withTilde(word: string, userHome: string): string {
  const isHome = word === userHome || word.startsWith(`${userHome}/`);
  return isHome && userHome !== "/" ? `~${word.slice(userHome.length)}` : word;
}

async function runSendTo(context: Context, given: Given): Promise<number> {
  const session = openSession(context, "controller");
  try {
    const sent = asWindowSent(
      await session.call(
        "worker.send",
        {
          ...byName(given),
          window: argumentOf(given, 1),
          text: argumentOf(given, 2),
          request_id: textOf(given, "request-id") ?? context.ids().next("request"),
        },
        { repeatable: true },
      ),
    );
    const asJson = isSet(given, "json");
    if (sent.run?.message.seq === 1) {
      // A run of its own, which continues the one that had ended: it gets the message now.
      const following = { until: "delivered", json: asJson, after: 0, message: 1 } as const;
      return await followAndReport(context, session, sent.run, following);
    }
    if (sent.run !== null) return reportReceipt(context, sent.run, asJson);
    if (asJson) printJson(context.io, sent);
    else printLine(context.io, `typed into ${cleanLine(sent.window)} of ${cleanLine(sent.worker)}`);
    return 0;
  } finally {
    await session.close();
  }
}

async function runLogs(context: Context, given: Given): Promise<number> {
  const session = openSession(context, "controller");
  try {
    const worker = asWorker(await session.call("worker.show", byName(given), READ));
    if (worker.run_id === null) {
      throw new OrchestratorError("not_found", `worker ${worker.worker} has not run anything yet`);
    }
    const input = { run_id: worker.run_id, lines: wholeNumber(given, "lines", 1) };
    const answer = asLogs(await session.call("run.logs", input, READ));
    if (isSet(given, "json")) printJson(context.io, answer);
    else context.io.write(cleanBlock(answer.text));
    return 0;
  } finally {
    await session.close();
  }
}

async function runHistory(context: Context, given: Given): Promise<number> {
  const input = { ...byName(given), limit: wholeNumber(given, "limit", 1) };
  const answer = asHistory(await performAt(context, "store", "worker.history", input, READ));
  const runs = answer.toReversed();
  if (isSet(given, "json")) for (const run of runs) printJson(context.io, run);
  else if (runs.length === 0) printLine(context.io, "no runs yet");
  else for (const run of runs) context.io.write(`${describe(run).join("\n")}\n`);
  return 0;
}

function describe(run: HistoryView): string[] {
  const why = run.reason === null ? "" : `: ${cleanLine(run.reason, 200)}`;
  return [
    `${formatTime(run.created_at)}  ${cleanLine(run.run_id)}  ${run.state}${why}`,
    ...run.messages.flatMap(({ receipt, text }) => [
      `  > ${cleanBlock(text).trimEnd().replaceAll("\n", "\n    ")}`,
      ...(receipt === "accepted" ? [] : [`    (receipt: ${receipt})`]),
    ]),
  ];
}
