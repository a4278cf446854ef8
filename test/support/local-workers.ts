import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { randomIds } from "../../src/platform/ids.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { localProvider } from "../../src/providers/local/local.ts";
import type { Dial, Provider, ProviderWorker } from "../../src/providers/provider.ts";
import { type ClientKeys, generateClientKeys } from "../../src/transport/keys.ts";

export interface LocalWorkers extends AsyncDisposable {
  readonly root: string;
  readonly provider: Provider;
  readonly keys: ClientKeys;
  /** A new worker of fleet `fleet-a`, running. */
  start(name: string): Promise<{ worker: ProviderWorker; dial: Dial; home: string }>;
  homeOf(name: string): string;
}

/** Local workers in a folder of their own. Disposing destroys every worker in it, whatever the test did. */
export async function localWorkers(
  options: { maxWorkers?: number; root?: string } = {},
): Promise<LocalWorkers> {
  const root = options.root ?? (await mkdtemp(join(tmpdir(), "ow-")));
  const provider = localProvider({
    root,
    clock: systemClock(),
    ids: randomIds(),
    graceMs: 300,
    ...(options.maxWorkers === undefined ? {} : { maxWorkers: options.maxWorkers }),
  });
  const keys = generateClientKeys("test");
  const homeOf = (name: string) => join(root, name, "home");
  return {
    root,
    provider,
    keys,
    homeOf,
    async start(name) {
      const authorizedKey = keys.publicKey;
      const worker = await provider.create({
        name,
        fleetId: "fleet-a",
        nonce: `nonce-${name}`,
        authorizedKey,
      });
      return { worker, dial: await provider.dial(worker.id), home: homeOf(name) };
    },
    async [Symbol.asyncDispose]() {
      const workers = await provider.list("");
      const destroyed = await Promise.allSettled(workers.map(({ id }) => provider.destroy(id)));
      await rm(root, { recursive: true, force: true });
      const failed = destroyed.filter(({ status }) => status === "rejected");
      if (failed.length > 0) throw new AggregateError(failed, "workers were left behind");
    },
  };
}
