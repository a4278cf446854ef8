import type { StatusVerdict } from "../domain/status.ts";
import { isTerminal } from "../domain/run.ts";
import { cleanText } from "../domain/text.ts";
import { runtimeOf } from "../fleet/context.ts";
import { findWorker } from "../fleet/workers.ts";
import type { FollowedLine } from "../provisioner/provisioner.ts";
import type { Evidence } from "../runtimes/evidence.ts";
import { foldSignals } from "../runtimes/fold.ts";
import { parseLine, payloadFileOf } from "../runtimes/parse-line.ts";
import { isDelivered } from "../runtimes/proof.ts";
import type { WorkerLine } from "../runtimes/signal.ts";
import type { Db, Tx } from "../store/store.ts";
import type { Transport } from "../transport/transport.ts";
import type { DispatchContext } from "./context.ts";
import { evidenceOf, findRun, messageOf, moveRun, type Run } from "./runs.ts";
import { statusOf } from "./status.ts";
import { noteWork } from "./watch-work.ts";

const MAX_BATCH = 500;

/** What a follower tells the run's supervisor. */
export interface FollowNews {
  /** Something was stored. */
  changed(): void;
  /** The status that people were shown last; kept by the supervisor. */
  shown: StatusVerdict | undefined;
  /** We are stopping the agent ourselves: that it ends is no news. */
  quiet: boolean;
}

/**
 * Follows one run's events over the kept connection until it breaks or the signal aborts. Each line is folded into the stored evidence
 * exactly once: evidence and place are written in one transaction. Proof of delivery moves the run in that same transaction.
 */
export async function followRun(
  context: DispatchContext,
  run: Run,
  transport: Transport,
  news: FollowNews,
  signal: AbortSignal,
): Promise<void> {
  await using follow = await context.fleet.provisioner.follow(transport, {
    run: run.run_id,
    file: run.follow_generation,
    offset: run.follow_offset,
    signal,
  });
  let offset = follow.file === run.follow_generation ? run.follow_offset : 0;
  for await (const batch of batches(follow.lines)) {
    const lines = await Promise.all(
      batch.map((line) => readLine(context, run, line.text, transport)),
    );
    const last = batch.at(-1);
    if (last === undefined) continue;
    const more = await store(context, run, news, {
      file: follow.file,
      from: offset,
      to: last.offset,
      lines: lines.filter((line) => line !== null),
    });
    context.fleet.failpoint("after-fold");
    offset = last.offset;
    news.changed();
    if (!more) return;
  }
}

/** Takes what has arrived while the former batch was written, so that a burst costs few commits. */
async function* batches(lines: AsyncIterable<FollowedLine>): AsyncGenerator<FollowedLine[]> {
  const iterator = lines[Symbol.asyncIterator]();
  let pending = iterator.next();
  // Observed here so that a rejection while a batch is being written is never unhandled.
  pending.catch(() => {});
  try {
    while (true) {
      const first = await pending;
      if (first.done === true) return;
      const batch = [first.value];
      pending = iterator.next();
      pending.catch(() => {});
      while (batch.length < MAX_BATCH) {
        const next = await Promise.race([pending, Promise.resolve(undefined)]);
        if (next === undefined || next.done === true) break;
        batch.push(next.value);
        pending = iterator.next();
        pending.catch(() => {});
      }
      yield batch;
    }
  } finally {
    await iterator.return?.();
  }
}

async function readLine(
  context: DispatchContext,
  run: Run,
  raw: string,
  transport: Transport,
): Promise<WorkerLine | null> {
  const file = payloadFileOf(raw);
  if (file === null) return parseLine(raw);
  const text = await context.fleet.provisioner.payload(transport, run.run_id, file.name);
  return parseLine(raw, text);
}

