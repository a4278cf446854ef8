import { cleanText } from "../../domain/text.ts";
import type { FailureCause } from "../../domain/failure.ts";
import { resetTime } from "../reset-time.ts";
import { FAILURES, RESET } from "./vendor-failures.ts";

/** The cause of a failed turn by the vendor's own words; null when they are not known. `at` is when they were said (ms). */
export function causeOfFailure(error: string, words: string, at: number): FailureCause | null {
  const shape = FAILURES.find(
    ({ errors, says }) => errors.includes(error) && (says === undefined || says.test(words)),
  );
  if (shape === undefined || shape.kind === null) return null;
  const name = cleanText(shape.says?.exec(words)?.groups?.["name"] ?? "", 40);
  return {
    kind: shape.kind,
    label: name === "" ? shape.label : `${name} ${shape.label}`,
    until: resetOf(words, at),
  };
}

function resetOf(words: string, at: number): number | null {
  const found = RESET.exec(words)?.groups;
  return found === undefined ? null : resetTime(found, at);
}
