import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { socketServer } from "../../src/controller/socket-server.ts";
import type { Operation } from "../../src/operations/operation.ts";
import { OPERATIONS } from "../../src/operations/registry.ts";
import type { Services } from "../../src/operations/services.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { silentLogger } from "../../src/platform/logger.ts";

export type Handler = (input: never, signal: AbortSignal) => unknown;

export interface FakeController extends AsyncDisposable {
  /** Every call that arrived, in order, with its parsed input. */
  readonly calls: ReadonlyArray<{ readonly op: string; readonly input: unknown }>;
  readonly path: string;
  stop(): Promise<void>;
}

/** The real operations with answers of our own: input and output are held to their schemas as ever. */
export function answeredBy(
  handlers: Readonly<Record<string, Handler>>,
  calls: Array<{ op: string; input: unknown }> = [],
): ReadonlyMap<string, Operation> {
  const operations = new Map<string, Operation>();
  for (const [id, operation] of OPERATIONS) {
    const handler = handlers[id];
    if (handler === undefined) continue;
    const handle = (_: Services, input: unknown, signal: AbortSignal) => {
      calls.push({ op: id, input });
      return handler(input as never, signal);
    };
    operations.set(id, { ...operation, answer: { kind: operation.answer.kind, handle } as never });
  }
  return operations;
}

export function fakeServices(version = "0.1.0"): Services {
  return {
    store: {} as never,
    clock: systemClock(),
    config: {} as never,
    orchestration: undefined,
    pid: process.pid,
    version,
    startedAt: 0,
  };
}

/** A real socket server at `path` whose operations are answered by `handlers`. */
export async function fakeController(
  path: string,
  handlers: Readonly<Record<string, Handler>>,
  options: { readonly version?: string; readonly pulseMs?: number } = {},
): Promise<FakeController> {
  const calls: Array<{ op: string; input: unknown }> = [];
  const server = socketServer({
    path,
    services: fakeServices(options.version),
    operations: answeredBy(handlers, calls),
    logger: silentLogger,
    ...(options.pulseMs === undefined ? {} : { pulseMs: options.pulseMs }),
  });
  await server.start();
  const stop = () => server.stop();
  return { calls, path, stop, [Symbol.asyncDispose]: stop };
}

/** A short folder of its own (sockets have short names), removed afterwards. */
export async function temporaryHome(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "oc-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
