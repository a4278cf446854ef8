import type { Config } from "../config/config.ts";
import type { Env } from "../config/env.ts";
import { loadConfig } from "../config/load.ts";
import type { HomePaths } from "../config/paths.ts";
import { configuredChecks } from "./diagnose.ts";
import { removeTrial, runTrial, sweepTrials, type TrialOptions } from "./trial.ts";

/** What the command line's `doctor` needs of the product as it is wired here. */
export function openTrials({
  env,
  paths,
  version,
}: {
  env: Env;
  paths: HomePaths;
  version: string;
}) {
  return {
    configured: (config: Config) => configuredChecks(env, paths, config),
    async run(trial: Pick<TrialOptions, "folder" | "repo" | "signal" | "emit">) {
      return runTrial({ ...trial, env, version, config: await loadConfig(paths.config, env) });
    },
    remove: removeTrial,
    sweep: sweepTrials,
  };
}
