import type { WorkerId } from "../domain/ids.ts";
import type { ProviderState } from "../domain/worker.ts";
import { TOO_LATE, within } from "../platform/within.ts";
import type { FleetContext } from "./context.ts";
import type { Worker } from "./workers.ts";

/**
 * What the providers say of these workers now, without waking any: one list for each pool. A worker that is in no list is left out; so are
 * all of a provider that fails or does not answer in time: nobody can say.
 */
export async function providerStates(
  context: FleetContext,
  workers: readonly Worker[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ReadonlyMap<WorkerId, ProviderState>> {
  const pools = new Map<string, Worker[]>();
  for (const worker of workers) {
    const pool = `${worker.provider} ${worker.repo}`;
    pools.set(pool, [...(pools.get(pool) ?? []), worker]);
  }
  const states = new Map<WorkerId, ProviderState>();
  await Promise.all(
    [...pools.values()].map(async (pool) => {
      const [first] = pool;
      const provider = first && context.providers.get(first.provider);
      if (first === undefined || provider === undefined) return;
      const listed = await within(context.clock, timeoutMs, signal, () =>
        provider.list(`${first.repo}-`).catch(() => TOO_LATE),
      );
      if (listed === TOO_LATE) return;
      const byId = new Map(listed.map(({ id, state }) => [id, state]));
      for (const { worker_id, provider_id } of pool) {
        const state = provider_id === null ? undefined : byId.get(provider_id);
        if (state !== undefined) states.set(worker_id, state);
      }
    }),
  );
  return states;
}
