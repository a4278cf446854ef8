import { MAX_ARGUMENT_BYTES, refuseText } from "../encode.ts";
import type { Encoding, LaunchInput, LaunchPlan, Runtime } from "../runtime.ts";
import { shellSignals } from "./signals.ts";

const MODE = "default";

/**
 * Runs the message as a shell command and maps its exit code: the simplest honest agent. It asks nothing, remembers nothing and
 * costs nothing.
 */
export function createShellRuntime(): Runtime {
  return {
    id: "shell",
    capabilities: {
      resumes: false,
      livePaste: false,
      reportsUsage: false,
      takesInstructions: false,
      modes: [MODE],
    },
    defaultMode: () => MODE,
    program: { command: "sh", install: null },
    authEnv: (kind) => AUTH_ENV[kind],
    baseUrlEnv: null,
    credentialProbe: () => null,
    refusePaste: () => "a command that runs takes no further text",
    encode,
    seed: () => [],
    launch,
    signals: shellSignals,
    dialog: () => null,
    usage: () => null,
    prompts: () => [],
    versionOf: () => null,
    question: () => null,
    takesWords: () => false,
    hasAmended: () => false,
    interrupt: { kind: "signal" },
  };
}

const AUTH_ENV = {
  "api-key": "AGENT_API_KEY",
  "auth-token": "AGENT_AUTH_TOKEN",
  "oauth-token": "AGENT_OAUTH_TOKEN",
} as const;

/** Exact, or refused: a command too long for one argument cannot be replaced by a sentence about a file. */
function encode(text: string): Encoding {
  const reason = refuseText(text);
  if (reason !== null) return { kind: "refused", reason };
  const bytes = Buffer.byteLength(text, "utf8");
  if (bytes > MAX_ARGUMENT_BYTES) {
    const limit = `more than the ${MAX_ARGUMENT_BYTES} that one argument may have here`;
    return { kind: "refused", reason: `the command has ${bytes} bytes, ${limit}` };
  }
  return { kind: "encoded", message: { form: "exact", sent: text, file: null } };
}

/** `shell-agent COMMAND`: it reports the prompt, runs `sh -c COMMAND` in the clone and reports the exit code. */
function launch(input: LaunchInput): LaunchPlan {
  return {
    argv: [`${input.home}/.orchestrator/bin/shell-agent`, ...input.flags],
    appendMessage: input.message !== null,
    env: {},
    files: {},
  };
}
