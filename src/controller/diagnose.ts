import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import type { Config, RepoConfig } from "../config/config.ts";
import type { Env } from "../config/env.ts";
import type { HomePaths } from "../config/paths.ts";
import type { Check } from "../domain/check.ts";
import { OrchestratorError } from "../domain/errors.ts";
import { resolveAuth } from "../fleet/auth.ts";
import { CredentialCheck } from "../fleet/check-credential.ts";
import { systemClock } from "../platform/clock.ts";
import { randomIds } from "../platform/ids.ts";
import { silentLogger } from "../platform/logger.ts";
import { localProvider } from "../providers/local/local.ts";
import { createClaudeRuntime } from "../runtimes/claude/runtime.ts";
import type { Runtime } from "../runtimes/runtime.ts";
import { createShellRuntime } from "../runtimes/shell/runtime.ts";

/** What `doctor` asks of providers, runtimes and credentials as configured. Starts and changes nothing. */
export async function configuredChecks(
  env: Env,
  paths: HomePaths,
  config: Config,
): Promise<Check[]> {
  const repos = Object.entries(config.repos);
  const credentials = new CredentialCheck({ clock: systemClock(), logger: silentLogger });
  return [
    ...(await Promise.all(repos.map(([name, repo]) => credentialOf(name, repo, env, credentials)))),
    ...(await Promise.all(
      [...new Set(repos.map(([, { runtime }]) => runtime))].map((id) => programOf(id, env)),
    )),
    ...(await Promise.all(
      [...new Set(repos.map(([, { provider }]) => provider))].map((id) =>
        capacityOf(id, paths, env),
      ),
    )),
  ];
}

export const runtimeNamed = (id: string): Runtime =>
  id === "shell" ? createShellRuntime() : createClaudeRuntime();

async function credentialOf(
  name: string,
  repo: RepoConfig,
  env: Env,
  credentials: CredentialCheck,
): Promise<Check> {
  const check = `credential ${name}`;
  const runtime = runtimeNamed(repo.runtime);
  if (repo.auth === undefined && repo.git?.deployKey === undefined) {
    if (repo.runtime === "shell") return { check, state: "ok", detail: "none is needed" };
    return {
      check,
      state: "warn",
      detail: `the agent of ${name} has no credential`,
      fix: `orchestrator repo add ${name} --replace --url URL --auth api-key --secret env:NAME`,
    };
  }
  try {
    // Nothing is kept of it, so that nothing needs to tell it from another.
    await resolveAuth(repo, runtime, { env, logger: silentLogger, credentials, digest: () => "" });
    return {
      check,
      state: "ok",
      detail: `${repo.auth?.kind ?? "deploy key"} can be read, and nobody refuses it`,
    };
  } catch (error) {
    return failed(check, error, "put the credential where the configuration says it is");
  }
}

async function programOf(id: string, env: Env): Promise<Check> {
  const { command, install } = runtimeNamed(id).program;
  const check = `program ${command}`;
  for (const folder of env.path.split(delimiter)) {
    const path = join(folder, command);
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (folder !== "" && isThere) return { check, state: "ok", detail: path };
  }
  const fix = `install ${command}, and have it in PATH`;
  if (install === null) return { check, state: "fail", detail: `${command} is not in PATH`, fix };
  return {
    check,
    state: "warn",
    detail: "not here: each worker installs it when it is prepared",
    fix,
  };
}

async function capacityOf(id: string, paths: HomePaths, env: Env): Promise<Check> {
  const check = `provider ${id}`;
  if (id !== "local") return { check, state: "skip", detail: "not looked at from here" };
  try {
    const provider = localProvider({
      root: paths.local,
      clock: systemClock(),
      ids: randomIds(),
      path: env.path,
    });
    const capacity = await provider.capacity();
    if (capacity === 0)
      return {
        check,
        state: "fail",
        detail: "takes no more workers",
        fix: "orchestrator worker destroy NAME",
      };
    return {
      check,
      state: "ok",
      detail: capacity === null ? "no limit of workers" : `takes ${capacity} more workers`,
    };
  } catch (error) {
    return failed(check, error, `look at ${paths.local}`);
  }
}

/** A thrown value as a check: what it says, and its own hint where it has one. */
export function failed(check: string, error: unknown, fix: string): Check {
  const hint = error instanceof OrchestratorError ? error.hint : undefined;
  const detail = error instanceof Error ? error.message : String(error);
  return { check, state: "fail", detail, fix: hint ?? fix };
}
