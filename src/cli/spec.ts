import type { Context } from "./context.ts";

/*
 * A command as data: read by parse.ts on the way that must be fast, and by help.ts (commander) for help and for saying
 * what was wrong. One file per noun declares its commands and loads nothing heavy.
 */

export interface OptionSpec {
  /** Without dashes: `on-full`. */
  readonly name: string;
  /** One letter that means the same. */
  readonly short?: string;
  /** How its value is called in the help; absent: a switch. */
  readonly value?: string;
  readonly help: string;
  readonly choices?: readonly string[];
  /** May be given several times. */
  readonly multiple?: true;
}

export interface ArgumentSpec {
  readonly name: string;
  readonly help: string;
  readonly optional?: true;
  /** Takes all that follow; the last argument only. */
  readonly variadic?: true;
}

export interface CommandSpec {
  /** Words that reach it: `run list`. */
  readonly path: string;
  readonly summary: string;
  /** What the help says below the summary. */
  readonly notes?: string;
  readonly arguments?: readonly ArgumentSpec[];
  readonly options?: readonly OptionSpec[];
  /** Each a whole command line. */
  readonly examples: readonly [string, ...string[]];
  /** Resolves with the exit code; errors are thrown. */
  run(context: Context, given: Given): Promise<number>;
}

/** What the command line gave: options by name, arguments in order. */
export interface Given {
  readonly options: Readonly<Record<string, OptionValue | undefined>>;
  readonly arguments: readonly string[];
}

export type OptionValue = string | boolean | readonly (string | boolean)[];

export const json: OptionSpec = { name: "json", help: "print JSON, one object a line" };

/** Of the two commands that attach. */
export const printOption: OptionSpec = {
  name: "print",
  help: "print the command instead of running it (so does --json)",
};

export function isSet(given: Given, name: string): boolean {
  return given.options[name] === true;
}

export function textOf(given: Given, name: string): string | undefined {
  const value = given.options[name];
  return typeof value === "string" ? value : undefined;
}

export function listOf(given: Given, name: string): readonly string[] | undefined {
  const value = given.options[name];
  return typeof value === "object" ? value.map(String) : undefined;
}

/** The argument at that place; parse.ts has made sure that required ones are there. */
export function argumentOf(given: Given, index: number): string {
  return given.arguments[index] ?? "";
}
