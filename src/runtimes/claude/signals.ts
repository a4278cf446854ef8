import { causeOfFailure } from "./failure.ts";
import { numberField, objectField, textField } from "../fields.ts";
import type { Signal, WorkerLine } from "../signal.ts";
import { countOf, workerSignals } from "../worker-signals.ts";
import {
  ASKING_NOTIFICATIONS,
  CONTINUING_ENDS,
  MACHINE_PROMPT,
  RESTING_STARTS,
  RETRYABLE_ERRORS,
  STATUS_LINE_EVENT,
} from "./vendor-data.ts";

/** What a hook event of Claude Code says, in our words. Unknown events and wrong shapes say nothing. */
export function claudeSignals(line: WorkerLine): readonly Signal[] {
  if (line.source !== "hook") return workerSignals(line);
  const signal = hookSignal(line);
  return signal === null ? [] : [signal];
}

function hookSignal(line: WorkerLine): Signal | null {
  const { payload } = line;
  const text = (key: string) => textField(payload, key) ?? "";
  // A subagent's own steps say nothing of the main turn; what it asks, it asks the person.
  const ofSubagent = text("agent_id") !== "";
  switch (line.event) {
    case "SessionStart":
      return sessionStart(line);
    case "UserPromptSubmit": {
      const prompt = textField(payload, "prompt");
      if (prompt === null || ofSubagent) return null;
      const foreign = !prompt.startsWith(MACHINE_PROMPT);
      return { kind: "prompt_submitted", text: prompt, foreign };
    }
    case "PreToolUse":
    case "PostToolUse":
    case "PostToolUseFailure":
      return ofSubagent ? null : { kind: "activity", what: text("tool_name") };
    case "PreCompact":
      return ofSubagent ? null : { kind: "activity", what: "compaction" };
    case "PermissionRequest":
      return { kind: "permission_asked", what: text("tool_name") };
    case "Notification": {
      const type = text("notification_type");
      return ASKING_NOTIFICATIONS.has(type) ? { kind: "input_asked", what: type } : null;
    }
    case "Stop":
      return ofSubagent ? null : turnEnd(line);
    case "StopFailure":
      return ofSubagent ? null : failure(line);
    case "SessionEnd": {
      const why = text("reason");
      return CONTINUING_ENDS.has(why) ? null : { kind: "session_ended", why };
    }
    case STATUS_LINE_EVENT: {
      const cost = objectField(payload, "cost");
      const usd = cost === null ? null : numberField(cost, "total_cost_usd");
      return usd === null || usd < 0 ? null : { kind: "cost", usd };
    }
    default:
      return null;
  }
}

function sessionStart({ payload }: WorkerLine): Signal | null {
  const how = textField(payload, "source") ?? "";
  if (!RESTING_STARTS.has(how)) return null;
  return {
    kind: "session_started",
    how,
    runtimeSessionId: textField(payload, "session_id"),
    transcriptPath: textField(payload, "transcript_path"),
  };
}

/** An end whose payload was lost cannot say that nothing is left in the background: it only shows that the agent lives. */
function turnEnd(line: WorkerLine): Signal {
  if (textField(line.payload, "hook_event_name") === null) {
    return { kind: "activity", what: "end of a turn, unreadable" };
  }
  return {
    kind: "turn_ended",
    background: countOf(line, "background_tasks") + countOf(line, "session_crons"),
    summary: textField(line.payload, "last_assistant_message") ?? "",
  };
}

/** A cause that is not known stays an error with its text. */
function failure({ payload, at }: WorkerLine): Signal {
  const error = textField(payload, "error") ?? "unknown";
  const detail =
    textField(payload, "last_assistant_message") ?? textField(payload, "error_details") ?? "";
  const retryable = RETRYABLE_ERRORS[error] === true;
  const cause = causeOfFailure(error, textField(payload, "last_assistant_message") ?? "", at);
  const named = cause !== null || detail === "" ? error : `${error}: ${detail}`;
  return { kind: "turn_failed", error: named, detail, retryable, cause };
}
