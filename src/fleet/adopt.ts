import { OrchestratorError } from "../domain/errors.ts";
import { asRunId } from "../domain/ids.ts";
import { splitWorkerName } from "../domain/names.ts";
import type { ProviderWorker } from "../providers/provider.ts";
import type { Connections } from "./connections.ts";
import { providerOf, repoConfig, sessionName, type FleetContext } from "./context.ts";
import { findWorker, moveWorker, noteWorker, reserveWorker, type Worker } from "./workers.ts";

/**
 * Takes a machine that the provider lists as this fleet's, and that the store does not know (an older store was restored), back into its
 * pool. It comes as `unready`: nothing proves that the work on it is saved; `worker rescue` does that and makes it usable. Never one of another
 * fleet, nor one whose labels cannot be read. Repeating it changes nothing.
 */
export async function adoptWorker(
  context: FleetContext,
  connections: Connections,
  name: string,
): Promise<Worker> {
  const place = splitWorkerName(name);
  if (place === undefined)
    throw new OrchestratorError("invalid_input", `${name} is no worker's name`);
  const provider = providerOf(context, repoConfig(context, place.repo).provider);
  const seen = (await provider.list(name)).find((worker) => worker.name === name);
  if (seen === undefined) {
    throw new OrchestratorError("not_found", `the provider ${provider.id} has no worker ${name}`);
  }
  if (seen.fleetId !== context.store.fleetId || seen.nonce === null) {
    const whose =
      seen.fleetId === null ? "nobody knows whose it is" : "it belongs to another fleet";
    throw new OrchestratorError("forbidden", `worker ${name} was not adopted: ${whose}`);
  }
  const worker = await takeRow(context, provider.id, place, { ...seen, nonce: seen.nonce });
  await learnEpoch(context, connections, worker);
  return findWorker(context.store.db, worker.worker_id);
}

/** The row of this very machine, made when there is none. */
async function takeRow(
  context: FleetContext,
  provider: string,
  place: { readonly repo: string; readonly number: number },
  seen: ProviderWorker & { readonly nonce: string },
): Promise<Worker> {
  const { value } = await context.store.mutate(async (tx) => {
    const known = await tx.db
      .selectFrom("workers")
      .selectAll()
      .where("name", "=", seen.name)
      .where("allocation", "!=", "destroyed")
      .executeTakeFirst();
    if (known !== undefined) {
      if (known.nonce === seen.nonce && known.provider_id === seen.id) return known;
      throw new OrchestratorError(
        "not_claimable",
        `worker ${seen.name} was not adopted: the store knows another one of that name`,
      );
    }
    // A row that was closed while its machine lived on keeps its history, and gives the label back.
    await tx.db
      .updateTable("workers")
      .set((row) => ({ nonce: row.fn("concat", ["nonce", row.val(":"), "worker_id"]) }))
      .where("nonce", "=", seen.nonce)
      .execute();
    const row = await reserveWorker(tx, context.ids, {
      ...place,
      provider,
      runId: null,
      nonce: seen.nonce,
    });
    await moveWorker(tx, row, "adopted", {
      provider_id: seen.id,
      provider_state: seen.state,
      provider_state_at: tx.now,
    });
    await moveWorker(tx, { ...row, allocation: "preparing" }, "step_failed", {
      reason: "unrescued: it was adopted, and nothing proves its work saved",
    });
    return findWorker(tx.db, row.worker_id);
  });
  return value;
}

/** What a former controller did there stands under its epochs: ours must not be lower. */
async function learnEpoch(
  context: FleetContext,
  connections: Connections,
  worker: Worker,
): Promise<void> {
  if (worker.allocation !== "unready") return;
  const transport = await connections.reach(worker.worker_id);
  const probe = await context.provisioner.probe(transport, sessionName(worker.repo));
  if (probe.owner !== null && probe.owner !== context.store.fleetId) {
    throw new OrchestratorError(
      "forbidden",
      `worker ${worker.name} says that it belongs to another fleet: it stays set aside`,
    );
  }
  const run = probe.current?.run ?? null;
  await context.store.mutate(async (tx) => {
    const known =
      run === null
        ? undefined
        : await tx.db
            .selectFrom("runs")
            .select("run_id")
            .where("run_id", "=", asRunId(run))
            .executeTakeFirst();
    await noteWorker(tx, worker.worker_id, {
      epoch: Math.max(worker.epoch, probe.fence),
      last_run_id: known?.run_id ?? worker.last_run_id,
    });
  });
}
