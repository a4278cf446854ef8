import type { Selectable } from "kysely";
import type { RunId } from "../domain/ids.ts";
import { cleanText } from "../domain/text.ts";
import type { VerifyRoundsTable } from "../store/schema.ts";
import type { Db, Store, Tx } from "../store/store.ts";
import type { Run } from "./runs.ts";

/*
 * A round of `verify` belongs to one launch's turn. Its row comes before its command runs, so that a controller which was killed finds it and
 * goes on with the same job; its end is written together with what follows from it.
 */

export type Round = Readonly<Selectable<VerifyRoundsTable>>;

export async function roundOf(db: Db, runId: RunId, launch: number): Promise<Round | undefined> {
  return db
    .selectFrom("verify_rounds")
    .selectAll()
    .where("run_id", "=", runId)
    .where("launch", "=", launch)
    .executeTakeFirst();
}

/** How many rounds went back to the agent. */
export async function handedBack(db: Db, runId: RunId): Promise<number> {
  const { count } = await db
    .selectFrom("verify_rounds")
    .select((select) => select.fn.count<number>("round").as("count"))
    .where("run_id", "=", runId)
    .where("message_seq", "is not", null)
    .executeTakeFirstOrThrow();
  return count;
}

export async function beginRound(
  store: Store,
  run: Run,
  command: string,
  most: number,
): Promise<Round> {
  const { value } = await store.mutate(
    async (tx) => {
      const last = await tx.db
        .selectFrom("verify_rounds")
        .select((select) => select.fn.max("round").as("round"))
        .where("run_id", "=", run.run_id)
        .executeTakeFirst();
      const row: Round = {
        run_id: run.run_id,
        round: (last?.round ?? 0) + 1,
        launch: run.launch,
        tries: 1,
        command,
        state: "running",
        exit_code: null,
        tail: "[]",
        message_seq: null,
        started_at: tx.now,
        ended_at: null,
      };
      await tx.db.insertInto("verify_rounds").values(row).execute();
      tx.event({
        kind: "run.verifying",
        repo: run.repo,
        run_id: run.run_id,
        worker_id: run.worker_id ?? undefined,
        payload: { round: row.round, rounds: most, command: cleanText(command, 300) },
      });
      return row;
    },
    { quiet: true },
  );
  return value;
}

export async function raiseTries(store: Store, round: Round): Promise<void> {
  await store.mutate(
    (tx) =>
      tx.db
        .updateTable("verify_rounds")
        .set({ tries: round.tries + 1 })
        .where("run_id", "=", round.run_id)
        .where("round", "=", round.round)
        .where("tries", "=", round.tries)
        .execute(),
    { quiet: true },
  );
}

export async function endRound(
  tx: Tx,
  run: Run,
  round: Round,
  end: {
    readonly code: number | null;
    readonly tail: readonly string[];
    readonly seq: number | null;
    readonly left: number;
  },
): Promise<void> {
  const passed = end.code === 0;
  await tx.db
    .updateTable("verify_rounds")
    .set({
      state: passed ? "passed" : "failed",
      exit_code: end.code,
      tail: JSON.stringify(end.tail),
      message_seq: end.seq,
      ended_at: tx.now,
    })
    .where("run_id", "=", run.run_id)
    .where("round", "=", round.round)
    .execute();
  const payload = { round: round.round, ms: tx.now - round.started_at };
  tx.event({
    kind: passed ? "run.verified" : "run.verify_failed",
    repo: run.repo,
    run_id: run.run_id,
    worker_id: run.worker_id ?? undefined,
    payload: passed
      ? payload
      : {
          ...payload,
          code: end.code,
          tail: end.tail,
          seq: end.seq,
          rounds_left: end.seq === null ? 0 : Math.max(0, end.left),
        },
  });
}
