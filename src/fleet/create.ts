import { OrchestratorError } from "../domain/errors.ts";
import { ProviderError } from "../providers/provider-error.ts";
import type { ProviderWorker } from "../providers/provider.ts";
import { retry } from "../platform/retry.ts";
import { providerOf, type FleetContext } from "./context.ts";
import { findWorker, moveWorker, type Worker } from "./workers.ts";

export type Created =
  | { readonly kind: "created"; readonly worker: Worker }
  /** Provably not made: the number is free again (or belongs to somebody else). */
  | { readonly kind: "not-created"; readonly reason: string; readonly foreign: boolean };

/**
 * Brings a worker from `creating` to `preparing`: looks it up by its nonce first, so that a create whose answer was lost is
 * adopted and never repeated; creates it otherwise. Idempotent; safe after a crash at any point.
 */
export async function ensureCreated(context: FleetContext, worker: Worker): Promise<Created> {
  const provider = providerOf(context, worker.provider);
  const found = (await provider.list(worker.name)).find((seen) => seen.name === worker.name);
  if (found !== undefined && found.nonce !== worker.nonce)
    return refuse(context, worker, "its name belongs to somebody else", true);
  if (found !== undefined) return adopt(context, worker, found);

  context.failpoint("before-create");
  try {
    const made = await retry(
      () =>
        provider.create({
          name: worker.name,
          fleetId: context.store.fleetId,
          nonce: worker.nonce,
          authorizedKey: context.keys.publicKey,
        }),
      { attempts: 6, firstMs: 200, maxMs: 10_000 },
      context,
      {
        retryable: (error) => error instanceof ProviderError && error.failure === "unavailable",
        retryAfterMs: (error) => (error instanceof ProviderError ? error.retryAfterMs : undefined),
      },
    );
    context.failpoint("after-create");
    return await adopt(context, worker, made);
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    switch (error.failure) {
      case "name_taken":
        return refuse(context, worker, "its name belongs to somebody else", true);
      case "no_capacity":
      case "rejected":
      case "gone":
        return refuse(context, worker, error.message, false);
      case "unknown_outcome":
      case "unavailable":
        throw new OrchestratorError(
          "unreachable",
          `whether worker ${worker.name} was created is not known yet`,
          {
            retryable: true,
            cause: error,
          },
        );
    }
  }
}

async function adopt(
  context: FleetContext,
  worker: Worker,
  seen: ProviderWorker,
): Promise<Created> {
  await context.store.mutate((tx) =>
    moveWorker(tx, worker, "adopted", {
      provider_id: seen.id,
      provider_state: seen.state,
      provider_state_at: tx.now,
      last_run_id: worker.last_run_id,
    }),
  );
  context.failpoint("after-adopt");
  return { kind: "created", worker: await findWorker(context.store.db, worker.worker_id) };
}

async function refuse(
  context: FleetContext,
  worker: Worker,
  reason: string,
  foreign: boolean,
): Promise<Created> {
  await context.store.mutate((tx) => moveWorker(tx, worker, "create_failed", { reason }));
  return { kind: "not-created", reason, foreign };
}
