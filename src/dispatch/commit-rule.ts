import { runtimeOf } from "../fleet/context.ts";
import type { DispatchContext } from "./context.ts";
import { insertMessage } from "./messages.ts";
import { evidenceOf, type Run } from "./runs.ts";
import { commitRuleMinutes } from "./watch-work.ts";

/** What an agent whose turn ended with overdue work is told, once a run. */
const NUDGE =
  "Your work has not been committed for a while. Commit what is worth keeping now, in small commits with clear messages. " +
  "Leave out secrets and build output. If the task says not to commit, end your turn and say so.";

/** The commit rule as a standing instruction; null where there is none. */
export function commitInstructions(context: DispatchContext, run: Run): string | null {
  const minutes = commitRuleMinutes(context, run);
  if (minutes === 0) return null;
  return (
    `Commit your work at least every ${minutes} minutes and before you end your turn, in small commits with clear messages, ` +
    "unless the task says otherwise. Never commit secrets. Work that stays without a commit for longer is reported."
  );
}

/**
 * Asks the agent to commit when its turn has ended with work that is overdue, as one more message of the conversation. Only then: an agent
 * at work is not interrupted, and nothing is typed. Once a run; the work is looked at on the worker right before. True when it was asked.
 */
export async function nudgeToCommit(context: DispatchContext, run: Run): Promise<boolean> {
  const { store, config, provisioner } = context.fleet;
  const isWanted =
    evidenceOf(run).commitOverdueAt !== null &&
    commitRuleMinutes(context, run) > 0 &&
    config().repos[run.repo]?.commitRule.nudge === true &&
    runtimeOf(context.fleet, run.runtime).capabilities.resumes;
  if (!isWanted || run.worker_id === null) return false;
  const asked = await store.db
    .selectFrom("messages")
    .select("seq")
    .where("run_id", "=", run.run_id)
    .where("body", "=", NUDGE)
    .executeTakeFirst();
  if (asked !== undefined) return false;
  const transport = await context.connections.reach(run.worker_id);
  if (!(await provisioner.uncommitted(transport, run.repo))) return false;
  await store.mutate(async (tx) => {
    const seq = await insertMessage(tx, run.run_id, NUDGE);
    tx.event({
      kind: "run.commit_asked",
      repo: run.repo,
      run_id: run.run_id,
      worker_id: run.worker_id ?? undefined,
      payload: { seq },
    });
  });
  return true;
}
