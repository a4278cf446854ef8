import { exerciseRuntime } from "../conformance/runtime.ts";
import { createClaudeRuntime } from "../../src/runtimes/claude/runtime.ts";
import { createShellRuntime } from "../../src/runtimes/shell/runtime.ts";

const line = (source: string, event: string, up: number, payload: unknown) =>
  JSON.stringify({ v: 1, run: "run-1", launch: 1, source, event, at: 1_000_000 + up, up, payload });

exerciseRuntime("claude", () => ({
  runtime: createClaudeRuntime(),
  turn: (text) => {
    const hook = (event: string, up: number, fields: object) =>
      line("hook", event, up, { hook_event_name: event, session_id: "s", ...fields });
    return [
      line("launcher", "started", 0, { pid: 7 }),
      hook("SessionStart", 100, { source: "startup", transcript_path: "/t" }),
      hook("UserPromptSubmit", 200, { prompt: text }),
      hook("PreToolUse", 300, { tool_name: "Bash", tool_input: {} }),
      hook("PostToolUse", 400, { tool_name: "Bash", tool_response: {} }),
      hook("Stop", 500, {
        last_assistant_message: "Done.",
        background_tasks: [],
        session_crons: [],
      }),
    ];
  },
}));

exerciseRuntime("shell", () => ({
  runtime: createShellRuntime(),
  turn: (text) => [
    line("launcher", "started", 0, { pid: 7 }),
    line("shell", "SessionStart", 100, {}),
    line("shell", "UserPromptSubmit", 200, { prompt: text }),
    line("shell", "Stop", 500, { exit_code: 0, last_assistant_message: "ok" }),
    line("launcher", "exit", 600, { code: 0 }),
  ],
}));
