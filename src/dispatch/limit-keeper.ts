import type { RepoConfig } from "../config/config.ts";
import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import { accountOf } from "../fleet/account.ts";
import type { FleetContext, InspectedCredential } from "../fleet/context.ts";
import { noteSecret, openLimits, postponeLimit, probeLimit, type Limit } from "../fleet/limits.ts";
import { Repeating } from "../platform/repeating.ts";
import { hasAnswered } from "../runtimes/answered.ts";
import type { Runtime } from "../runtimes/runtime.ts";
import { accountOfRun, liftAndWake, waitingFor } from "./limited.ts";
import { evidenceOf, type Run } from "./runs.ts";

const LOOK_EVERY_MS = 1_000;
/** Reading a secret may run a command (ms). */
const SECRET_EVERY_MS = 15_000;
/** A probe that has not been launched by then gives way to another run (ms). */
const PROBE_STARTS_WITHIN_MS = 120_000;
/** A credential that the API refuses is asked about again after this time (ms), and ever more rarely. */
const REFUSED_AGAIN_MS = 60_000;

/**
 * Watches the open limits. When one's time has come, or another secret is there, its credential is checked and one run tries; an answer to any run that
 * was launched since the last hit lifts the limit. All it knows is in the store: a new controller goes on with it.
 */
export class LimitKeeper extends Repeating {
  readonly #fleet: FleetContext;
  /** When the secret behind a limit was read last (monotonic). */
  readonly #secretReadAt = new Map<string, number>();

  constructor(fleet: FleetContext) {
    super({ clock: fleet.clock, everyMs: LOOK_EVERY_MS });
    this.#fleet = fleet;
  }

  protected failed(error: unknown): void {
    const message = cleanText(error instanceof Error ? error.message : String(error), 300);
    this.#fleet.logger.warn("limits.failed", { error: message });
  }

  async runOnce(): Promise<void> {
    for (const limit of await openLimits(this.#fleet.store.db)) await this.#look(limit);
  }

  async #look(limit: Limit): Promise<void> {
    const { store, clock, ids, logger } = this.#fleet;
    const proof = await this.#answeredSince(limit);
    if (proof !== undefined) {
      await store.mutate((tx) => liftAndWake(tx, ids, limit, `${proof.run_id} was answered`));
      return;
    }
    if (await this.#noticeSecret(limit)) return;
    if (limit.state === "probing") return this.#watchProbe(limit);
    if (limit.check_at === null || limit.check_at > clock.now()) return;
    const checked = await this.#inspect(limit, true);
    const refused = checked?.answer === "refused";
    // A login that nobody can ask about is tried when its secret changes or the operator says so, never over and over.
    const waits = limit.kind === "credential" && checked?.answer === "undecided";
    if (refused || (waits && limit.secret_digest === checked.digest && limit.failures > 0)) {
      const again = refused
        ? clock.now() + REFUSED_AGAIN_MS * 2 ** Math.min(limit.failures, 6)
        : null;
      logger.info("limit.checked", { limit_id: limit.limit_id, answer: checked.answer });
      await store.mutate((tx) => postponeLimit(tx, limit, again), { quiet: true });
      return;
    }
    await this.#probe(limit, undefined);
  }

  /** A run of the account that was launched since the last hit, and that the API has answered. */
  async #answeredSince(limit: Limit): Promise<Run | undefined> {
    const runs = await this.#fleet.store.db
      .selectFrom("runs")
      .selectAll()
      .where("launched_at", ">", limit.hit_at)
      .orderBy("launched_at")
      .execute();
    return runs.find(
      (run) =>
        accountOfRun(this.#fleet, run)?.key === limit.account &&
        hasAnswered(evidenceOf(run), run.launch),
    );
  }

  /** True when another secret was found. */
  async #noticeSecret(limit: Limit): Promise<boolean> {
    const { clock, store } = this.#fleet;
    const readAt = this.#secretReadAt.get(limit.limit_id) ?? Number.NEGATIVE_INFINITY;
    if (clock.monotonic() - readAt < SECRET_EVERY_MS) return false;
    this.#secretReadAt.set(limit.limit_id, clock.monotonic());
    const found = await this.#inspect(limit, false);
    if (found?.digest == null || found.digest === limit.secret_digest) return false;
    const { digest } = found;
    await store.mutate((tx) => noteSecret(tx, limit, digest));
    return true;
  }

  async #inspect(limit: Limit, ask: boolean): Promise<InspectedCredential | undefined> {
    const { logger } = this.#fleet;
    const user = userOf(this.#fleet, limit.account);
    if (user === undefined) return undefined;
    try {
      return await this.#fleet.inspectCredential(user.repo, user.runtime, ask);
    } catch (error) {
      if (!(error instanceof OrchestratorError)) throw error;
      logger.info("limit.secret_unreadable", { limit_id: limit.limit_id, error: error.message });
      return undefined;
    }
  }

  /** The probe failed by meeting the limit again: that was recorded where it happened. Here: it never got so far. */
  async #watchProbe(limit: Limit): Promise<void> {
    const { store, clock } = this.#fleet;
    const run = await store.db
      .selectFrom("runs")
      .selectAll()
      .where("run_id", "=", limit.probe_run)
      .executeTakeFirst();
    const probeAt = limit.probe_at ?? 0;
    const isLate = clock.now() - probeAt > PROBE_STARTS_WITHIN_MS;
    const isLaunched = (run?.launched_at ?? 0) > probeAt;
    switch (run?.state) {
      case "driving":
      case "launched":
      case "active":
        return;
      case "queued":
        if (isLate) await this.#probe(limit, run);
        return;
      case "blocked":
        // Blocked again for something else, after its launch: it has shown nothing.
        if (isLaunched || isLate) await this.#probe(limit, run);
        return;
      default:
        await this.#probe(limit, run);
    }
  }

  /** Lets the next run try: one that is blocked for the limit, else one in the queue. With nobody there the limit is over: the next task will tell. */
  async #probe(limit: Limit, former: Run | undefined): Promise<void> {
    const { store, ids } = this.#fleet;
    await store.mutate(async (tx) => {
      const queued = await tx.db
        .selectFrom("runs")
        .selectAll()
        .where("state", "=", "queued")
        .orderBy("created_at")
        .orderBy("run_id")
        .execute();
      const candidates = [
        ...(await waitingFor(tx.db, limit)),
        ...queued.filter((run) => accountOfRun(this.#fleet, run)?.key === limit.account),
      ];
      const at = candidates.findIndex(({ run_id: id }) => id === former?.run_id);
      const next = candidates[at + 1] ?? candidates[0];
      if (next === undefined) await liftAndWake(tx, ids, limit, "nobody waits for it");
      else await probeLimit(tx, limit, next.run_id);
    });
    this.#fleet.failpoint("after-probe");
  }
}

/** A repo and runtime that use the account. */
function userOf(
  { config, runtimes }: FleetContext,
  account: string,
): { repo: RepoConfig; runtime: Runtime } | undefined {
  for (const repo of Object.values(config().repos))
    for (const runtime of runtimes.values())
      if (accountOf(repo, runtime.id).key === account) return { repo, runtime };
  return undefined;
}
