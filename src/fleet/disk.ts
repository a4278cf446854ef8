import type { Transport } from "../transport/transport.ts";
import { TransportError } from "../transport/transport-error.ts";

const TIMEOUT_MS = 10_000;
/** With less than this nothing can be done on a worker (kB). */
const LEAST_KB = 1_024;

/** Free kB and free inodes of the file system of the home; what `df` cannot say is not said. */
const DF = `df -Pk . | tail -n 1
df -Pi . 2>/dev/null | tail -n 1`;

/**
 * Says that a worker's disk is full, when it is, looked up on it now: why its scripts fail then is in no message of theirs. Null when it is not,
 * or when that cannot be found out.
 */
export async function whyFull(transport: Transport, worker: string): Promise<string | null> {
  try {
    const { stdout } = await transport.script(DF, [], { timeoutMs: TIMEOUT_MS });
    return isFull(stdout) ? `${worker} has no room left on its disk` : null;
  } catch (error) {
    if (error instanceof TransportError) return null;
    throw error;
  }
}

/** Whether two lines of `df -P`, for blocks and for inodes, leave less than is needed. Pure. */
export function isFull(df: string): boolean {
  const [blocks, inodes] = df.split("\n").map((line) => {
    // The name of a device may hold blanks: the numbers are those before the percentage.
    const [, total, free] = /\s(\d+)\s+\d+\s+(-?\d+)\s+\d+%\s/.exec(line) ?? [];
    return total === undefined ? undefined : { total: Number(total), free: Number(free) };
  });
  if (blocks === undefined) return false;
  // Some file systems have no fixed number of inodes, and say that they have none.
  const lacksInodes = inodes !== undefined && inodes.total > 0 && inodes.free === 0;
  return blocks.free < LEAST_KB || lacksInodes;
}
