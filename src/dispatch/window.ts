import { windowStatus, type StatusVerdict } from "../domain/status.ts";
import { cleanText } from "../domain/text.ts";
import { sessionName } from "../fleet/context.ts";
import { TransportError } from "../transport/transport-error.ts";
import type { Transport } from "../transport/transport.ts";
import type { DispatchContext } from "./context.ts";
import type { Run } from "./runs.ts";

export interface Disagreement {
  readonly run: Run;
  /** What the window is called. */
  readonly shown: string;
  readonly verdict: StatusVerdict;
}

/**
 * Gives the agent's window the name that the derived status has, and records that it had another. Whoever calls it has made sure that the
 * disagreement is not just a change under way. False when the worker could not be told.
 */
export async function correctWindow(
  context: Pick<DispatchContext, "fleet">,
  transport: Transport,
  { run, shown, verdict }: Disagreement,
): Promise<boolean> {
  const { provisioner, store } = context.fleet;
  const wanted = windowStatus(verdict.status);
  if (wanted === undefined) return false;
  try {
    await provisioner.nameWindow(transport, sessionName(run.repo), wanted, verdict.reason);
  } catch (error) {
    if (error instanceof TransportError) return false;
    throw error;
  }
  await store.mutate(
    async (tx) =>
      tx.event({
        kind: "run.window_corrected",
        repo: run.repo,
        run_id: run.run_id,
        worker_id: run.worker_id ?? undefined,
        payload: { shown: cleanText(shown, 40), wanted: `agent:${wanted}`, reason: verdict.reason },
      }),
    { quiet: true },
  );
  return true;
}
