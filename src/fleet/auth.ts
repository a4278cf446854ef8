import type { RepoConfig } from "../config/config.ts";
import { resolveSecret, type SecretSources } from "../config/secrets.ts";
import type { Runtime } from "../runtimes/runtime.ts";
import type { CredentialCheck } from "./check-credential.ts";
import type { ResolvedAuth } from "./context.ts";

/** Reads a repo's credential as configured and checks it. The values go to the worker on stdin, into a 0600 file, and nowhere else. */
export async function resolveAuth(
  repo: RepoConfig,
  runtime: Runtime,
  sources: SecretSources,
  credentials: CredentialCheck,
): Promise<ResolvedAuth> {
  const { auth, git } = repo;
  const deployKey =
    git?.deployKey === undefined
      ? null
      : (await resolveSecret(git.deployKey, { ...sources, shape: "block" })).reveal();
  if (auth === undefined) return { seed: { kind: "none" }, lines: [], deployKey };
  const secret = (await resolveSecret(auth.secret, sources)).reveal();
  await credentials.check(repo, runtime, secret);
  const lines = [`${runtime.authEnv(auth.kind)}=${secret}`];
  if (auth.baseUrl !== undefined && runtime.baseUrlEnv !== null) {
    lines.push(`${runtime.baseUrlEnv}=${auth.baseUrl}`);
  }
  const seed =
    auth.kind === "api-key" ? { kind: auth.kind, last20: secret.slice(-20) } : { kind: auth.kind };
  return { seed, lines, deployKey };
}
