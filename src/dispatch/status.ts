import type { StatusVerdict } from "../domain/status.ts";
import type { ProviderState } from "../domain/worker.ts";
import { deriveStatus } from "../runtimes/derive-status.ts";
import { evidenceOf, type Run } from "./runs.ts";

/** The agent's status of a run now, derived from what is stored. */
export function statusOf(
  run: Run,
  context: { now: number; provider: ProviderState | null; connection?: "up" | "down" },
): StatusVerdict {
  return deriveStatus(evidenceOf(run), {
    now: context.now,
    runState: run.state,
    launchIntendedAt: run.launch === 0 ? null : (run.launched_at ?? run.updated_at),
    ...(run.launch === 0 ? {} : { launch: run.launch }),
    ...(context.provider === null ? {} : { provider: context.provider }),
    ...(context.connection === undefined ? {} : { connection: context.connection }),
  });
}
