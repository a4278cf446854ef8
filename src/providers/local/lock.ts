import { createHash } from "node:crypto";
import { type Server, createServer } from "node:net";

import type { Clock } from "../../platform/clock.ts";
import { ProviderError } from "../provider-error.ts";
import { errorCode } from "./folder.ts";

const RETRY_MS = 5;
const WAIT_MS = 15_000;

/**
 * A lock between processes on one machine that the kernel frees when its holder dies: a listening socket in Linux's
 * abstract namespace. Undefined when somebody else holds it.
 */
export async function tryLock(root: string, name: string): Promise<AsyncDisposable | undefined> {
  const key = createHash("sha256").update(`${root}\0${name}`).digest("hex").slice(0, 40);
  const server = createServer((connection) => connection.destroy());
  try {
    await listen(server, `\0sprite-orchestrator-${key}`);
  } catch (error) {
    if (errorCode(error) === "EADDRINUSE") return undefined;
    throw new ProviderError("unavailable", `the lock of local worker ${name} cannot be taken`, {
      cause: error,
    });
  }
  return {
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** Waits for the lock, up to 15 s; then `unavailable`. */
export async function lock(root: string, name: string, clock: Clock): Promise<AsyncDisposable> {
  const deadline = clock.monotonic() + WAIT_MS;
  for (;;) {
    const held = await tryLock(root, name);
    if (held !== undefined) return held;
    if (clock.monotonic() > deadline) {
      throw new ProviderError(
        "unavailable",
        `local worker ${name} is held by another controller for more than ${WAIT_MS} ms`,
      );
    }
    await clock.sleep(RETRY_MS);
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ path }, resolve);
  });
}
