import type { Evidence } from "./evidence.ts";

/** What a turn does before its first answer: it may still meet any failure of the account. */
const BEFORE_AN_ANSWER: ReadonlySet<string> = new Set(["prompt", "compaction"]);

/** Whether the agent's API has answered this launch: it used a tool, asked for leave to use one, or ended its turn. */
export function hasAnswered({ launch, turn }: Evidence, wanted: number): boolean {
  if (launch !== wanted || turn === null) return false;
  switch (turn.value.phase) {
    case "asking":
    case "ended":
      return true;
    case "running":
      return !BEFORE_AN_ANSWER.has(turn.value.detail);
    case "fresh":
    case "failed":
    case "exited":
      return false;
  }
}
