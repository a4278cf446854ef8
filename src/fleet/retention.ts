import { isTerminal } from "../domain/run.ts";
import { asRunId, asWorkerId } from "../domain/ids.ts";
import { cleanText } from "../domain/text.ts";
import { Repeating } from "../platform/repeating.ts";
import type { FleetContext } from "./context.ts";
import { Mirror } from "./mirror.ts";
import { outdatedSnapshots } from "./snapshots.ts";

const LOOK_EVERY_MS = 3_600_000;
/** A controller that only answers one question has ended by then (ms). */
const FIRST_LOOK_MS = 60_000;

/**
 * Keeps the mirrors from growing for ever: forgets snapshots by each repo's `snapshots.keepDays` and `keepCount`, and says so in an event.
 * The last snapshot of a run stays while it may be the only copy of its work. A repo that is not configured any more keeps all.
 */
export class Retention extends Repeating {
  readonly #context: FleetContext;

  constructor(context: FleetContext) {
    super({ clock: context.clock, everyMs: LOOK_EVERY_MS, firstAfterMs: FIRST_LOOK_MS });
    this.#context = context;
  }

  async runOnce(): Promise<void> {
    for (const repo of Object.keys(this.#context.config().repos)) {
      await forgetOutdated(this.#context, repo).catch((error: unknown) => this.failed(error, repo));
    }
  }

  protected failed(error: unknown, repo = ""): void {
    const message = cleanText(error instanceof Error ? error.message : String(error), 300);
    this.#context.logger.warn("mirror.not_pruned", { repo, error: message });
  }
}

/** Forgets what the repo's rules do not keep; how many snapshots that were. */
export async function forgetOutdated(context: FleetContext, repo: string): Promise<number> {
  const rules = context.config().repos[repo]?.snapshots;
  if (rules === undefined) return 0;
  const mirror = new Mirror(context.mirrors, repo);
  const snapshots = await mirror.snapshots();
  const runs = new Set(snapshots.map(({ run }) => run));
  const onlyCopies = new Set<string>();
  for (const run of runs) if (await isOnlyCopy(context, run)) onlyCopies.add(run);
  const outdated = outdatedSnapshots(snapshots, {
    now: context.clock.now(),
    keepDays: rules.keepDays,
    keepCount: rules.keepCount,
    isOnlyCopy: (run) => onlyCopies.has(run),
  });
  if (outdated.length === 0) return 0;
  await mirror.forget(outdated);
  await context.store.mutate(
    async (tx) =>
      tx.event({
        kind: "mirror.pruned",
        repo,
        payload: {
          snapshots: outdated.length,
          runs: new Set(outdated.map(({ run }) => run)).size,
          oldest: outdated[0]?.number ?? null,
        },
      }),
    { quiet: true },
  );
  return outdated.length;
}

/**
 * Whether the run's last snapshot may be all there is of its work: it has not ended, its end was not saved, nobody knows it, or a worker
 * still has its clone, which is reset on the strength of this very snapshot.
 */
async function isOnlyCopy({ store }: FleetContext, run: string): Promise<boolean> {
  const worker = await store.db
    .selectFrom("workers")
    .select("worker_id")
    .where("allocation", "!=", "destroyed")
    .where((where) =>
      where.or([
        where("last_run_id", "=", asRunId(run)),
        where("worker_id", "=", asWorkerId(run.replace(/^worker-/, ""))),
      ]),
    )
    .executeTakeFirst();
  if (worker !== undefined) return true;
  const row = await store.db
    .selectFrom("runs")
    .select(["state", "unrescued"])
    .where("run_id", "=", asRunId(run))
    .executeTakeFirst();
  return row === undefined || !isTerminal(row.state) || row.unrescued === 1;
}
