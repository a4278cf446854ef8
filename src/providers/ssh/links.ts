import type { OnTerminal, ProviderAddress } from "../provider.ts";

export interface ScriptResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * The connections to the hosts of the configuration, by name; wired in `controller/`, so that no provider names a transport. What fails
 * rejects with an `OrchestratorError`: `unreachable` (its details say `outcome: "not-started"` when the script certainly did not run),
 * `needs_person` for a host key that changed, `invalid_config` for a key or a configuration that cannot be used.
 */
export interface HostLinks {
  /** Our public key without type and comment. */
  readonly keyBlob: string;
  /** Runs a POSIX sh script with positional arguments in the account's home. An exit code is data. */
  script(
    host: string,
    text: string,
    args: readonly string[],
    options?: { timeoutMs?: number },
  ): Promise<ScriptResult>;
  address(host: string): Promise<ProviderAddress>;
  /** How an operator's terminal gets into the session, or into a shell (null); `tmuxDir` is empty for tmux's own place. */
  attach(host: string, session: string | null, tmuxDir: string): Promise<OnTerminal>;
  /** Accepts a new host key, on the way to the host or its own, if that very one is shown now. Gives the name of who showed it. */
  trust(host: string, fingerprint: string): Promise<string>;
}
