import type { RepoConfig } from "../config/config.ts";
import { resolveSecret, type SecretSources } from "../config/secrets.ts";
import type { Runtime } from "../runtimes/runtime.ts";
import type { CredentialCheck } from "./check-credential.ts";
import type { InspectedCredential, ResolvedAuth } from "./context.ts";

export interface AuthSources extends SecretSources {
  readonly credentials: CredentialCheck;
  digest(secret: string): string;
}

/** Reads a repo's credential as configured and checks it. The values go to the worker on stdin, into a 0600 file, and nowhere else. */
export async function resolveAuth(
  repo: RepoConfig,
  runtime: Runtime,
  sources: AuthSources,
): Promise<ResolvedAuth> {
  const { auth, git } = repo;
  const deployKey =
    git?.deployKey === undefined
      ? null
      : (await resolveSecret(git.deployKey, { ...sources, shape: "block" })).reveal();
  if (auth === undefined) return { seed: { kind: "none" }, lines: [], deployKey, digest: null };
  const secret = (await resolveSecret(auth.secret, sources)).reveal();
  await sources.credentials.check(repo, runtime, secret);
  const lines = [`${runtime.authEnv(auth.kind)}=${secret}`];
  if (auth.baseUrl !== undefined && runtime.baseUrlEnv !== null) {
    lines.push(`${runtime.baseUrlEnv}=${auth.baseUrl}`);
  }
  const seed =
    auth.kind === "api-key" ? { kind: auth.kind, last20: secret.slice(-20) } : { kind: auth.kind };
  return { seed, lines, deployKey, digest: sources.digest(secret) };
}

/** The credential as it is configured now: which one it is, and, when `ask` says so, what the API says of it at this moment. */
export async function inspectCredential(
  repo: RepoConfig,
  runtime: Runtime,
  ask: boolean,
  sources: AuthSources,
): Promise<InspectedCredential> {
  if (repo.auth === undefined) return { digest: null, answer: "undecided" };
  const secret = (await resolveSecret(repo.auth.secret, sources)).reveal();
  const answer = ask ? await sources.credentials.ask(repo, runtime, secret) : "undecided";
  return { digest: sources.digest(secret), answer };
}
