import { Command, CommanderError, Option } from "commander";
import { OrchestratorError } from "../domain/errors.ts";
import type { Noun } from "./nouns.ts";
import type { CommandSpec, Given, OptionSpec, OptionValue } from "./spec.ts";

/** What the words mean when they are read with all care. */
export type Reading =
  | { readonly kind: "run"; readonly spec: CommandSpec; readonly given: Given }
  | { readonly kind: "help"; readonly text: string; readonly wanted: boolean };

/**
 * Reads a command line with commander: answers help, and says what is wrong with a suggestion (`invalid_input`).
 * `specs` are those of the noun that was named; of the others the summaries are enough.
 */
export function readCarefully(
  words: readonly string[],
  nouns: readonly Noun[],
  specs: readonly CommandSpec[],
): Reading {
  let reading: Reading | undefined;
  let help = "";
  const root = program(nouns, specs, (spec, given) => {
    reading = { kind: "run", spec, given };
  });
  eachCommand(root, (command) =>
    command
      .exitOverride()
      .configureOutput({
        writeOut: (text) => {
          help += text;
        },
        writeErr: (text) => {
          help += text;
        },
        outputError: () => {},
      })
      .showSuggestionAfterError(true),
  );
  try {
    root.parse([...words], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return { kind: "help", text: help, wanted: true };
    if (error.code === "commander.help") return { kind: "help", text: help, wanted: false };
    throw usageError(error, words, specs);
  }
  if (reading !== undefined) return reading;
  return { kind: "help", text: root.helpInformation(), wanted: false };
}

function program(
  nouns: readonly Noun[],
  specs: readonly CommandSpec[],
  take: (spec: CommandSpec, given: Given) => void,
): Command {
  const root = new Command("orchestrator")
    .description(
      "Puts a task in the hands of a coding agent on its own machine, and tells the truth about it.",
    )
    .usage("--repo <name> --command <task>   or: orchestrator <command> [options]")
    .option("-V, --version", "print the version")
    .addHelpText(
      "after",
      '\nExamples:\n  orchestrator --repo kite --command "fix the bug"\n  orchestrator status\n  orchestrator run list --help\n',
    );
  const groups = new Map<string, Command>();
  for (const noun of nouns) {
    const own = specs.filter((spec) => spec.path.split(" ")[0] === noun.name);
    const single = own.find((spec) => spec.path === noun.name);
    const command = single ? build(single, take) : new Command(noun.name).description(noun.summary);
    if (noun.hidden !== true) root.addCommand(command);
    else root.addCommand(command, { hidden: true });
    groups.set(noun.name, command);
  }
  for (const spec of specs) {
    const [group = "", leaf] = spec.path.split(" ");
    if (leaf !== undefined) groups.get(group)?.addCommand(build(spec, take));
  }
  return root;
}

function build(spec: CommandSpec, take: (spec: CommandSpec, given: Given) => void): Command {
  const command = new Command(spec.path.split(" ").at(-1)).description(
    spec.notes === undefined ? spec.summary : `${spec.summary}\n\n${spec.notes}`,
  );
  command.summary(spec.summary);
  for (const argument of spec.arguments ?? []) {
    const name = argument.variadic === true ? `${argument.name}...` : argument.name;
    command.argument(argument.optional === true ? `[${name}]` : `<${name}>`, argument.help);
  }
  for (const option of spec.options ?? []) command.addOption(toOption(option));
  command
    .allowExcessArguments(false)
    .addHelpText("after", `\nExamples:\n${spec.examples.map((line) => `  ${line}\n`).join("")}`)
    .action(() => take(spec, { options: optionsOf(spec, command), arguments: command.args }));
  return command;
}

function toOption(spec: OptionSpec): Option {
  const short = spec.short === undefined ? "" : `-${spec.short}, `;
  const flags = `${short}--${spec.name}${spec.value === undefined ? "" : ` <${spec.value}>`}`;
  const option = new Option(flags, spec.help);
  if (spec.choices !== undefined) option.choices([...spec.choices]);
  if (spec.multiple === true) {
    option.argParser((value: string, former: readonly string[] | undefined) => [
      ...(former ?? []),
      value,
    ]);
  }
  return option;
}

function optionsOf(spec: CommandSpec, command: Command): Record<string, OptionValue> {
  const values = command.opts<Record<string, OptionValue | undefined>>();
  const options: Record<string, OptionValue> = {};
  for (const option of spec.options ?? []) {
    const isNegated = option.name.startsWith("no-");
    const value = values[toOption(option).attributeName()];
    if (isNegated && value === false) options[option.name] = true;
    else if (!isNegated && value !== undefined) options[option.name] = value;
  }
  return options;
}

function eachCommand(command: Command, act: (command: Command) => void): void {
  act(command);
  for (const child of command.commands) eachCommand(child, act);
}

function usageError(
  error: CommanderError,
  words: readonly string[],
  specs: readonly CommandSpec[],
): OrchestratorError {
  const [first = "", ...more] = error.message.replace(/^error: /, "").split("\n");
  const suggestion = more
    .join(" ")
    .replace(/^\((.*)\)$/, "$1")
    .trim();
  const spec = specs.find(({ path }) => words.join(" ").startsWith(path)) ?? specs[0];
  const example =
    spec === undefined
      ? "'orchestrator --help' shows the commands"
      : `for example: ${spec.examples[0]}`;
  return new OrchestratorError("invalid_input", first, {
    hint: suggestion === "" ? example : suggestion,
  });
}
