import { chmod, lstat, rename, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { OrchestratorError, toWireError } from "../domain/errors.ts";
import type { Operation } from "../operations/operation.ts";
import { findOperation, performOnce, performStream } from "../operations/perform.ts";
import type { Services } from "../operations/services.ts";
import {
  ANSWERED_TO_ALL,
  encodeLine,
  lineCutter,
  MAX_ANSWER_BYTES,
  MAX_REQUEST_BYTES,
  parseRequest,
  PROTOCOL,
  PULSE_MS,
  type Answer,
  type Call,
} from "../operations/wire.ts";
import type { Logger } from "../platform/logger.ts";
import type { Service } from "../platform/start-stop.ts";

export interface SocketServerOptions {
  /** At most 103 bytes, in a folder of the user's own. */
  readonly path: string;
  readonly services: Services;
  readonly operations: ReadonlyMap<string, Operation>;
  readonly logger: Logger;
  readonly pulseMs?: number;
}

export interface SocketServer extends Service {
  /** Operations on workers that are under way; what only follows the store does not count. */
  readonly working: number;
}

const MAX_CONNECTIONS = 1_024;
const MAX_REQUESTS_PER_CONNECTION = 256;
/** How long `stop` waits for handlers that do not heed their signal. */
const STOP_GRACE_MS = 5_000;

/** What requests under way hear when the controller stops: as after a cut, the client may ask the next one. */
const STOPPING = new OrchestratorError("unreachable", "the controller is stopping", {
  retryable: true,
  details: { lost: true },
});

/**
 * The controller's door for programs of the same user (operations/wire.ts says what is spoken). The socket appears under
 * its name already listening and 0600. One left by a dead process is replaced; where somebody answers, `start` rejects
 * with `lease_held`. The caller holds the controller's lock: two servers never start on one path at the same time.
 * `stop` takes no more connections, aborts every handler, waits for them and removes the socket if it is still its own.
 */
export function socketServer(options: SocketServerOptions): SocketServer {
  const { path } = options;
  const connections = new Set<Connection>();
  let server: Server | undefined;
  let inode: number | undefined;

  const accept = (socket: Socket) => {
    const connection = serveConnection(socket, options);
    connections.add(connection);
    void connection.closed.then(() => connections.delete(connection));
  };

  return {
    get working() {
      return [...connections].reduce((sum, { working }) => sum + working, 0);
    },
    async start() {
      if (server !== undefined) return;
      await refuseUnlessStale(path);
      const listening = createServer({ noDelay: true }, accept);
      listening.maxConnections = MAX_CONNECTIONS;
      const own = `${path}.${options.services.pid}`;
      await rm(own, { force: true });
      await listen(listening, own);
      server = listening;
      await chmod(own, 0o600);
      inode = (await lstat(own)).ino;
      await rename(own, path);
      options.logger.info("socket.opened", { path });
    },
    async stop() {
      const closing = server;
      if (closing === undefined) return;
      server = undefined;
      const closed = new Promise<void>((resolve) => closing.close(() => resolve()));
      const found = await lstat(path).catch(() => undefined);
      if (found !== undefined && found.ino === inode) await rm(path, { force: true });
      await Promise.all([...connections].map((connection) => connection.close()));
      await closed;
    },
  };
}

interface Connection {
  readonly working: number;
  readonly closed: Promise<void>;
  /** Aborts what runs, lets each request give its last answer, then closes. */
  close(): Promise<void>;
}

function serveConnection(socket: Socket, options: SocketServerOptions): Connection {
  const running = new Map<number, { abort: AbortController; done: Promise<void>; op: string }>();
  const cut = lineCutter(MAX_REQUEST_BYTES);
  const gone = new AbortController();
  let pulsing = false;
  let refused = false;
  let stopping = false;
  socket.setMaxListeners(0);

  /** Writes one line; resolves when the client can take more, or is gone. */
  const write = (answer: Answer): Promise<void> => {
    if (gone.signal.aborted || socket.writableEnded) return Promise.resolve();
    const line = encodeAnswer(answer);
    if (socket.write(line)) return Promise.resolve();
    return new Promise((resolve) => {
      const settle = () => {
        socket.off("drain", settle).off("close", settle);
        resolve();
      };
      socket.on("drain", settle).on("close", settle);
    });
  };

  const pulse = async () => {
    if (pulsing) return;
    pulsing = true;
    while (running.size > 0 && !gone.signal.aborted) {
      await options.services.clock.sleep(options.pulseMs ?? PULSE_MS, gone.signal).catch(() => {});
      if (running.size > 0 && !socket.writableNeedDrain) await write({ pulse: true });
    }
    pulsing = false;
  };

  const run = async (call: Call, signal: AbortSignal) => {
    try {
      await answerCall(call, options, signal, write);
    } catch (error) {
      if (signal.aborted && signal.reason !== STOPPING) return write({ id: call.id, end: true });
      const wire = toWireError(signal.aborted ? STOPPING : error);
      if (wire.code === "internal") {
        options.logger.error("operation_failed", { operation: call.op, message: wire.message });
      }
      return write({ id: call.id, error: wire });
    }
  };

  const take = (line: Buffer) => {
    const request = parseRequest(line);
    const former = running.get(request.id);
    if (request.kind === "cancel") return former?.abort.abort();
    if (former !== undefined || running.size >= MAX_REQUESTS_PER_CONNECTION) {
      throw new OrchestratorError(
        "invalid_input",
        former === undefined
          ? "too many requests at once on one connection"
          : `request ${request.id} is still being worked on`,
      );
    }
    const abort = new AbortController();
    if (stopping) abort.abort(STOPPING);
    const done = run(request, abort.signal).finally(() => running.delete(request.id));
    running.set(request.id, { abort, done, op: request.op });
    void pulse();
  };

  const abortAll = (reason?: Error) => {
    for (const request of running.values()) request.abort.abort(reason);
  };
  const refuse = (error: unknown) => {
    refused = true;
    socket.pause();
    abortAll();
    void write({ id: null, error: toWireError(error) });
    socket.destroySoon();
  };

  socket.on("data", (chunk: Buffer) => {
    if (refused) return;
    try {
      for (const line of cut(chunk)) take(line);
    } catch (error) {
      refuse(error);
    }
  });
  // A client that resets or half-closes is gone: `close` follows.
  socket.on("error", () => {});
  const closed = new Promise<void>((resolve) => {
    socket.on("close", () => {
      gone.abort();
      abortAll();
      resolve();
    });
  });
  return {
    closed,
    get working() {
      const onWorkers = [...running.values()].filter(
        ({ op }) => options.operations.get(op)?.runs === "controller",
      );
      return onWorkers.length;
    },
    async close() {
      stopping = true;
      abortAll(STOPPING);
      const settled = new AbortController();
      await Promise.race([
        Promise.all([...running.values()].map((request) => request.done)),
        options.services.clock.sleep(STOP_GRACE_MS, settled.signal).catch(() => {}),
      ]);
      settled.abort();
      socket.destroySoon();
      await Promise.race([
        closed,
        options.services.clock.sleep(STOP_GRACE_MS, gone.signal).catch(() => {}),
      ]);
      socket.destroy();
    },
  };
}

async function answerCall(
  call: Call,
  options: SocketServerOptions,
  signal: AbortSignal,
  write: (answer: Answer) => Promise<void>,
): Promise<void> {
  const { services } = options;
  signal.throwIfAborted();
  if (!ANSWERED_TO_ALL.has(call.op)) checkVersion(call, services);
  const operation = findOperation(options.operations, call.op);
  if (operation.answer.kind === "once") {
    return write({
      id: call.id,
      value: await performOnce(operation, services, call.input, signal),
    });
  }
  for await (const item of performStream(operation, services, call.input, signal)) {
    await write({ id: call.id, item });
    signal.throwIfAborted();
  }
  signal.throwIfAborted();
  return write({ id: call.id, end: true });
}

function checkVersion(call: Call, services: Services): void {
  const sameProgram = call.version === undefined || call.version === services.version;
  if (call.v === PROTOCOL && sameProgram) return;
  const asking = call.version ?? `of protocol ${call.v}`;
  throw new OrchestratorError(
    "unhealthy",
    `the running controller is version ${services.version}, this program is version ${JSON.stringify(asking.slice(0, 40))}`,
    {
      hint: "run 'orchestrator stop': agents go on, and the next command starts the controller of its own version",
      details: { controller: services.version, pid: services.pid },
    },
  );
}

/** An answer too long for clients becomes an error they can read. */
function encodeAnswer(answer: Answer): string {
  const line = encodeLine(answer);
  if (line.length <= MAX_ANSWER_BYTES / 3 || Buffer.byteLength(line) <= MAX_ANSWER_BYTES)
    return line;
  const id = "id" in answer ? answer.id : null;
  const error = new OrchestratorError("internal", "the answer is too long for the socket");
  return encodeLine({ id, error: toWireError(error) });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      // Out of file descriptors for one connection: the others go on.
      server.on("error", () => {});
      resolve();
    });
  });
}

async function refuseUnlessStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new OrchestratorError("invalid_config", `${path} is there and is no socket`, {
      hint: "move it away, or set ORCHESTRATOR_HOME to another folder",
    });
  }
  if (await isAnswered(path)) {
    throw new OrchestratorError("lease_held", `a controller already answers at ${path}`, {
      hint: "'orchestrator ping' shows it",
    });
  }
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      // A full backlog (EAGAIN) is somebody, too; only a refusal proves that nobody listens.
      if (error.code === "ECONNREFUSED" || error.code === "ENOENT") return resolve(false);
      if (error.code === "EAGAIN") return resolve(true);
      reject(error);
    });
  });
}
