/*
 * Facts about Claude Code that the vendor may change with any release. All of them were recorded from the version named
 * here; screens/ in the test fixtures holds the dialogs they describe.
 */

export const TESTED_VERSION = "2.1.329";

/** Events our hook is registered for. Each costs the turn about 50 ms. */
export const HOOK_EVENTS = [
  "SessionStart",
  "UserPromptSubmit",
  "PreToolUse",
  "PostToolUse",
  "PostToolUseFailure",
  "PermissionRequest",
  "Notification",
  "Stop",
  "StopFailure",
  "PreCompact",
  "SessionEnd",
] as const;

/** `Notification.notification_type` that means the agent waits for a person. `permission_prompt` comes 6 s after its own event. */
export const ASKING_NOTIFICATIONS: ReadonlySet<string> = new Set([
  "agent_needs_input",
  "elicitation_dialog",
  "elicitation_url_dialog",
]);

/** `SessionStart.source` values that begin or continue a conversation at rest; `compact` comes inside a turn. */
export const RESTING_STARTS: ReadonlySet<string> = new Set(["startup", "resume", "clear", "fork"]);

/** `SessionEnd.reason` values after which the process goes on with another conversation. */
export const CONTINUING_ENDS: ReadonlySet<string> = new Set(["clear", "resume"]);

/** How a prompt begins that the CLI makes itself when a background task reports. */
export const MACHINE_PROMPT = "<task-notification>";

/** `StopFailure.error`: whether the same prompt can succeed later without a person. */
export const RETRYABLE_ERRORS: Readonly<Record<string, boolean>> = {
  server_error: true,
  overloaded: true,
  rate_limit: true,
  unknown: false,
  authentication_failed: false,
  oauth_org_not_allowed: false,
  billing_error: false,
  invalid_request: false,
  model_not_found: false,
  max_output_tokens: false,
};

/** As a whole message these quit the CLI instead of reaching the model. */
export const QUIT_WORDS: ReadonlySet<string> = new Set([
  "exit",
  "quit",
  ":q",
  ":q!",
  ":wq",
  ":wq!",
  ":x",
]);

/** `--permission-mode` values. `auto` needs the vendor's servers for every check. */
export const PERMISSION_MODES = [
  "default",
  "acceptEdits",
  "plan",
  "dontAsk",
  "auto",
  "bypassPermissions",
] as const;

export const UNATTENDED_MODE = "bypassPermissions";
export const ASKING_MODE = "default";

/** Flags that would take the conversation, the hooks or the mode out of our hands. */
export const RESERVED_FLAGS: ReadonlySet<string> = new Set([
  "--",
  "-p",
  "--print",
  "-c",
  "--continue",
  "-r",
  "--resume",
  "--session-id",
  "--fork-session",
  "--from-pr",
  "--settings",
  "--setting-sources",
  "--permission-mode",
  "--dangerously-skip-permissions",
  "--bg",
  "--bare",
  "-h",
  "--help",
  "-v",
  "--version",
]);

/** `StatusLine` is our own event name for what the status line command passes on. */
export const STATUS_LINE_EVENT = "StatusLine";

/** Dialogs by what their screen shows: every one of `all` must be there (white space folded), in the version they were recorded from. */
export interface DialogShape {
  readonly id: string;
  readonly label: string;
  readonly all: readonly string[];
}

export const DIALOGS: readonly DialogShape[] = [];