async function store(
  context: DispatchContext,
  followed: Run,
  news: FollowNews,
  input: { file: string; from: number; to: number; lines: readonly WorkerLine[] },
): Promise<boolean> {
  // Worker facts do not bump the board's revision; a delivery that moves the run does.
  const { state } = await findRun(context.fleet.store.db, followed.run_id);
  const { value } = await context.fleet.store.mutate(
    async (tx) => {
      const run = await findRun(tx.db, followed.run_id);
      const place = run.follow_generation === input.file ? run.follow_offset : 0;
      if (place !== input.from || isTerminal(run.state)) return false;
      const ours = input.lines.filter(
        (line) => line.run === run.run_id && line.launch <= run.launch,
      );
      const evidence = await fold(tx, context, run, ours);
      noteWork(tx, run, ours);
      const updated: Run = { ...run, evidence: JSON.stringify(evidence) };
      await tx.db
        .updateTable("runs")
        .set({ evidence: updated.evidence, follow_generation: input.file, follow_offset: input.to })
        .where("run_id", "=", run.run_id)
        .execute();
      const moved = await settleDelivery(tx, context, updated, evidence);
      await noteStatus(tx, moved, news, "up");
      return true;
    },
    { quiet: state === "active" },
  );
  return value;
}

async function fold(
  tx: Tx,
  context: DispatchContext,
  run: Run,
  ours: readonly WorkerLine[],
): Promise<Evidence> {
  const runtime = runtimeOf(context.fleet, run.runtime);
  const sent = await tx.db
    .selectFrom("messages")
    .select("sent_hash")
    .where("run_id", "=", run.run_id)
    .execute();
  const ownHashes = new Set(
    sent.flatMap(({ sent_hash }) => (sent_hash === null ? [] : [sent_hash])),
  );
  // Lines that waited for a connection are as old as their distance to the newest of them says.
  const newest = Math.max(...ours.map((line) => line.up));
  return ours.reduce(
    (evidence, line) =>
      foldSignals(evidence, runtime.signals(line), {
        at: tx.now - Math.max(0, newest - line.up),
        up: line.up,
        launch: line.launch,
        ownHashes,
      }),
    evidenceOf(run),
  );
}

/** The message of the latest launch counts as delivered only when the agent's own hook showed it. */
async function settleDelivery(
  tx: Tx,
  context: DispatchContext,
  run: Run,
  evidence: Evidence,
): Promise<Run> {
  const message = await messageOf(tx.db, run.run_id, run.launch);
  if (message?.sent_hash == null || message.sent_bytes === null || message.receipt === "accepted")
    return run;
  const proof = { hash: message.sent_hash, bytes: message.sent_bytes, launch: run.launch };
  if (!isDelivered(evidence, proof)) return run;
  await tx.db
    .updateTable("messages")
    .set({ receipt: "accepted", confirmed_at: tx.now, detail: null })
    .where("run_id", "=", run.run_id)
    .where("seq", "=", message.seq)
    .execute();
  const payload = {
    receipt: "accepted",
    seq: message.seq,
    form: message.form,
    bytes: message.sent_bytes,
    launch: run.launch,
    ms: Math.max(0, tx.now - run.created_at),
  };
  if (run.state === "launched" || run.state === "blocked") {
    return moveRun(tx, run, "prompt_seen", {
      patch: { reason: null },
      kind: "run.delivered",
      payload,
    });
  }
  tx.event({
    kind: "run.delivered",
    repo: run.repo,
    run_id: run.run_id,
    worker_id: run.worker_id ?? undefined,
    payload,
  });
  return run;
}

/** The status of a run as stored now, with what its worker's row says of the provider. */
export async function currentStatus(
  db: Db,
  run: Run,
  context: { now: number; connection: "up" | "down" },
): Promise<StatusVerdict> {
  const worker = run.worker_id === null ? null : await findWorker(db, run.worker_id);
  return statusOf(run, { ...context, provider: worker?.provider_state ?? null });
}

/** Whether people would be shown something new: status or reason, never mere age. */
export function isNews(news: FollowNews, verdict: StatusVerdict): boolean {
  return news.shown?.status !== verdict.status || news.shown.reason !== verdict.reason;
}

/** Appends `run.status` when it is news. */
export async function noteStatus(
  tx: Tx,
  run: Run,
  news: FollowNews,
  connection: "up" | "down",
): Promise<void> {
  const verdict = await currentStatus(tx.db, run, { now: tx.now, connection });
  if (news.quiet || !isNews(news, verdict)) return;
  news.shown = verdict;
  tx.event({
    kind: "run.status",
    repo: run.repo,
    run_id: run.run_id,
    worker_id: run.worker_id ?? undefined,
    payload: {
      status: verdict.status,
      reason: cleanText(verdict.reason, 200),
      source: verdict.source,
      age_ms: verdict.ageMs,
    },
  });
}
