import { cleanText } from "../domain/text.ts";
import { isTerminal } from "../domain/run.ts";
import type { FleetContext } from "../fleet/context.ts";
import type { Service } from "../platform/start-stop.ts";
import { clampEvidence } from "../runtimes/clamp.ts";
import type { Store, Tx } from "../store/store.ts";
import { BUSY_MS, LONGEST_WAIT_MS } from "./drive-ends.ts";
import { evidenceOf, type Run } from "./runs.ts";

/*
 * Wall time is for people, but is stored, and compared with later: a run waits until a time, a worker counts as busy until one, an agent is
 * unheard since one. When the machine's clock goes back, all that was stored lies in the future, and would hold things up, or look fresh,
 * until the clock has caught up. So what lies in the future is set to the present: every wait lasts at most once more as long.
 */

const LOOK_EVERY_MS = 1_000;

/**
 * Sets stored times that lie in the future to the present, in this transaction; says how far the farthest lay ahead. Idempotent. The clock
 * went back within the last `withinMs`: runs of that time came after those whose times are set.
 */
export async function settleClock(tx: Tx, withinMs: number): Promise<number> {
  const ahead = Math.max(await settleRuns(tx, withinMs), await settleWorkers(tx));
  if (ahead > 0) tx.event({ kind: "clock.went_back", payload: { by_ms: ahead } });
  return ahead;
}

async function settleRuns(tx: Tx, withinMs: number): Promise<number> {
  const { db, now } = tx;
  const runs = await db
    .selectFrom("runs")
    .selectAll()
    .where((where) =>
      where.or([
        // What still goes on holds times in JSON, too.
        where("state", "not in", ["completed", "failed", "cancelled", "abandoned"]),
        where("created_at", ">", now),
        where("finished_at", ">", now),
      ]),
    )
    .orderBy("created_at")
    .orderBy("run_id")
    .execute();
  let ahead = 0;
  const late = runs.filter((run) => run.created_at > now).map((run) => run.run_id);
  for (const run of runs) {
    // In the order in which they came: the queue and "the latest" go by it.
    const place = late.indexOf(run.run_id);
    const changed = {
      ...(place < 0 ? {} : { created_at: now - withinMs - late.length + place }),
      ...pastTimes(run, now),
    };
    if (Object.keys(changed).length === 0) continue;
    ahead = Math.max(ahead, farthest(run, now));
    await db.updateTable("runs").set(changed).where("run_id", "=", run.run_id).execute();
  }
  await db.updateTable("messages").set({ created_at: now }).where("created_at", ">", now).execute();
  return ahead;
}

type RunTimes = Partial<
  Pick<Run, "updated_at" | "started_at" | "finished_at" | "launched_at" | "not_before" | "evidence">
>;

function pastTimes(run: Run, now: number): RunTimes {
  const changed: { -readonly [K in keyof RunTimes]: RunTimes[K] } = {};
  if (run.updated_at > now) changed.updated_at = now;
  if ((run.started_at ?? 0) > now) changed.started_at = now;
  if ((run.finished_at ?? 0) > now) changed.finished_at = now;
  if ((run.launched_at ?? 0) > now) changed.launched_at = now;
  // Longer than any wait that is ever given: it was given before the clock went back.
  if ((run.not_before ?? 0) > now + LONGEST_WAIT_MS) changed.not_before = now;
  if (!isTerminal(run.state)) {
    const known = evidenceOf(run);
    const evidence = clampEvidence(known, now);
    if (evidence !== known) changed.evidence = JSON.stringify(evidence);
  }
  return changed;
}

const farthest = (run: Run, now: number): number =>
  Math.max(run.created_at, run.updated_at, run.finished_at ?? 0, evidenceOf(run).lastAt ?? 0) - now;

async function settleWorkers(tx: Tx): Promise<number> {
  const { db, now } = tx;
  const workers = await db
    .selectFrom("workers")
    .select(["worker_id", "updated_at"])
    .where("updated_at", ">", now)
    .execute();
  await db
    .updateTable("workers")
    .set({ busy_until: now })
    .where("busy_until", ">", now + BUSY_MS)
    .execute();
  await db
    .updateTable("workers")
    .set({ provider_state_at: now })
    .where("provider_state_at", ">", now)
    .execute();
  await db.updateTable("workers").set({ updated_at: now }).where("updated_at", ">", now).execute();
  return Math.max(0, ...workers.map((worker) => worker.updated_at - now));
}

/** Settles the store's times when it starts and whenever the wall clock has gone back. */
export class ClockWatch implements Service {
  readonly #context: Pick<FleetContext, "clock" | "logger"> & { readonly store: Store };
  readonly #stopping = new AbortController();
  #wall = 0;
  #monotonic = 0;
  #done: Promise<void> | undefined;

  constructor(context: Pick<FleetContext, "clock" | "logger"> & { readonly store: Store }) {
    this.#context = context;
  }

  async start(): Promise<void> {
    await this.#settle(0);
    this.#look();
    this.#done ??= this.#watch(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("stopping"));
    await this.#done;
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#context;
    while (!signal.aborted) {
      await clock.sleep(LOOK_EVERY_MS, signal).catch(() => {});
      if (signal.aborted) return;
      try {
        if (clock.now() < this.#wall) await this.#settle(clock.monotonic() - this.#monotonic);
        this.#look();
      } catch (error) {
        // Tried again in a second: what it is compared with stays.
        const message = cleanText(error instanceof Error ? error.message : String(error), 300);
        logger.warn("clock.not_settled", { error: message });
      }
    }
  }

  #look(): void {
    const { clock } = this.#context;
    this.#wall = clock.now();
    this.#monotonic = clock.monotonic();
  }

  async #settle(withinMs: number): Promise<void> {
    const { store, logger } = this.#context;
    const { value: ahead } = await store.mutate((tx) => settleClock(tx, Math.ceil(withinMs)), {
      quiet: true,
    });
    if (ahead > 0) logger.warn("clock.went_back", { by_ms: ahead });
  }
}
