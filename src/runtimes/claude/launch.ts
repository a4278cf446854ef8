import { OrchestratorError } from "../../domain/errors.ts";
import { runFile } from "../encode.ts";
import type { LaunchInput, LaunchPlan } from "../runtime.ts";
import { HOOK_EVENTS, RESERVED_FLAGS, UNATTENDED_MODE } from "./vendor-data.ts";

const INSTRUCTIONS_FLAG = "--append-system-prompt";
const SETTINGS_FILE = "settings.json";

/**
 * `claude --session-id|--resume ID --permission-mode MODE --settings FILE <flags> -- MESSAGE`. The mode is a flag, because as a setting
 * it opens a dialog; hooks are in a settings file of the run, so that the user's own stay untouched and active.
 */
export function launchClaude(input: LaunchInput): LaunchPlan {
  refuseReserved(input.flags);
  const settings = runFile(input, SETTINGS_FILE);
  const argv = [
    "claude",
    ...(input.resume ? ["--resume"] : ["--session-id"]),
    input.runtimeSessionId,
    "--permission-mode",
    input.mode,
    "--settings",
    settings,
    ...withInstructions(input.flags, input.instructions),
    ...(input.message === null ? [] : ["--"]),
  ];
  return {
    argv,
    appendMessage: input.message !== null,
    env: environment(input),
    files: { [SETTINGS_FILE]: `${JSON.stringify(runSettings(input), null, 2)}\n` },
  };
}

/** The program takes the flag once: what the operator says with it comes after ours, in one text. */
function withInstructions(flags: readonly string[], instructions: string | null): string[] {
  if (instructions === null) return [...flags];
  const texts = [instructions];
  const others: string[] = [];
  for (let at = 0; at < flags.length; at += 1) {
    const flag = flags[at] ?? "";
    if (flag.startsWith(`${INSTRUCTIONS_FLAG}=`))
      texts.push(flag.slice(INSTRUCTIONS_FLAG.length + 1));
    else if (flag === INSTRUCTIONS_FLAG && at + 1 < flags.length)
      texts.push(flags[(at += 1)] ?? "");
    else others.push(flag);
  }
  return [INSTRUCTIONS_FLAG, texts.join("\n\n"), ...others];
}

/** Defaults: what the repo's own `env` names wins over them. */
function environment(input: LaunchInput): Readonly<Record<string, string>> {
  return {
    // A program that replaces itself mid-run is not the one that was tested.
    DISABLE_AUTOUPDATER: "1",
    // Else the first start fetches the vendor's plugin list from its servers and from GitHub.
    CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL: "1",
    // As root the unattended mode is refused without it.
    ...(input.root && input.mode === UNATTENDED_MODE ? { IS_SANDBOX: "1" } : {}),
  };
}

function runSettings(input: LaunchInput): unknown {
  const bin = `${input.home}/.orchestrator/bin`;
  const hooks = Object.fromEntries(
    HOOK_EVENTS.map((event) => [
      event,
      [{ hooks: [{ type: "command", command: `${shellWord(`${bin}/hook`)} ${event}` }] }],
    ]),
  );
  const fileForm = input.message?.form === "file";
  return {
    hooks,
    statusLine: {
      type: "command",
      command: `${shellWord(`${bin}/statusline`)} ${shellWord(input.worker)}`,
    },
    // Answers the warning that the mode shows at its first use.
    ...(input.mode === UNATTENDED_MODE ? { skipDangerousModePermissionPrompt: true } : {}),
    // The message's file lies outside the clone: reading it must not open a permission dialog.
    ...(fileForm
      ? { permissions: { allow: [`Read(/${runFile(input, `message-${input.seq}`)})`] } }
      : {}),
  };
}

/** The vendor's program runs this text with sh: the only place of this room that writes for a shell. */
const shellWord = (text: string): string =>
  /^[A-Za-z0-9_./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

function refuseReserved(flags: readonly string[]): void {
  for (const flag of flags) {
    const name = flag.split("=", 1)[0] ?? flag;
    if (!RESERVED_FLAGS.has(name)) continue;
    throw new OrchestratorError(
      "invalid_config",
      `the flag ${name} cannot be given to claude: the orchestrator sets it itself`,
      { hint: "remove it from the repo's flags" },
    );
  }
}
