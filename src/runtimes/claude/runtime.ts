import type { Runtime } from "../runtime.ts";
import { dialogOnScreen } from "./dialog.ts";
import { encodeForClaude, refusePasteForClaude } from "./encode.ts";
import { launchClaude } from "./launch.ts";
import { hasAmended, questionOnScreen, takesWords, turnOnScreen, versionOf } from "./question.ts";
import { seedClaude } from "./seed.ts";
import { claudeSignals } from "./signals.ts";
import { promptsOfTranscript } from "./prompts.ts";
import { usageOfTranscript } from "./usage.ts";
import { ASKING_MODE, PERMISSION_MODES, TESTED_VERSION, UNATTENDED_MODE } from "./vendor-data.ts";

/** sh text: npm where there is one (any version fetches the program of its platform), else the vendor's installer. */
const INSTALL = `if command -v npm >/dev/null 2>&1; then
  npm install --global --prefix "$HOME/.local" --no-audit --no-fund @anthropic-ai/claude-code@${TESTED_VERSION}
else
  curl -fsSL https://claude.ai/install.sh | bash -s ${TESTED_VERSION}
fi`;

const AUTH_ENV = {
  "api-key": "ANTHROPIC_API_KEY",
  "auth-token": "ANTHROPIC_AUTH_TOKEN",
  "oauth-token": "CLAUDE_CODE_OAUTH_TOKEN",
} as const;

/** Claude Code in its interactive window. */
export function createClaudeRuntime(): Runtime {
  return {
    id: "claude",
    capabilities: {
      resumes: true,
      livePaste: true,
      reportsUsage: true,
      takesInstructions: true,
      modes: PERMISSION_MODES,
    },
    defaultMode: (sharesMachine) => (sharesMachine ? ASKING_MODE : UNATTENDED_MODE),
    program: { command: "claude", install: INSTALL },
    authEnv: (kind) => AUTH_ENV[kind],
    baseUrlEnv: "ANTHROPIC_BASE_URL",
    credentialProbe,
    encode: encodeForClaude,
    refusePaste: refusePasteForClaude,
    seed: seedClaude,
    launch: launchClaude,
    signals: claudeSignals,
    dialog: dialogOnScreen,
    usage: usageOfTranscript,
    prompts: promptsOfTranscript,
    versionOf,
    question: questionOnScreen,
    takesWords,
    hasAmended,
    interrupt: { kind: "keys", keys: ["Escape"], turnOnScreen },
  };
}

/** The list of models costs nothing (Anthropic API reference, "List Models"). OAuth tokens are not for this endpoint. */
function credentialProbe(
  kind: keyof typeof AUTH_ENV,
  secret: string,
  baseUrl: string | null,
): { url: string; headers: Record<string, string> } | null {
  if (kind === "oauth-token") return null;
  const credential: Record<string, string> =
    kind === "api-key" ? { "x-api-key": secret } : { authorization: `Bearer ${secret}` };
  return {
    url: `${(baseUrl ?? "https://api.anthropic.com").replace(/\/+$/, "")}/v1/models?limit=1`,
    headers: { "anthropic-version": "2023-06-01", ...credential },
  };
}
