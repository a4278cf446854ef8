import type { Tx } from "../store/store.ts";
import { moveRun, type Run } from "./runs.ts";

/** Commits the intent to launch again with this message; the state is as the table says (`active` stays, `blocked` resumes). */
export async function intendFollowUp(tx: Tx, run: Run, seq: number): Promise<Run> {
  const launch = run.launch + 1;
  await tx.db
    .updateTable("messages")
    .set({ launch })
    .where("run_id", "=", run.run_id)
    .where("seq", "=", seq)
    .execute();
  const event = run.state === "blocked" ? "resumed" : "launch_intended";
  return moveRun(tx, run, event, {
    patch: { launch, launched_at: tx.now, reason: null, limit_id: null, not_before: null },
    kind: "run.launched",
    payload: { launch, seq, runtime_session_id: run.runtime_session_id },
  });
}
