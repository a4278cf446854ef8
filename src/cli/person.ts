import { hostname, userInfo } from "node:os";
import { cleanBlock, cleanLine } from "./clean.ts";
import type { Context } from "./context.ts";
import { asOrchestratorError } from "./errors.ts";
import { printJson, printLine } from "./io.ts";
import { targetName } from "./run-target.ts";
import { performAt } from "./session.ts";
import { argumentOf, isSet, json, textOf, type CommandSpec, type Given } from "./spec.ts";
import { asAnswer, asInterrupt } from "./views.ts";

export const commands: readonly CommandSpec[] = [
  {
    path: "answer",
    summary: "Answer the question that a run's agent asks, as the operator",
    notes: `Without an answer it shows what is asked, and the options. 'deny' tells the agent so, and it goes on without; an option named by its number or text is
taken as it stands. Keys are pressed only on a question that was recorded from this version of the agent program; any other is refused with its screen
(exit code 8), and so is everything while somebody is attached. Who answered, and what was pressed, is recorded as an event.`,
    arguments: [
      { name: "run", help: "the run's id" },
      { name: "answer", help: "allow, deny, or an option by its number or text", optional: true },
    ],
    options: [
      { name: "because", value: "text", help: "with deny: what the agent is told, one line" },
      {
        name: "question",
        value: "id",
        help: "only if this question is still the one that is open",
      },
      json,
    ],
    examples: [
      "orchestrator answer run-7k3m9x2q0abc",
      "orchestrator answer run-7k3m9x2q0abc allow",
      'orchestrator answer run-7k3m9x2q0abc deny --because "use the test database"',
    ],
    run: runAnswer,
  },
  {
    path: "interrupt",
    summary: "Stop an agent's turn; the run stays and takes the next message",
    notes: `By the program's own key on a screen that is known to show a turn, or by a signal (runtime shell: the command ends, and with it the run).
Confirmed by what the agent shows afterwards. Exit code 12 when it is in no turn, 8 when its screen is not a known one.`,
    arguments: [{ name: "target", help: "a run or a worker" }],
    options: [json],
    examples: ["orchestrator interrupt kite-1", "orchestrator interrupt run-7k3m9x2q0abc"],
    run: runInterrupt,
  },
];

async function runAnswer(context: Context, given: Given): Promise<number> {
  const input = {
    run_id: targetName(argumentOf(given, 0), "run"),
    choice: given.arguments[1],
    because: textOf(given, "because"),
    question: textOf(given, "question"),
    by: operator(),
  };
  const answer = asAnswer(
    await withScreen(context, given, () => performAt(context, "controller", "run.answer", input)),
  );
  const { io } = context;
  if (isSet(given, "json")) return printed(context, answer);
  if (answer.chosen !== null) {
    printLine(
      io,
      `answered  ${cleanLine(answer.chosen.label)} (${cleanLine(answer.evidence ?? "")})`,
    );
    return 0;
  }
  printLine(io, `question  ${cleanLine(answer.question.id)}: ${cleanLine(answer.question.kind)}`);
  for (const line of answer.question.text) printLine(io, `  | ${cleanLine(line)}`);
  for (const { number, label, role } of answer.question.options) {
    printLine(io, `  ${number}  ${cleanLine(label)}${role === "other" ? "" : ` (${role})`}`);
  }
  printLine(io, `answer it with: orchestrator answer ${answer.run.run_id} allow|deny|NUMBER`);
  return 0;
}

async function runInterrupt(context: Context, given: Given): Promise<number> {
  const input = { target: targetName(argumentOf(given, 0)), by: operator() };
  const answer = asInterrupt(
    await withScreen(context, given, () =>
      performAt(context, "controller", "run.interrupt", input),
    ),
  );
  if (isSet(given, "json")) return printed(context, answer);
  printLine(
    context.io,
    `interrupted  ${answer.run.run_id} by ${answer.keys.join(" ")} (${cleanLine(answer.evidence)})`,
  );
  return 0;
}

function printed(context: Context, value: unknown): number {
  printJson(context.io, value);
  return 0;
}

/** Where keys are refused for a screen, the person sees it. */
async function withScreen<T>({ io }: Context, given: Given, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const screen = asOrchestratorError(error).details["screen"];
    if (typeof screen === "string" && !isSet(given, "json")) {
      for (const line of cleanBlock(screen).split("\n"))
        io.writeError(`| ${line}`.trimEnd() + "\n");
    }
    throw error;
  }
}

/** The socket is this user's alone: this says which of a team's machines it was. */
function operator(): string {
  return cleanLine(`${userInfo().username}@${hostname()}`, 100);
}
