import { connect, type Socket } from "node:net";
import { fromWireError, OrchestratorError } from "../domain/errors.ts";
import {
  encodeLine,
  lineCutter,
  MAX_ANSWER_BYTES,
  parseAnswer,
  PROTOCOL,
  SILENT_MS,
  type Answer,
} from "./wire.ts";

/** A way to operations: a running controller's socket, or this process (in-process.ts). */
export interface Client {
  /** Performs an operation that answers once. Rejects with the operation's error. */
  call(op: string, input: object, signal?: AbortSignal): Promise<unknown>;
  /** Performs an operation that streams; leaving the loop cancels it. */
  stream(op: string, input: object, signal?: AbortSignal): AsyncIterable<unknown>;
  /** What is still under way rejects with `unreachable`. Idempotent. */
  close(): Promise<void>;
}

export interface ConnectOptions {
  readonly path: string;
  /** The program's own version: a controller of another one refuses. */
  readonly version: string;
  readonly silentMs?: number;
}

/** Waiting items of a stream beyond which the socket is read no further. */
const MAX_WAITING = 256;

/**
 * Connects to the controller; undefined when nobody listens at `path`. Costs a socket and nothing else: every start of
 * the CLI passes here. Whatever is under way rejects with `unreachable` when the connection ends before the answer
 * (`details.lost`), or when a controller that owes an answer stays silent for `silentMs`.
 */
export function connectController(options: ConnectOptions): Promise<Client | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: options.path });
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      resolve(overSocket(socket, options));
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ECONNREFUSED") return resolve(undefined);
      reject(cannotConnect(options.path, error));
    });
  });
}

interface Pending {
  take(answer: Answer): void;
  fail(error: OrchestratorError): void;
}

function overSocket(
  socket: Socket,
  { path, version, silentMs = SILENT_MS }: ConnectOptions,
): Client {
  const pending = new Map<number, Pending>();
  const cut = lineCutter(MAX_ANSWER_BYTES);
  let lastId = 0;
  let over: OrchestratorError | undefined;

  const end = (error: OrchestratorError) => {
    over ??= error;
    socket.destroy();
    const waiting = [...pending.values()];
    pending.clear();
    for (const request of waiting) request.fail(over);
  };
  const take = (answer: Answer) => {
    if ("pulse" in answer) return;
    if (answer.id !== null) return pending.get(answer.id)?.take(answer);
    end("error" in answer ? fromWireError(answer.error) : lost(path));
  };
  const start = (op: string, input: object, request: Pending): number => {
    if (over !== undefined) throw over;
    lastId += 1;
    pending.set(lastId, request);
    socket.setTimeout(silentMs);
    socket.write(encodeLine({ v: PROTOCOL, version, id: lastId, op, input }));
    return lastId;
  };
  const finish = (id: number) => {
    pending.delete(id);
    if (pending.size === 0) socket.setTimeout(0);
  };
  const cancel = (id: number) => {
    if (!pending.has(id) || over !== undefined) return;
    finish(id);
    socket.write(encodeLine({ id, cancel: true }));
  };

  socket.on("data", (chunk: Buffer) => {
    try {
      for (const line of cut(chunk)) take(parseAnswer(line));
    } catch (error) {
      end(
        new OrchestratorError("unreachable", "the controller's answer was not understood", {
          cause: error,
          hint: `is there another program at ${path}?`,
        }),
      );
    }
  });
  socket.on("timeout", () => {
    // A slow reader of a stream has stopped the socket itself.
    if (!socket.isPaused()) end(silent(path, silentMs));
  });
  socket.on("error", (error) => end(lost(path, error)));
  socket.on("close", () => end(lost(path)));

  return {
    call(op, input, signal) {
      return new Promise((resolve, reject) => {
        signal?.throwIfAborted();
        const id = start(op, input, {
          take(answer) {
            finish(id);
            if ("value" in answer) resolve(answer.value);
            else reject("error" in answer ? fromWireError(answer.error) : lost(path));
          },
          fail: reject,
        });
        signal?.addEventListener("abort", () => {
          cancel(id);
          reject(signal.reason);
        });
      });
    },
    async *stream(op, input, signal) {
      signal?.throwIfAborted();
      const items: unknown[] = [];
      let ended = false;
      let failure: unknown;
      let wake = () => {};
      const settle = (error?: unknown) => {
        ended = true;
        failure ??= error;
        wake();
      };
      const id = start(op, input, {
        take(answer) {
          if ("item" in answer) {
            items.push(answer.item);
            if (items.length >= MAX_WAITING) socket.pause();
            return wake();
          }
          finish(id);
          settle("error" in answer ? fromWireError(answer.error) : undefined);
        },
        fail: settle,
      });
      const abort = () => settle(signal?.reason);
      signal?.addEventListener("abort", abort);
      try {
        for (;;) {
          signal?.throwIfAborted();
          yield* items.splice(0);
          if (items.length > 0) continue;
          if (ended) break;
          if (socket.isPaused()) socket.resume();
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        if (failure !== undefined) throw failure;
      } finally {
        signal?.removeEventListener("abort", abort);
        cancel(id);
        socket.resume();
      }
    },
    async close() {
      end(new OrchestratorError("unreachable", "the connection was closed"));
    },
  };
}

/** Whether the connection ended before an answer: the operation may or may not have happened. */
export function isLost(error: unknown): boolean {
  return error instanceof OrchestratorError && error.details["lost"] === true;
}

function lost(path: string, cause?: unknown): OrchestratorError {
  return new OrchestratorError("unreachable", "the controller went away before it answered", {
    retryable: true,
    details: { lost: true, path },
    cause,
  });
}

function silent(path: string, ms: number): OrchestratorError {
  return new OrchestratorError(
    "unreachable",
    `the controller took the connection and has been silent for ${ms / 1000} s`,
    {
      hint: "its log is controller.log in the orchestrator's folder; runs are not harmed by its restart",
      retryable: true,
      details: { path },
    },
  );
}

function cannotConnect(path: string, error: NodeJS.ErrnoException): OrchestratorError {
  const denied = error.code === "EACCES" || error.code === "EPERM";
  return new OrchestratorError(
    denied ? "forbidden" : "unreachable",
    denied
      ? `the controller's socket ${path} belongs to another user`
      : `the controller's socket ${path} cannot be reached (${error.code ?? error.message})`,
    { retryable: !denied, details: { path }, cause: error },
  );
}
