import { OrchestratorError } from "../domain/errors.ts";
import type { WorkerId } from "../domain/ids.ts";
import type { Transport } from "../transport/transport.ts";
import { providerOf, type FleetContext } from "./context.ts";
import { findWorker, noteWorker, type Worker } from "./workers.ts";

/** One kept transport per worker; dialled through the provider, which wakes a sleeping worker. */
export class Connections implements AsyncDisposable {
  readonly #context: FleetContext;
  readonly #open = new Map<WorkerId, Promise<Transport>>();

  constructor(context: FleetContext) {
    this.#context = context;
  }

  /**
   * The worker's transport. Dials when there is none or its connection has ended; concurrent callers share the dial.
   * The pinned host key always wins over what the provider says now.
   */
  async reach(workerId: WorkerId): Promise<Transport> {
    const existing = this.#open.get(workerId);
    if (existing !== undefined) {
      const transport = await existing;
      if (transport.connected) return transport;
      if (this.#open.get(workerId) === existing) await this.drop(workerId);
      return this.reach(workerId);
    }
    const dialled = this.#dial(workerId);
    this.#open.set(workerId, dialled);
    try {
      return await dialled;
    } catch (error) {
      if (this.#open.get(workerId) === dialled) this.#open.delete(workerId);
      throw error;
    }
  }

  /** The kept transport when its connection stands; never dials. */
  async kept(workerId: WorkerId): Promise<Transport | undefined> {
    const transport = await this.#open.get(workerId)?.catch(() => undefined);
    return transport?.connected === true ? transport : undefined;
  }

  /**
   * Does something short on a worker over the kept connection, else over one of its own that is closed again: a look leaves nothing open
   * and stores nothing. Dialled through the provider, which wakes a sleeping worker: the caller has made sure that it is awake.
   */
  async visit<T>(
    workerId: WorkerId,
    limits: { readonly timeoutMs: number; readonly mayDial: boolean },
    action: (transport: Transport) => Promise<T>,
  ): Promise<T | undefined> {
    const kept = await this.kept(workerId);
    if (kept !== undefined) return action(kept);
    if (!limits.mayDial) return undefined;
    const { store, keys, openTransport } = this.#context;
    const worker = await findWorker(store.db, workerId);
    await using transport = openTransport({
      ...(await this.#address(worker)),
      privateKey: keys.privateKey,
      connectTimeoutMs: limits.timeoutMs,
      keepaliveMs: 5_000,
      maxChannels: 2,
      execTimeoutMs: limits.timeoutMs,
    });
    return await action(transport);
  }

  async drop(workerId: WorkerId): Promise<void> {
    const open = this.#open.get(workerId);
    this.#open.delete(workerId);
    const transport = await open?.catch(() => undefined);
    await transport?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([...this.#open.keys()].map((workerId) => this.drop(workerId)));
  }

  async #dial(workerId: WorkerId): Promise<Transport> {
    const { store, keys, openTransport } = this.#context;
    const worker = await findWorker(store.db, workerId);
    const transport = openTransport({
      ...(await this.#address(worker)),
      privateKey: keys.privateKey,
      connectTimeoutMs: 15_000,
      keepaliveMs: 5_000,
      maxChannels: 8,
      execTimeoutMs: 60_000,
    });
    // The first call opens the connection: a refused or changed host shows here, not in the middle of a step.
    const hello = await transport.exec(["true"]).catch(async (error: unknown) => {
      await transport.close();
      await this.#note(worker, { provider_state: "unreachable" });
      throw error;
    });
    if (hello.code !== 0) {
      await transport.close();
      throw new OrchestratorError("unreachable", `worker ${worker.name} runs no commands`, {
        details: { code: hello.code },
      });
    }
    await this.#note(worker, { provider_state: "running" });
    return transport;
  }

  async #address(worker: Worker) {
    const provider = providerOf(this.#context, worker.provider);
    if (worker.provider_id === null) {
      throw new OrchestratorError("unreachable", `worker ${worker.name} has not been created yet`, {
        retryable: true,
      });
    }
    const dial = await provider.dial(worker.provider_id);
    const hostKey = worker.host_key ?? dial.hostKey;
    const address = JSON.stringify(dial.address);
    if (worker.address !== address || worker.host_key !== hostKey) {
      await this.#note(worker, { address, host_key: hostKey });
    }
    return {
      address: dial.address,
      hostKey,
      onHostKey: (fingerprint: string) => {
        void this.#note(worker, { host_key: fingerprint });
        return true;
      },
    };
  }

  async #note(worker: Worker, facts: Parameters<typeof noteWorker>[2]): Promise<void> {
    await this.#context.store.mutate(
      (tx) =>
        noteWorker(
          tx,
          worker.worker_id,
          facts.provider_state === undefined ? facts : { ...facts, provider_state_at: tx.now },
        ),
      { quiet: true },
    );
  }
}
