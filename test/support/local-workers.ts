import { existsSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { randomIds } from "../../src/platform/ids.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { localProvider } from "../../src/providers/local/local.ts";
import type { Dial, Provider, ProviderWorker } from "../../src/providers/provider.ts";
import { type ClientKeys, generateClientKeys } from "./client-keys.ts";

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
  endAbandoned();
  const root = options.root ?? (await mkdtemp(join(tmpdir(), `ow-${process.pid}-`)));
  const provider = localProvider({
    root,
    clock: systemClock(),
    ids: randomIds(),
    graceMs: 300,
    ...(options.maxWorkers === undefined ? {} : { maxWorkers: options.maxWorkers }),
  });
  const keys = generateClientKeys("test");
  // A test that is cut off by its runner disposes of nothing.
  const endNow = () => killAll(root);
  process.once("exit", endNow);
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
      process.off("exit", endNow);
      const workers = await provider.list("");
      const destroyed = await Promise.allSettled(workers.map(({ id }) => provider.destroy(id)));
      await rm(root, { recursive: true, force: true });
      const failed = destroyed.filter(({ status }) => status === "rejected");
      if (failed.length > 0) throw new AggregateError(failed, "workers were left behind");
    },
  };
}

/** Ends the workers of test processes that were killed: their folders carry a pid that is gone. */
function endAbandoned(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = /^ow-([0-9]+)-/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) killAll(join(tmpdir(), name));
  }
}

/** The last resort, without waiting: kills what carries the mark of a worker below `root`, and its sshd. */
function killAll(root: string): void {
  for (const name of attempt(() => readdirSync(root)) ?? []) {
    const text = attempt(() => readFileSync(join(root, name, "worker.json"), "utf8"));
    const id = /"id": "(local-[0-9a-z]+)"/.exec(text ?? "")?.[1];
    if (id === undefined) continue;
    const config = join(root, name, "sshd_config");
    for (const pid of readdirSync("/proc").filter((entry) => /^[0-9]+$/.test(entry))) {
      const environment = attempt(() => readFileSync(`/proc/${pid}/environ`, "utf8")) ?? "";
      const marked = environment.split("\0").includes(`ORCHESTRATOR_WORKER=${id}`);
      const title = attempt(() => readFileSync(`/proc/${pid}/cmdline`, "utf8")) ?? "";
      const isSshd = title.startsWith("sshd:") && title.includes(` ${config} `);
      if (marked || isSshd) attempt(() => process.kill(Number(pid), "SIGKILL"));
    }
  }
  attempt(() => rmSync(root, { recursive: true, force: true }));
}

function attempt<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch {
    return undefined;
  }
}
