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

/**
 * Characters that the CLI removes from a prompt or turns into newlines, wherever they stand: control characters but tab and newline, line
 * and paragraph separators, and what is not seen. Tried for all that Unicode has of these kinds.
 */
export const ALTERED =
  /[[\p{Cc}--[\t\n]]\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u{fff0}-\u{fffb}]|\u{1107f}|\u{16fe4}/v;

/** The same characters where they are kept: within emoji, as joiners of Arabic and Devanagari, and a line end of two characters. */
export const KEPT =
  /\p{RGI_Emoji}|(?<=\p{Emoji})(?:\u{fe0e}|\u{fe0f})|(?<=\p{sc=Arabic})(?:\u{200c}|\u{200d})(?=\p{sc=Arabic})|(?<=\p{sc=Devanagari})(?:\u{200c}|\u{200d})(?=\p{sc=Devanagari})|\r(?=\n)/gv;

/** What is pasted beyond these reaches the model in a wrapper that says it comes from elsewhere. */
export const PASTE_LIMITS = { characters: 800, lines: 3 } as const;

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

/** Dialogs by what their screen shows: every one of `all` must be there (white space folded). The first that fits is named. */
export interface DialogShape {
  readonly id: string;
  readonly label: string;
  readonly all: readonly string[];
}

export const DIALOGS: readonly DialogShape[] = [
  {
    id: "workspace-trust",
    label: "workspace trust",
    all: ["Quick safety check", "No, exit", "Yes, I trust this folder"],
  },
  {
    id: "api-key",
    label: "use of the API key",
    all: ["Detected a custom API key", "Do you want to use this API key?"],
  },
  {
    id: "bypass-warning",
    label: "warning of the unattended mode",
    all: ["running in Bypass Permissions mode", "No, exit", "Yes, I accept"],
  },
  {
    id: "auto-mode-nudge",
    label: "auto mode as default",
    all: ["Make auto mode your default permission mode?"],
  },
  {
    id: "project-mcp",
    label: "MCP server of the project",
    all: ["New MCP server", "found in this project", "Continue without using"],
  },
  {
    id: "external-imports",
    label: "imports of CLAUDE.md from outside",
    all: ["Allow external CLAUDE.md file imports?"],
  },
  {
    id: "settings-warning",
    label: "faults in the settings",
    all: ["Settings Warning", "Exit and fix manually"],
  },
  {
    id: "plan-approval",
    label: "approval of a plan",
    all: ["Exit plan mode?", "1. Yes"],
  },
  {
    id: "question",
    label: "question to the user",
    all: ["Type something.", "Chat about this", "Enter to select"],
  },
  {
    id: "usage-limit",
    label: "what to do at the usage limit",
    all: ["What do you want to do?", "Stop and wait for limit to reset"],
  },
  { id: "help-panel", label: "help panel", all: ["Help General Commands", "Esc to close"] },
  { id: "rewind", label: "rewind menu", all: ["Rewind", "Restore the code and/or conversation"] },
  { id: "resume-picker", label: "list of sessions", all: ["Resume session", "Esc to close"] },
  { id: "model-picker", label: "choice of model", all: ["Select model", "Esc to cancel"] },
  { id: "permission", label: "permission", all: ["Do you want to", "1. Yes"] },
];

/** The input box at rest: a rule over the whole width and the prompt mark right below it. With it on the screen no dialog is open. */
export const COMPOSER = /^─{20,}\s*\n❯/m;
