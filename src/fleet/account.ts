import { createHash, createHmac, hkdfSync } from "node:crypto";
import type { RepoConfig } from "../config/config.ts";
import { showReference } from "../config/secrets.ts";

/** What a limit holds for: every repo whose agents log in with the same credential, wherever they run. */
export interface Account {
  readonly key: string;
  /** For people: runtime and where the credential is read from, never the credential. */
  readonly label: string;
}

export function accountOf(repo: RepoConfig, runtime: string): Account {
  const { auth } = repo;
  // Without a credential of ours the agent uses what its worker has: the provider's workers are alike.
  const parts =
    auth === undefined
      ? [runtime, "own", repo.provider]
      : [runtime, auth.kind, auth.secret, auth.baseUrl ?? ""];
  const key = createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);
  const label =
    auth === undefined
      ? `${runtime}, login of ${repo.provider} workers`
      : `${runtime}, ${auth.kind} ${showReference(auth.secret)}`;
  return { key, label };
}

/**
 * Tells one secret from another without keeping either: a digest under a key that is derived from the controller's own, so that the store alone
 * gives nothing to guess with.
 */
export function secretDigester(privateKey: string): (secret: string) => string {
  const key = Buffer.from(hkdfSync("sha256", privateKey, "", "digest of credentials", 32));
  return (secret) => createHmac("sha256", key).update(secret).digest("hex").slice(0, 32);
}
