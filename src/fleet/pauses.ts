import { createHash } from "node:crypto";
import type { Selectable } from "kysely";
import type { RunId } from "../domain/ids.ts";
import type { Ids } from "../platform/ids.ts";
import type { PoolPausesTable } from "../store/schema.ts";
import type { Db, Tx } from "../store/store.ts";
import { cleanTail, tellingLines } from "./failure-text.ts";
import type { Worker } from "./workers.ts";

/*
 * A pool whose set-up fails alike on two workers would fail on each that follows: it takes no new tasks until the operator says so, or a worker of it
 * was set up after all. A pause is one row and one `pool.paused` event, whatever number of runs and workers failed.
 */

export type Pause = Readonly<Selectable<PoolPausesTable>>;

/** So many different workers must have failed alike. */
const WORKERS_ALIKE = 2;

export interface SetupFailure {
  readonly step: string;
  readonly code: number;
  readonly tail: readonly string[];
  /** What people are told of it. */
  readonly reason: string;
  /** Commit of the base branch; null when the clone was not made. */
  readonly base: string | null;
  /** The configured set-up script. */
  readonly setup: string;
}

export async function openPause(db: Db, repo: string): Promise<Pause | undefined> {
  return db
    .selectFrom("pool_pauses")
    .selectAll()
    .where("repo", "=", repo)
    .where("resumed_at", "is", null)
    .executeTakeFirst();
}

export async function openPauses(db: Db): Promise<Pause[]> {
  return db
    .selectFrom("pool_pauses")
    .selectAll()
    .where("resumed_at", "is", null)
    .orderBy("repo")
    .execute();
}

/** Records that a worker's set-up failed for good; the second worker that fails alike pauses the pool. */
export async function noteSetupFailure(
  tx: Tx,
  ids: Ids,
  worker: Pick<Worker, "worker_id" | "repo" | "name">,
  failure: SetupFailure,
  runId: RunId | undefined,
): Promise<void> {
  const { repo } = worker;
  const signature = signatureOf(failure);
  const { reason } = failure;
  await tx.db
    .insertInto("setup_failures")
    .values({ repo, worker_id: worker.worker_id, signature, reason, at: tx.now })
    .onConflict((conflict) =>
      conflict.columns(["repo", "worker_id", "signature"]).doUpdateSet({ reason, at: tx.now }),
    )
    .execute();
  if ((await openPause(tx.db, repo)) !== undefined) return;
  const alike = await tx.db
    .selectFrom("setup_failures")
    .innerJoin("workers", "workers.worker_id", "setup_failures.worker_id")
    .select("workers.name")
    .where("setup_failures.repo", "=", repo)
    .where("signature", "=", signature)
    .orderBy("workers.number")
    .execute();
  if (alike.length < WORKERS_ALIKE) return;
  const names = alike.map(({ name }) => name).join(" and ");
  await pausePool(tx, ids, repo, {
    cause: "setup",
    reason: `set-up failed alike on ${names}: ${reason}`,
    signature,
    base: failure.base,
    setup: failure.setup,
    runId,
  });
}

/** A worker was made ready from its clone on: what failed before is mended. */
export async function noteSetupSuccess(
  tx: Tx,
  worker: Pick<Worker, "repo" | "name">,
): Promise<void> {
  await forgetFailures(tx, worker.repo);
  const pause = await openPause(tx.db, worker.repo);
  if (pause?.cause !== "setup") return;
  await resumePool(tx, pause, `${worker.name} was set up`);
}

export async function pausePool(
  tx: Tx,
  ids: Ids,
  repo: string,
  pause: Pick<Pause, "cause" | "reason" | "signature" | "base" | "setup"> & {
    readonly runId?: RunId | undefined;
  },
): Promise<Pause> {
  const { runId, ...row } = pause;
  const inserted = await tx.db
    .insertInto("pool_pauses")
    .values({
      pause_id: ids.next("pause"),
      repo,
      ...row,
      created_at: tx.now,
      resumed_at: null,
      resumed_because: null,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
  tx.event({
    kind: "pool.paused",
    repo,
    run_id: runId,
    payload: { pause_id: inserted.pause_id, cause: row.cause, reason: row.reason },
  });
  return inserted;
}

export async function resumePool(tx: Tx, pause: Pause, because: string): Promise<void> {
  await forgetFailures(tx, pause.repo);
  await tx.db
    .updateTable("pool_pauses")
    .set({ resumed_at: tx.now, resumed_because: because })
    .where("pause_id", "=", pause.pause_id)
    .execute();
  tx.event({
    kind: "pool.resumed",
    repo: pause.repo,
    payload: { pause_id: pause.pause_id, because },
  });
}

/** The pause stands for this base from now on: it failed there, too. */
export async function notePauseBase(tx: Tx, pause: Pause, base: string): Promise<void> {
  await tx.db
    .updateTable("pool_pauses")
    .set({ base })
    .where("pause_id", "=", pause.pause_id)
    .execute();
}

export const whyPaused = ({ repo, reason }: Pause): string => `pool ${repo} is paused: ${reason}`;

async function forgetFailures(tx: Tx, repo: string): Promise<void> {
  await tx.db.deleteFrom("setup_failures").where("repo", "=", repo).execute();
}

/** The same for failures that differ only in times, sizes, paths, ids and the worker's number. Pure. */
export function signatureOf({
  step,
  code,
  tail,
}: Pick<SetupFailure, "step" | "code" | "tail">): string {
  const lines = tellingLines(cleanTail(tail)).map(normalise);
  return createHash("sha256")
    .update(JSON.stringify([step, code, lines]))
    .digest("hex");
}

function normalise(line: string): string {
  return line
    .replaceAll(/(?:~|(?:\/[\w.@+-]+)+)\/(?=[\w.@+-])/g, "/")
    .replaceAll(/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/gi, "#")
    .replaceAll(/\b[0-9a-f]{7,64}\b/gi, "#")
    .replaceAll(/\b(?=\w*\d)\w{6,}\b/g, "#")
    .replaceAll(/\d+/g, "#");
}
