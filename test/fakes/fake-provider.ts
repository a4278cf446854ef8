import { parseName } from "../../src/domain/names.ts";
import type { ProviderState } from "../../src/domain/worker.ts";
import type {
  CreateRequest,
  Dial,
  Provider,
  ProviderCapabilities,
  ProviderWorker,
} from "../../src/providers/provider.ts";
import { ProviderError } from "../../src/providers/provider-error.ts";

export type Operation = "list" | "get" | "create" | "destroy" | "dial" | "capacity";

/** What goes wrong in one call. */
export type Fault =
  /** It is done, but the caller is told that nobody knows. */
  | { readonly kind: "answer_lost" }
  /** Neither done nor answered with anything but doubt. */
  | { readonly kind: "request_lost" }
  /** It happens when `until` resolves. */
  | { readonly kind: "slow"; readonly until: Promise<unknown> }
  /** HTTP 429 of a service. */
  | { readonly kind: "too_many_requests"; readonly retryAfterMs: number }
  /** HTTP 500 of a service; nothing was done. */
  | { readonly kind: "server_error" }
  | { readonly kind: "no_capacity" }
  | { readonly kind: "gone" }
  /** The answer that the same operation gave the last time, however old. */
  | { readonly kind: "stale" }
  | { readonly kind: "throw"; readonly error: Error };

export interface Misbehaving {
  readonly provider: Provider;
  /** The next calls of `operation` meet these faults, one each, in order; then all is well again. */
  script(operation: Operation, ...faults: readonly Fault[]): void;
  /** Calls so far, as `create kite-1`, `dial local-1`, `list kite-`. */
  readonly calls: readonly string[];
}

/** Any provider, with scripted faults in front of it. */
export function misbehaving(inner: Provider): Misbehaving {
  const scripts = new Map<Operation, Fault[]>();
  const answers = new Map<Operation, unknown>();
  const calls: string[] = [];

  const call = async <T>(operation: Operation, subject: string, act: () => Promise<T>) => {
    calls.push(`${operation} ${subject}`.trim());
    const answer = async () => {
      const value = await act();
      answers.set(operation, value);
      return value;
    };
    const fault = scripts.get(operation)?.shift();
    if (fault === undefined) return answer();
    return meet(fault, operation, answer, () => (answers.get(operation) ?? []) as T);
  };

  const attachArgv = inner.attachArgv?.bind(inner);
  const consoleArgv = inner.consoleArgv?.bind(inner);
  return {
    calls,
    script: (operation, ...faults) => {
      scripts.set(operation, [...(scripts.get(operation) ?? []), ...faults]);
    },
    provider: {
      id: inner.id,
      capabilities: inner.capabilities,
      list: (prefix) => call("list", prefix, () => inner.list(prefix)),
      get: (id) => call("get", id, () => inner.get(id)),
      create: (request) => call("create", request.name, () => inner.create(request)),
      destroy: (id) => call("destroy", id, () => inner.destroy(id)),
      dial: (id) => call("dial", id, () => inner.dial(id)),
      capacity: () => call("capacity", "", () => inner.capacity()),
      ...(attachArgv === undefined ? {} : { attachArgv }),
      ...(consoleArgv === undefined ? {} : { consoleArgv }),
    },
  };
}

async function meet<T>(
  fault: Fault,
  operation: Operation,
  act: () => Promise<T>,
  former: () => T,
): Promise<T> {
  const lost = `the answer to ${operation} was lost`;
  switch (fault.kind) {
    case "answer_lost":
      await act();
      throw new ProviderError("unknown_outcome", lost);
    case "request_lost":
      throw new ProviderError("unknown_outcome", lost);
    case "slow":
      await fault.until;
      return act();
    case "too_many_requests":
      throw new ProviderError("unavailable", `${operation}: too many requests`, {
        retryAfterMs: fault.retryAfterMs,
      });
    case "server_error":
      throw new ProviderError("unavailable", `${operation}: the service failed`);
    case "no_capacity":
      throw new ProviderError("no_capacity", `${operation}: no room for another worker`);
    case "gone":
      throw new ProviderError("gone", `${operation}: no such worker`);
    case "stale":
      return former();
    case "throw":
      throw fault.error;
  }
}

export interface FakeCloud extends Misbehaving {
  /** A controller of its own on the same workers, without faults. */
  rival(): Provider;
  /** Puts a worker there that somebody else made. */
  addForeign(name: string, fleetId: string | null): ProviderWorker;
  /** What the provider says of the worker from now on; `gone` takes it away. */
  setState(id: string, state: ProviderState): void;
}

export interface FakeCloudOptions {
  readonly capabilities?: Partial<ProviderCapabilities>;
  readonly maxWorkers?: number;
  /** Where a worker is dialled. Default: loopback, a port where nobody listens. */
  readonly dial?: (worker: ProviderWorker) => Dial | Promise<Dial>;
  readonly now?: () => number;
}

const NOWHERE: Dial = {
  address: { kind: "tcp", host: "127.0.0.1", port: 1, user: "worker" },
  hostKey: null,
};

/** Workers in memory: no machine behind them unless `dial` names one. */
export function fakeCloud(options: FakeCloudOptions = {}): FakeCloud {
  const { maxWorkers = null, dial = () => NOWHERE, now = () => Date.now() } = options;
  const workers = new Map<string, ProviderWorker>();
  let made = 0;

  const named = (name: string) => [...workers.values()].find((worker) => worker.name === name);
  const room = () => (maxWorkers === null ? null : Math.max(0, maxWorkers - workers.size));
  const add = (name: string, fleetId: string | null, nonce: string | null): ProviderWorker => {
    made += 1;
    const worker: ProviderWorker = {
      id: `fake-${made}`,
      name,
      fleetId,
      nonce,
      state: "cold",
      createdAt: now(),
    };
    workers.set(worker.id, worker);
    return worker;
  };
  const setState = (id: string, state: ProviderState) => {
    const worker = workers.get(id);
    if (worker === undefined) return;
    if (state === "gone") workers.delete(id);
    else workers.set(id, { ...worker, state });
  };

  const open = (): Provider => ({
    id: "fake",
    capabilities: {
      sleeps: true,
      checkpoints: false,
      awakeHolds: false,
      needsSshBootstrap: false,
      sharesMachine: false,
      attachDirect: false,
      ...options.capabilities,
    },
    list: async (prefix) => [...workers.values()].filter(({ name }) => name.startsWith(prefix)),
    get: async (id) => workers.get(id) ?? null,
    create: async (request: CreateRequest) => {
      parseName(request.name, "worker name");
      const there = named(request.name);
      if (there?.nonce === request.nonce && there.fleetId === request.fleetId) return there;
      if (there !== undefined) {
        throw new ProviderError("name_taken", `a worker named ${request.name} exists already`);
      }
      if (room() === 0) throw new ProviderError("no_capacity", "no room for another worker");
      return add(request.name, request.fleetId, request.nonce);
    },
    destroy: async (id) => {
      workers.delete(id);
    },
    dial: async (id) => {
      const worker = workers.get(id);
      if (worker === undefined) throw new ProviderError("gone", `there is no worker ${id}`);
      if (worker.state === "unreachable") {
        throw new ProviderError("unavailable", `worker ${worker.name} cannot be reached`);
      }
      setState(id, "running");
      return dial(worker);
    },
    capacity: async () => room(),
  });

  return {
    ...misbehaving(open()),
    rival: open,
    addForeign: (name, fleetId) => add(name, fleetId, null),
    setState,
  };
}
