import { OrchestratorError } from "../domain/errors.ts";
import { splitWorkerName } from "../domain/names.ts";
import type { Connections } from "./connections.ts";
import { repoConfig, type FleetContext } from "./context.ts";
import type { Seeds } from "./prepare.ts";
import { makeReady, reserveIdleWorker, setUpAgain } from "./ready.ts";
import type { Worker } from "./workers.ts";

export interface SetUpOptions {
  readonly context: FleetContext;
  readonly connections: Connections;
  readonly seeds: Seeds;
  readonly signal: AbortSignal;
  poolFacts(repo: string): Promise<{ capacity: number | null; foreignNumbers: readonly number[] }>;
}

/** Brings the worker of that name to where it can take a run: makes it, goes on with its set-up, or finds it ready. Safe to repeat. */
export async function ensureSetUp(
  options: SetUpOptions,
  name: string,
  worker: Worker | undefined,
): Promise<Worker> {
  const { context, connections, seeds, signal } = options;
  if (worker === undefined) {
    const { repo = name, number = 0 } = splitWorkerName(name) ?? {};
    repoConfig(context, repo);
    const facts = await options.poolFacts(repo);
    const reserved = await reserveIdleWorker(context, repo, facts, number);
    return makeReady(context, connections, seeds, reserved, signal);
  }
  switch (worker.allocation) {
    case "free":
    case "claimed":
      return worker;
    case "unready":
      return setUpAgain(context, connections, seeds, worker, signal);
    case "creating":
    case "preparing":
    case "destroying":
    case "destroyed":
      throw new OrchestratorError("not_claimable", `worker ${name} is ${worker.allocation}`, {
        retryable: true,
        hint: `'orchestrator worker show ${name}' says how far it is`,
      });
  }
}
