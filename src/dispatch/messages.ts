import type { RunId } from "../domain/ids.ts";
import type { Tx } from "../store/store.ts";

/** Adds a message that no launch carries yet; its number. */
export async function insertMessage(tx: Tx, runId: RunId, body: string): Promise<number> {
  const last = await tx.db
    .selectFrom("messages")
    .select((select) => select.fn.max("seq").as("seq"))
    .where("run_id", "=", runId)
    .executeTakeFirst();
  const seq = (last?.seq ?? 0) + 1;
  await tx.db
    .insertInto("messages")
    .values({
      run_id: runId,
      seq,
      body,
      sent_hash: null,
      sent_bytes: null,
      form: null,
      launch: null,
      receipt: "queued",
      detail: null,
      created_at: tx.now,
      confirmed_at: null,
    })
    .execute();
  return seq;
}
