import { OrchestratorError } from "../domain/errors.ts";
import type { Context } from "./context.ts";
import { showError } from "./errors.ts";
import { printJson, printLine } from "./io.ts";
import { NOUNS, type Noun } from "./nouns.ts";
import { parseQuickly } from "./parse.ts";
import type { CommandSpec } from "./spec.ts";

/** Runs one command line; resolves with the exit code and never rejects. */
export async function runCli(context: Context, argv: readonly string[]): Promise<number> {
  try {
    return await runWords(context, spelledOut(argv));
  } catch (error) {
    return showError(context.io, error, wantsJson(argv));
  }
}

/** `--repo kite ...` means `dispatch --repo kite ...`, and `help run list` means `run list --help`. */
function spelledOut(argv: readonly string[]): readonly string[] {
  const [first, ...rest] = argv;
  if (first === "help" && rest.length > 0) return [...rest, "--help"];
  const forProgram = first === undefined || ["-h", "--help", "-V", "--version"].includes(first);
  return !forProgram && first.startsWith("-") ? ["dispatch", ...argv] : argv;
}

async function runWords(context: Context, words: readonly string[]): Promise<number> {
  if (words[0] === "-V" || words[0] === "--version") return showVersion(context, words);
  const noun = nounOf(words);
  const specs = noun === undefined ? [] : await noun.load();
  const spec = specs.find(({ path }) => startsWith(words, path.split(" ")));
  if (spec !== undefined) {
    const given = parseQuickly(spec, words.slice(spec.path.split(" ").length));
    if (given !== undefined) return spec.run(context, given);
  }
  return runCarefully(context, words, specs);
}

function nounOf(words: readonly string[]): Noun | undefined {
  return NOUNS.find((noun) => noun.name === words[0]);
}

const startsWith = (words: readonly string[], path: readonly string[]): boolean =>
  path.every((word, index) => words[index] === word);

async function runCarefully(
  context: Context,
  words: readonly string[],
  specs: readonly CommandSpec[],
): Promise<number> {
  const { readCarefully } = await import("./help.ts");
  const reading = readCarefully(words, NOUNS, specs);
  if (reading.kind === "run") return reading.spec.run(context, reading.given);
  if (reading.wanted) {
    context.io.write(reading.text);
    return 0;
  }
  if (wantsJson(words)) {
    throw new OrchestratorError("invalid_input", "which command?", {
      hint: "'orchestrator --help' shows the commands",
    });
  }
  context.io.writeError(reading.text);
  return 2;
}

function showVersion(context: Context, words: readonly string[]): number {
  if (wantsJson(words)) printJson(context.io, { version: context.version });
  else printLine(context.io, context.version);
  return 0;
}

/** What follows `--` belongs to another program. */
function wantsJson(words: readonly string[]): boolean {
  const end = words.indexOf("--");
  return (end < 0 ? words : words.slice(0, end)).includes("--json");
}
