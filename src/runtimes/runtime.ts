import type { MessageForm } from "../domain/message.ts";
import type { Signal, WorkerLine } from "./signal.ts";

/*
 * A runtime knows one kind of agent program: how to prepare its home, start it, talk to it, and read what it says.
 *
 * An implementation guarantees:
 * - It is pure: it returns argv, files and signals as data; the dispatch acts. Vendor facts (hook names, dialog shapes, first-run keys,
 *   error names) are versioned data in its folder with recorded fixtures, not code.
 * - `encode` gives the text that the agent will be shown to have received, byte for byte, or refuses by name. What it
 *   must add (a prefix, a file reference) is in `form`.
 * - `launch` carries no secret in argv or environment listing: secrets are read from a 0600 file on the worker by the launcher.
 * - `signals` never throws on hostile or unknown lines: it returns no signals for them.
 * - Status is derived from evidence by `deriveStatus` in one place; a runtime only translates.
 */

export interface RuntimeCapabilities {
  /** Can continue an earlier conversation by id. */
  readonly resumes: boolean;
  /** Text can be pasted into the live window. */
  readonly livePaste: boolean;
  /** Reports tokens and cost. */
  readonly reportsUsage: boolean;
  /** Takes standing instructions beside its task. */
  readonly takesInstructions: boolean;
  /** Knows permission modes. */
  readonly modes: readonly string[];
}

/** A message as it will reach the agent. */
export interface EncodedMessage {
  readonly form: MessageForm;
  /** The text the agent's own hook will show. */
  readonly sent: string;
  /** For `file`: content to place at `runs/<run>/message-<seq>` before the launch; `sent` names that file. */
  readonly file: string | null;
}

export type Encoding =
  | { readonly kind: "encoded"; readonly message: EncodedMessage }
  | { readonly kind: "refused"; readonly reason: string };

export interface LaunchInput {
  readonly runId: string;
  readonly launch: number;
  readonly seq: number;
  readonly runtimeSessionId: string;
  /** True: continue that conversation instead of beginning it. */
  readonly resume: boolean;
  /** Null: start without a message (resume by hand). */
  readonly message: EncodedMessage | null;
  readonly mode: string;
  /** Standing instructions for the agent; null: none, or the runtime takes none. */
  readonly instructions: string | null;
  /** Extra flags from configuration. */
  readonly flags: readonly string[];
  /** The repo's folder on the worker, realpath. */
  readonly cwd: string;
  /** The worker's `$HOME`, absolute. */
  readonly home: string;
  /** uid 0 on the worker. */
  readonly root: boolean;
  /** Named on the pane's status line, e.g. `kite-1`. */
  readonly worker: string;
}

/**
 * How the launcher starts the agent. The message is not in `argv`: with `appendMessage` the launcher appends the bytes of
 * `message.sent` from a file as last argument, exactly, without a shell in between. `env` holds defaults: the repo's own
 * `env` wins over it.
 */
export interface LaunchPlan {
  readonly argv: readonly string[];
  readonly appendMessage: boolean;
  readonly env: Readonly<Record<string, string>>;
  /** Files to write below `runs/<run>/` before the start: name -> content (mode 0600). */
  readonly files: Readonly<Record<string, string>>;
}

/** Read-modify-write of one JSON file below the worker's home: `merge` gets the parsed content or null, returns the new one. */
export interface SeedFile {
  /** Relative to `$HOME`. */
  readonly path: string;
  merge(current: unknown): unknown;
}

export interface SeedInput {
  readonly cwd: string;
  readonly mode: string;
  readonly auth: SeedAuth;
}

/** What seeding may know about the credential: never the secret itself beyond what a first-run key needs. */
export type SeedAuth =
  | { readonly kind: "none" }
  | { readonly kind: "api-key"; readonly last20: string }
  | { readonly kind: "auth-token" | "oauth-token" };

export interface Usage {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheWriteTokens: number;
  /** US dollars; null when the runtime did not say. */
  readonly costUsd: number | null;
  readonly model: string | null;
}

/** A dialog recognised on a screen, or null: an unknown screen is never guessed at. */
export interface DialogMatch {
  readonly id: string;
  /** e.g. `workspace trust`. */
  readonly label: string;
}

/** A question on the screen whose every option is known, so that keys may answer it. */
export interface Question {
  /** e.g. `permission`. */
  readonly id: string;
  /** Stays while the same question is open, whatever is selected in it. */
  readonly fingerprint: string;
  /** What is asked, a line each, cleaned. */
  readonly text: readonly string[];
  readonly options: readonly QuestionOption[];
  /** Number of the option that Enter would take now. */
  readonly selected: number;
  /** Keys that let words be added to a denial, or null where this question takes none. */
  readonly amendKeys: readonly string[] | null;
}

export interface QuestionOption {
  readonly number: number;
  readonly label: string;
  readonly role: "allow" | "deny" | "other";
}

/** How a person stops a turn. */
export type Interrupt =
  | { readonly kind: "signal" }
  /** Keys, and what a screen on which they mean that shows, a line each; null for a version that was not recorded. */
  | {
      readonly kind: "keys";
      readonly keys: readonly string[];
      turnOnScreen(screen: string, version: string | null): string | null;
    };

export interface Runtime {
  readonly id: string;
  readonly capabilities: RuntimeCapabilities;
  /** The permission mode used when configuration names none. */
  defaultMode(sharesMachine: boolean): string;
  /** The command that must be found on the worker, and how `agent` installs it when absent (sh text), or null. */
  readonly program: { readonly command: string; readonly install: string | null };
  /** Names of environment variables under which the launcher exports the credential. */
  authEnv(kind: "api-key" | "auth-token" | "oauth-token"): string;
  readonly baseUrlEnv: string | null;
  /** A GET request that a dead credential answers with 401, as data; null: this kind cannot be asked about. */
  credentialProbe(
    kind: "api-key" | "auth-token" | "oauth-token",
    secret: string,
    baseUrl: string | null,
  ): { readonly url: string; readonly headers: Readonly<Record<string, string>> } | null;
  /** Why this text would not arrive byte for byte when it is pasted into the live window, or null. */
  refusePaste(text: string): string | null;
  encode(text: string, place: { runId: string; seq: number; home: string }): Encoding;
  seed(input: SeedInput): readonly SeedFile[];
  /** Throws `invalid_config` for a flag that the runtime must set itself. */
  launch(input: LaunchInput): LaunchPlan;
  signals(line: WorkerLine): readonly Signal[];
  /** Recognises a dialog on a captured screen. */
  dialog(screen: string): DialogMatch | null;
  /** Sums usage over transcript lines (JSON lines text). Null when it holds none. */
  usage(transcript: string): Usage | null;
  /** Texts that transcript lines show as submitted to the agent, as they were sent, oldest first. */
  prompts(transcript: string): readonly string[];
  /** The program's version by its own registry file; null when it does not say. */
  versionOf(registry: string): string | null;
  /** The question on a captured screen, positively identified by what was recorded from this version; else null. */
  question(screen: string, version: string | null): Question | null;
  /** Whether the denial that is selected stands open for words. */
  takesWords(screen: string, version: string | null): boolean;
  /** Whether the screen shows these words typed as the denial that is selected, and nothing else. */
  hasAmended(screen: string, version: string | null, words: string): boolean;
  readonly interrupt: Interrupt;
}
