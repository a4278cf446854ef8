import { OrchestratorError } from "../domain/errors.ts";
import type { Tx } from "../store/store.ts";
import { intendFollowUp } from "./intend.ts";
import type { DispatchContext } from "./context.ts";
import { keptOf } from "./kept.ts";
import { insertMessage } from "./messages.ts";
import { proveOver } from "./prove-over.ts";
import { evidenceOf, messageOf, type Run } from "./runs.ts";

const GO_ON = "Go on with the task.";

/**
 * Continues a blocked run's conversation: the former process is proven over, then the intent of a new launch carries what the agent does not have, and
 * the text. Of several that do so at once one moves the run; the others get `lease_stale` and have changed nothing.
 */
export async function continueRun(
  context: DispatchContext,
  run: Run,
  text: string | undefined,
): Promise<Run> {
  const { store } = context.fleet;
  const last = await messageOf(store.db, run.run_id, run.launch);
  const over = await proveOver(context, run, { graceMs: 5_000 });
  if (over.kind !== "over") {
    throw new OrchestratorError(
      "needs_person",
      `the agent of run ${run.run_id} could not be stopped`,
      { details: { pids: over.pids } },
    );
  }
  context.fleet.failpoint("before-continue");
  const { conversation, lost } = await keptOf(context, run);
  // What the agent does not have goes first; what is said now follows it.
  const missing = lost.map(({ body }) => body);
  if (last !== undefined && last.receipt !== "accepted") missing.push(last.body);
  const [first = GO_ON, ...rest] = text === undefined ? missing : [...missing, text];
  const { value } = await store.mutate(async (tx) => {
    for (const { seq } of lost) {
      const payload = { seq, reason: "the agent was ended before it had written it down" };
      tx.event({ kind: "run.message_lost", repo: run.repo, run_id: run.run_id, payload });
    }
    const seq = await insertMessage(tx, run.run_id, first);
    for (const body of rest) await insertMessage(tx, run.run_id, body);
    const from = conversation ? run : await beginAnew(tx, context, run);
    return intendFollowUp(tx, from, seq);
  });
  return value;
}

/** Gives the run a conversation of its own: the one it had is not there any more. */
async function beginAnew(tx: Tx, context: DispatchContext, run: Run): Promise<Run> {
  const evidence = { ...evidenceOf(run), prompts: [], transcriptPath: null };
  return tx.db
    .updateTable("runs")
    .set({
      runtime_session_id: context.fleet.ids.uuid(),
      evidence: JSON.stringify(evidence),
    })
    .where("run_id", "=", run.run_id)
    .returningAll()
    .executeTakeFirstOrThrow();
}
