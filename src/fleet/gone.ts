import { ProviderError } from "../providers/provider-error.ts";
import { providerOf, type FleetContext } from "./context.ts";
import type { Worker } from "./workers.ts";

/**
 * Whether the provider says twice, by id, that the worker does not exist any more: the only evidence for `gone`. False when it is there,
 * was never made, or nobody can say.
 */
export async function isGone(context: FleetContext, worker: Worker): Promise<boolean> {
  if (worker.provider_id === null) return false;
  const provider = providerOf(context, worker.provider);
  for (let look = 0; look < 2; look += 1) {
    const seen = await provider.get(worker.provider_id).catch((error: unknown) => {
      if (error instanceof ProviderError) return "unknown" as const;
      throw error;
    });
    if (seen === "unknown" || (seen !== null && seen.state !== "gone")) return false;
  }
  return true;
}
