import type { Config } from "../config/config.ts";
import type { Env } from "../config/env.ts";
import type { HomePaths } from "../config/paths.ts";
import type { Check } from "../domain/check.ts";
import type { Client } from "../operations/client.ts";
import type { Clock } from "../platform/clock.ts";
import type { Ids } from "../platform/ids.ts";
import type { Io } from "./io.ts";

/** What a command works with. Made in main.ts; the loaders bring in what is too heavy for every start. */
export interface Context {
  readonly env: Env;
  readonly paths: HomePaths;
  readonly version: string;
  readonly io: Io;
  clock(): Clock;
  ids(): Ids;
  /** How this program is started again: `serve --detached` is appended. */
  readonly program: readonly [command: string, ...args: string[]];
  /** How long a controller that owes an answer may be silent (ms). */
  readonly silentMs?: number;
  /** How long a controller may take until its socket answers (ms). */
  readonly startMs?: number;
  /** Operations over the store, in this process. */
  openInProcess(): Promise<Client>;
  /** Runs the controller in this process. Rejects with `lease_held` when another one runs. */
  hostController(options: { readonly idleExit: boolean }): Promise<HostedController>;
  /** What `doctor` proves that this works with. */
  trials(): Promise<Trials>;
  /** Aborted by the first Ctrl-C or SIGTERM after this call; the second ends the process. */
  interruption(): AbortSignal;
}

export interface Trials {
  /** Looks at providers, runtimes and credentials as configured. */
  configured(config: Config): Promise<readonly Check[]>;
  /** Runs a trial in this process; see controller/trial.ts. */
  run(trial: {
    readonly folder: string;
    readonly repo: string | undefined;
    readonly signal: AbortSignal;
    emit(check: Check): void;
  }): Promise<void>;
  remove(folder: string): Promise<void>;
  sweep(root: string, now: number): Promise<void>;
}

export interface HostedController {
  /** Resolves when it has stopped, whoever asked for it. */
  readonly ended: Promise<void>;
  stop(): Promise<void>;
}
