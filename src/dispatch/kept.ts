import { runtimeOf } from "../fleet/context.ts";
import type { DispatchContext } from "./context.ts";
import { encodeMessage, placeOf } from "./launch.ts";
import { evidenceOf, type Message, type Run } from "./runs.ts";
import { readTranscript } from "./usage.ts";

/** What an agent that is over still has of a run's messages. */
export interface Kept {
  /** There is a conversation that can be continued. */
  readonly conversation: boolean;
  /** Messages that were delivered and are in no record of the agent's, oldest first: it must be given them again. */
  readonly lost: readonly Message[];
}

/**
 * Compares the run's delivered messages with the agent's own record, once its process is proven over: a program that is killed right after it took
 * a prompt has not written it down yet, and then even its conversation does not exist.
 */
export async function keptOf(context: DispatchContext, run: Run): Promise<Kept> {
  const { fleet, connections } = context;
  const evidence = evidenceOf(run);
  const delivered = await fleet.store.db
    .selectFrom("messages")
    .selectAll()
    .where("run_id", "=", run.run_id)
    .where("receipt", "=", "accepted")
    .orderBy("seq")
    .execute();
  const isOther = evidence.runtimeSessionId !== run.runtime_session_id;
  // Of a conversation that a person began beside ours nothing can be concluded about ours.
  if (run.worker_id === null || evidence.transcriptPath === null || isOther) {
    return { conversation: delivered.length > 0 || run.resumes !== null, lost: [] };
  }
  const transport = await connections.reach(run.worker_id);
  const transcript = await readTranscript(context, run, transport);
  const prompts = transcript === null ? [] : runtimeOf(fleet, run.runtime).prompts(transcript);
  const known = new Set(prompts);
  const { home } = placeOf(run);
  const isLost = (message: Message) => {
    const encoding = encodeMessage(context, run, message, home);
    return encoding.kind === "encoded" && !known.has(encoding.message.sent);
  };
  const inQuestion =
    prompts.length === 0 ? delivered : delivered.filter(({ launch }) => launch === run.launch);
  return { conversation: prompts.length > 0, lost: inQuestion.filter(isLost) };
}
