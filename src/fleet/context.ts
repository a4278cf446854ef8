import type { Config, RepoConfig } from "../config/config.ts";
import { OrchestratorError } from "../domain/errors.ts";
import type { Clock } from "../platform/clock.ts";
import type { Failpoint } from "../platform/failpoint.ts";
import type { Ids } from "../platform/ids.ts";
import type { Logger } from "../platform/logger.ts";
import type { Provider } from "../providers/provider.ts";
import type { Provisioner } from "../provisioner/provisioner.ts";
import type { Runtime, SeedAuth } from "../runtimes/runtime.ts";
import type { Store } from "../store/store.ts";
import type { OpenTransport } from "../transport/transport.ts";

/** A repo's credential, resolved: what seeding may know, and the lines of the 0600 file on the worker. */
export interface ResolvedAuth {
  readonly seed: SeedAuth;
  /** `NAME=VALUE` lines, secrets included: goes to a worker on stdin and nowhere else. */
  readonly lines: readonly string[];
  /** Private key with which workers reach the remote; a secret as well. */
  readonly deployKey: string | null;
}

/** Everything the fleet acts through; wired in `controller/`. */
export interface FleetContext {
  readonly store: Store;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly logger: Logger;
  readonly failpoint: Failpoint;
  /** The configuration as it is now. */
  config(): Config;
  readonly providers: ReadonlyMap<string, Provider>;
  readonly runtimes: ReadonlyMap<string, Runtime>;
  readonly openTransport: OpenTransport;
  readonly provisioner: Provisioner;
  readonly keys: { readonly privateKey: string; readonly publicKey: string };
  /** Ids of the workers without a run that somebody in this process is making ready now. */
  readonly making: Set<string>;
  /** Destructions under way in this process, by the worker's id. */
  readonly destroying: Map<string, Promise<void>>;
  /** Folder of the bare mirrors. */
  readonly mirrors: string;
  /** Reads the repo's secret; `invalid_config` when it cannot be read. */
  resolveAuth(repo: RepoConfig, runtime: Runtime): Promise<ResolvedAuth>;
}

export function repoConfig(context: Pick<FleetContext, "config">, repo: string): RepoConfig {
  const found = context.config().repos[repo];
  if (found !== undefined) return found;
  const known = Object.keys(context.config().repos);
  throw new OrchestratorError("not_found", `there is no repo ${repo} in the configuration`, {
    hint:
      known.length === 0
        ? `add it with 'orchestrator repo add ${repo} --url URL'`
        : `configured: ${known.join(", ")}; add one with 'orchestrator repo add ${repo} --url URL'`,
  });
}

export function providerOf(context: FleetContext, id: string): Provider {
  const provider = context.providers.get(id);
  if (provider !== undefined) return provider;
  throw new OrchestratorError("invalid_config", `there is no provider ${id}`, {
    hint: `available: ${[...context.providers.keys()].join(", ")}`,
  });
}

export function runtimeOf(context: FleetContext, id: string): Runtime {
  const runtime = context.runtimes.get(id);
  if (runtime !== undefined) return runtime;
  throw new OrchestratorError("invalid_config", `there is no runtime ${id}`, {
    hint: `available: ${[...context.runtimes.keys()].join(", ")}`,
  });
}

/** tmux session of a repo's workers. */
export const sessionName = (repo: string): string => `${repo}-dev`;
