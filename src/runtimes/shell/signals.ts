import { numberField, textField } from "../fields.ts";
import type { Signal, WorkerLine } from "../signal.ts";
import { workerSignals } from "../worker-signals.ts";

/** What the shell agent's lines say: a command submitted, and its exit code as the end of the turn. */
export function shellSignals(line: WorkerLine): readonly Signal[] {
  if (line.source !== "shell") return workerSignals(line);
  const { payload } = line;
  switch (line.event) {
    case "SessionStart":
      return [
        { kind: "session_started", how: "startup", runtimeSessionId: null, transcriptPath: null },
      ];
    case "UserPromptSubmit": {
      const prompt = textField(payload, "prompt");
      return prompt === null ? [] : [{ kind: "prompt_submitted", text: prompt, foreign: true }];
    }
    case "Stop":
      return stop(numberField(payload, "exit_code"), textField(payload, "last_assistant_message"));
    default:
      return [];
  }
}

function stop(exitCode: number | null, words: string | null): readonly Signal[] {
  const summary = words ?? "";
  if (exitCode === 0) return [{ kind: "turn_ended", background: 0, summary }];
  const error = exitCode === null ? "no exit code" : `exit ${exitCode}`;
  return [{ kind: "turn_failed", error, detail: summary, retryable: false, cause: null }];
}
