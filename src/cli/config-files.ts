import { access, chmod, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { execa } from "execa";
import { OrchestratorError } from "../domain/errors.ts";
import { checkConfig, loadConfig, readConfigText } from "../config/load.ts";
import { addRepo, removeRepo, setDefaults, type EditOutcome } from "../config/edit.ts";
import { CREDENTIAL_VARIABLES, type InitFacts, type InitResult } from "../config/init.ts";
import { configJsonSchema, configReference, environmentReference } from "../config/json-schema.ts";
import { ensureKeys } from "../config/keys.ts";
import { ensureHome } from "../config/paths.ts";
import { showReference, showWebhook } from "../config/secrets.ts";
import type { AlertConfig, Config, RepoConfig, RepoInput } from "../config/config.ts";
import { valueAt } from "../config/problems.ts";
import { parseYaml } from "../config/yaml-text.ts";
import { writeFileAtomically } from "../config/write-file.ts";
import { readSeen } from "../dispatch/check/seen.ts";
import { errorLine } from "../dispatch/check/status-line.ts";
import { openStatusLog } from "../dispatch/check/status-log.ts";
import { checkScript } from "./check-script.ts";
import type { Context } from "./context.ts";

/*
 * What the commands on configuration need of config/. Loads schemas and the YAML reader, so the commands bring it in
 * only when they act.
 */

export { planInit, suggestedAnswers, type InitAnswers, type Question } from "../config/init.ts";

export const schemaText = (): string => `${JSON.stringify(configJsonSchema(), null, 2)}\n`;

export const referenceText = (): string =>
  `# config.yaml\n\n${configReference()}\n# Environment\n\n${environmentReference()}`;

/** The configuration in force: file, defaults and environment. References of secrets are shown without what a command may carry. */
export async function shownConfig(context: Context): Promise<Config> {
  const config = await loadConfig(context.paths.config, context.env);
  const repos = Object.entries(config.repos).map(
    ([name, repo]) => [name, shownRepo(repo)] as const,
  );
  return { ...config, repos: Object.fromEntries(repos), alerts: config.alerts.map(shownAlert) };
}

/** The address of a webhook may be all it takes to post there. */
function shownAlert(alert: AlertConfig): AlertConfig {
  if (alert.webhook === undefined) return alert;
  return { ...alert, webhook: showWebhook(alert.webhook) };
}

function shownRepo(repo: RepoConfig): RepoConfig {
  const { auth, git } = repo;
  return {
    ...repo,
    ...(auth === undefined ? {} : { auth: { ...auth, secret: showReference(auth.secret) } }),
    ...(git?.deployKey === undefined
      ? {}
      : { git: { ...git, deployKey: showReference(git.deployKey) } }),
  };
}

/** Names of the configured repos. */
export async function repoNames(context: Context): Promise<readonly string[]> {
  return Object.keys((await loadConfig(context.paths.config, context.env)).repos);
}

export async function addRepoTo(
  context: Context,
  name: string,
  repo: Readonly<Record<string, unknown>>,
  replace: boolean,
): Promise<EditOutcome> {
  await ensureHome(context.paths);
  return addRepo(context.paths.config, name, checkedRepo(name, repo), effectsOf(context), {
    replace,
  });
}

/** Undefined values are taken as not given; throws `invalid_config` naming the key. */
function checkedRepo(name: string, repo: Readonly<Record<string, unknown>>): RepoInput {
  const plain: unknown = JSON.parse(JSON.stringify(repo));
  checkConfig({ repos: { [name]: plain } }, "the options");
  return plain as RepoInput;
}

/** Writes what kept a silent check from being done to its log; also when the configuration is what is wrong. */
export async function logFailure(context: Context, error: OrchestratorError): Promise<void> {
  const { env, paths } = context;
  const log = openStatusLog({
    wanted: await statusLogPath(context),
    fallback: paths.statusLog,
    userHome: env.userHome,
    refusedBefore: (await readSeen(paths.statusSeen)).refused,
  });
  const now = context.clock().now();
  await log.write(errorLine(now, error.code, error.message), now);
}

/** As configured; of a configuration that is broken elsewhere, what it says of the log alone. */
async function statusLogPath({ env, paths }: Context): Promise<string> {
  try {
    return (await loadConfig(paths.config, env)).check.log;
  } catch {
    const yaml = parseYaml((await readConfigText(paths.config).catch(() => null)) ?? "");
    const log = yaml.kind === "broken" ? undefined : valueAt(yaml.yaml.value, ["check", "log"]);
    try {
      return checkConfig({ check: { log } }, paths.config).check.log;
    } catch {
      return checkConfig({}, paths.config).check.log;
    }
  }
}

/** The check as a script in the orchestrator's folder: for schedulers that know neither PATH nor this program. Written anew each time. */
async function installCheckScript({ paths, env, program, ids }: Context): Promise<void> {
  const text = checkScript({ home: paths.home, path: env.path, program });
  await writeFileAtomically(paths.checkScript, text, ids().token());
  await chmod(paths.checkScript, 0o700);
}

export async function removeRepoFrom(context: Context, name: string): Promise<EditOutcome> {
  return removeRepo(context.paths.config, name, effectsOf(context));
}

const effectsOf = (context: Context) => ({ clock: context.clock(), ids: context.ids() });

/** What `init` finds on this machine. Asks nobody. */
export async function initFacts(context: Context): Promise<InitFacts> {
  const { env, paths } = context;
  const exists = (await readConfigText(paths.config)) !== null;
  const { repos } = await loadConfig(paths.config, env);
  return {
    configExists: exists,
    repos: Object.fromEntries(Object.entries(repos).map(([name, { url }]) => [name, url])),
    hasAuth:
      Object.keys(repos).length > 0 &&
      Object.values(repos).every((repo) => repo.auth !== undefined || repo.runtime === "shell"),
    gitRemote: await gitRemote(),
    claudeFound: await isInPath("claude", env.path),
    credentials: Object.keys(CREDENTIAL_VARIABLES).filter(
      (name) => env.variable(name) !== undefined,
    ),
    keyExists: await isThere(paths.sshKey),
  };
}

export interface Applied {
  readonly repo: { readonly name: string; readonly outcome: EditOutcome } | null;
  readonly credential: boolean;
  readonly keyCreated: boolean;
}

/** Writes what `init` found out: key, credential, repo. Safe to repeat. */
export async function applyInit(context: Context, result: InitResult): Promise<Applied> {
  const { paths } = context;
  await ensureHome(paths);
  const { created } = await ensureKeys(paths, context.ids());
  await installCheckScript(context);
  if (result.defaults !== null)
    await setDefaults(paths.config, result.defaults, effectsOf(context));
  if (result.repo === null)
    return { repo: null, credential: result.defaults !== null, keyCreated: created };
  const { name, value } = result.repo;
  const outcome = await addRepo(paths.config, name, value, effectsOf(context));
  return { repo: { name, outcome }, credential: result.defaults !== null, keyCreated: created };
}

async function gitRemote(): Promise<string | null> {
  const result = await execa("git", ["remote", "get-url", "origin"], {
    reject: false,
    stderr: "ignore",
    timeout: 5_000,
  });
  const url = result.failed ? "" : result.stdout.trim();
  return url === "" ? null : url;
}

async function isInPath(program: string, path: string): Promise<boolean> {
  for (const folder of path.split(delimiter)) {
    if (folder !== "" && (await isThere(join(folder, program), constants.X_OK))) return true;
  }
  return false;
}

const isThere = (path: string, mode = constants.F_OK): Promise<boolean> =>
  access(path, mode).then(
    () => true,
    () => false,
  );

/** `NAME=value` pairs as a record, or `invalid_input`. */
export function pairsOf(
  pairs: readonly string[] | undefined,
  option: string,
): Record<string, string> | undefined {
  if (pairs === undefined) return undefined;
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf("=");
      if (at > 0) return [pair.slice(0, at), pair.slice(at + 1)];
      throw new OrchestratorError("invalid_input", `--${option} wants NAME=VALUE`, {
        hint: `for example: --${option} LANG=C.UTF-8`,
      });
    }),
  );
}
