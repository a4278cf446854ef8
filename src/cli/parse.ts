import { parseArgs } from "node:util";
import { OrchestratorError } from "../domain/errors.ts";
import type { CommandSpec, Given, OptionSpec } from "./spec.ts";

/**
 * Reads the words after a command's path. Undefined when they are not plainly right (help wanted, unknown option, a
 * value that looks like an option, too few or too many arguments): then help.ts decides, at its own pace.
 */
export function parseQuickly(spec: CommandSpec, words: readonly string[]): Given | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...words],
      options: Object.fromEntries((spec.options ?? []).map(toParseOption)),
      strict: true,
      allowPositionals: true,
    });
    const given = { options: { ...values }, arguments: positionals };
    return fits(spec, given) ? given : undefined;
  } catch {
    return undefined;
  }
}

function toParseOption(option: OptionSpec) {
  const type = option.value === undefined ? ("boolean" as const) : ("string" as const);
  const short = option.short === undefined ? {} : { short: option.short };
  return [option.name, { type, multiple: option.multiple === true, ...short }] as const;
}

function fits(spec: CommandSpec, given: Given): boolean {
  const wanted = spec.arguments ?? [];
  const least = wanted.filter((argument) => argument.optional !== true).length;
  const most = wanted.at(-1)?.variadic === true ? Infinity : wanted.length;
  const { length } = given.arguments;
  return (
    length >= least &&
    length <= most &&
    (spec.options ?? []).every((option) => isChosen(option, given))
  );
}

function isChosen({ name, choices }: OptionSpec, given: Given): boolean {
  const value = given.options[name];
  return choices === undefined || typeof value !== "string" || choices.includes(value);
}

/** A whole number of at least `least`, or `invalid_input` naming the option. */
export function wholeNumber(given: Given, name: string, least = 0): number | undefined {
  const text = given.options[name];
  if (typeof text !== "string") return undefined;
  const value = Number(text);
  if (/^\d{1,15}$/.test(text) && value >= least) return value;
  throw new OrchestratorError(
    "invalid_input",
    `--${name} ${JSON.stringify(text.slice(0, 40))} is no whole number from ${least}`,
    { hint: `write for example --${name} 10` },
  );
}

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `500ms`, `30s`, `5m`, `2h`, `1d`, or seconds, in milliseconds; `invalid_input` naming the option for anything else. */
export function duration(given: Given, name: string): number | undefined {
  const text = given.options[name];
  if (typeof text !== "string") return undefined;
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|[smhd])?$/.exec(text);
  const unit = UNITS[match?.[2] ?? "s"];
  if (match?.[1] !== undefined && unit !== undefined) return Math.round(Number(match[1]) * unit);
  throw new OrchestratorError(
    "invalid_input",
    `--${name} ${JSON.stringify(text.slice(0, 40))} is no time`,
    { hint: "write for example 90s, 5m or 2h" },
  );
}
