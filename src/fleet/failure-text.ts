import { cleanText } from "../domain/text.ts";

/** A program's own word for what went wrong, as git, compilers and package managers begin it. */
const SAYS_WHY = /^(fatal|error|err!?)\b|: (fatal|error)\b/i;

/**
 * Says of a failed step what it was, and why as far as its log tells: the step's own last line, and before it the program's line that
 * looks most like the reason. Cleaned, short, and without credentials of addresses.
 */
export function failureText(failed: {
  readonly step: string;
  readonly code: number;
  readonly tail: readonly string[];
}): string {
  const telling = tellingLines(cleanTail(failed.tail));
  return [`${failed.step} failed with code ${failed.code}`, ...telling].join(": ");
}

/** Of a log's last lines: the last, and before it the one that looks most like the reason. */
export function tellingLines(lines: readonly string[]): string[] {
  const last = lines.at(-1);
  const before = lines.slice(0, -1);
  const why = before.findLast((line) => SAYS_WHY.test(line)) ?? before.at(-1);
  return [last, why].filter((line) => line !== undefined);
}

/** The lines of a log's end that say something, each of at most 300 characters. */
export function cleanTail(tail: readonly string[]): string[] {
  return tail
    .map((line) => cleanText(line, 300).replaceAll(/:\/\/[^\s/@]+@/g, "://"))
    .filter((line) => line !== "");
}
