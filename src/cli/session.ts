import { OrchestratorError } from "../domain/errors.ts";
import { connectController, isLost, type Client } from "../operations/client.ts";
import type { Context } from "./context.ts";

/**
 * Where a command's operations run. `store`: at the controller if one answers, else in this process. `controller`: one
 * is started when none answers. `brief`: the same, and one that is started for it ends soon after when nothing goes on. `running`: only at
 * a controller that is there already.
 */
export type Reach = "store" | "controller" | "brief" | "running";

export interface Session {
  /**
   * Performs an operation. A `repeatable` one (a read, or one with a request id) is sent again, to a controller that is
   * there by then, when the connection ended before the answer.
   */
  call(op: string, input: object, options?: CallOptions): Promise<unknown>;
  /** As `Client.stream`; a lost connection ends it with an error that `isLost` tells. */
  stream(op: string, input: object, signal?: AbortSignal): AsyncIterable<unknown>;
  close(): Promise<void>;
}

export interface CallOptions {
  readonly repeatable?: boolean;
  readonly signal?: AbortSignal;
}

const TRIES = 3;

/** Opens nothing by itself: the first operation does. */
export function openSession(context: Context, reach: Reach): Session {
  let opened: Promise<Client> | undefined;
  const client = () => (opened ??= openClient(context, reach));
  const forget = async () => {
    const former = opened;
    opened = undefined;
    await (await former?.catch(() => undefined))?.close();
  };
  return {
    async call(op, input, { repeatable = false, signal } = {}) {
      for (let tries = 1; ; tries += 1) {
        try {
          return await (await client()).call(op, input, signal);
        } catch (error) {
          if (!isLost(error)) throw error;
          await forget();
          if (!repeatable) throw unknownOutcome(op, error);
          if (tries === TRIES) throw error;
        }
      }
    },
    async *stream(op, input, signal) {
      try {
        yield* (await client()).stream(op, input, signal);
      } catch (error) {
        if (isLost(error)) await forget();
        throw error;
      }
    },
    close: forget,
  };
}

/** Performs one operation and closes. */
export async function performAt(
  context: Context,
  reach: Reach,
  op: string,
  input: object,
  options: CallOptions = {},
): Promise<unknown> {
  const session = openSession(context, reach);
  try {
    return await session.call(op, input, options);
  } finally {
    await session.close();
  }
}

async function openClient(context: Context, reach: Reach): Promise<Client> {
  const running = await connectTo(context);
  if (running !== undefined) return running;
  switch (reach) {
    case "store":
      return context.openInProcess();
    case "running":
      throw new OrchestratorError("unreachable", "no controller is running", {
        hint: "'orchestrator serve' starts one; so does any command that needs it",
        details: { path: context.paths.socket },
      });
    case "controller":
    case "brief": {
      const { startController } = await import("./start-controller.ts");
      return startController(context, { isBrief: reach === "brief" });
    }
  }
}

/** The controller that answers at our socket, if one does. */
export function connectTo(context: Context): Promise<Client | undefined> {
  return connectController({
    path: context.paths.socket,
    version: context.version,
    ...(context.silentMs === undefined ? {} : { silentMs: context.silentMs }),
  });
}

function unknownOutcome(op: string, cause: unknown): OrchestratorError {
  return new OrchestratorError(
    "unreachable",
    `the controller went away before it answered: '${op}' may or may not have happened`,
    { hint: "'orchestrator status' shows what is so", cause, details: { operation: op } },
  );
}
