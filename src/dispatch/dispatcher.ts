import type { RunId } from "../domain/ids.ts";
import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import { providerOf, repoConfig } from "../fleet/context.ts";
import { splitWorkerName } from "../domain/names.ts";
import { Nudge } from "../platform/nudge.ts";
import type { Service } from "../platform/start-stop.ts";
import { assignQueued, noteWhyQueued, type PoolFacts } from "./assign.ts";
import type { DispatchContext } from "./context.ts";
import { requestRun, type Accepted, type DispatchInput } from "./request.ts";
import { requestReplacements } from "./replace.ts";
import { liveRuns } from "./runs.ts";
import { Supervision } from "./supervision.ts";

/** How often queued runs are tried again when nothing happens: back-offs and busy workers end by time (ms). */
const TRY_EVERY_MS = 1_000;
const FACTS_FRESH_MS = 3_000;

/**
 * Runs every live run: supervises those that have a worker, and gives workers to the queue of each pool, oldest first. At start it takes up
 * what a former controller left; at stop it lets go, and the agents work on.
 */
export class Dispatcher implements Service {
  readonly #context: DispatchContext;
  readonly #supervised = new Map<RunId, { supervision: Supervision; done: Promise<void> }>();
  readonly #facts = new Map<string, { at: number; facts: PoolFacts }>();
  readonly #nudge = new Nudge();
  #stopping = new AbortController();
  #scheduling: Promise<void> | undefined;

  constructor(context: DispatchContext) {
    this.#context = context;
  }

  async start(): Promise<void> {
    this.#stopping = new AbortController();
    for (const run of await liveRuns(this.#context.fleet.store.db)) {
      if (run.state !== "queued") this.#supervise(run.run_id);
    }
    this.#scheduling = this.#schedule(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("the controller is stopping"));
    await Promise.allSettled([
      this.#scheduling,
      ...[...this.#supervised.values()].map(({ done }) => done),
    ]);
  }

  get liveCount(): number {
    return this.#supervised.size;
  }

  /** Accepts a task and starts what got a worker with it. */
  async request(input: DispatchInput): Promise<Accepted> {
    const accepted = await requestRun(this.#context.fleet, input, () => this.poolFacts(input.repo));
    this.#context.fleet.failpoint("after-request");
    for (const runId of accepted.assigned) this.#supervise(runId);
    // A worker may become free without a run ending: what waits is tried again by time, too.
    if (!accepted.assigned.includes(accepted.runId)) this.#nudge.nudge();
    return accepted;
  }

  /** The run or its pool changed: look now. */
  nudge(runId?: RunId): void {
    if (runId !== undefined) this.#supervised.get(runId)?.supervision.nudge();
    this.#nudge.nudge();
  }

  /** Does something that stops the run's agent on purpose; its supervision looks on without raising the alarm. */
  quietly<T>(runId: RunId, action: () => Promise<T>): Promise<T> {
    const supervised = this.#supervised.get(runId);
    return supervised === undefined ? action() : supervised.supervision.quietly(action);
  }

  /** The run was cancelled: what is done for it now stops. */
  cancelled(runId: RunId): void {
    this.#supervised.get(runId)?.supervision.cancel();
    this.wake(runId);
  }

  /** Takes up a run that was moved by a command. */
  wake(runId: RunId): void {
    if (this.#supervised.has(runId)) this.nudge(runId);
    else this.#supervise(runId);
  }

  /** What the provider says of a pool, at most three seconds old. */
  async poolFacts(repo: string): Promise<PoolFacts> {
    const { fleet } = this.#context;
    const known = this.#facts.get(repo);
    if (known !== undefined && fleet.clock.monotonic() - known.at < FACTS_FRESH_MS)
      return known.facts;
    const provider = providerOf(fleet, repoConfig(fleet, repo).provider);
    const [capacity, seen] = await Promise.all([provider.capacity(), provider.list(`${repo}-`)]);
    const ours = new Set(
      (
        await fleet.store.db
          .selectFrom("workers")
          .select("nonce")
          .where("repo", "=", repo)
          .where("allocation", "!=", "destroyed")
          .execute()
      ).map(({ nonce }) => nonce),
    );
    const foreignNumbers = seen
      .filter((worker) => worker.nonce === null || !ours.has(worker.nonce))
      .map((worker) => splitWorkerName(worker.name))
      .filter((name) => name?.repo === repo)
      .map((name) => name?.number ?? 0);
    const facts = { capacity, foreignNumbers };
    this.#facts.set(repo, { at: fleet.clock.monotonic(), facts });
    return facts;
  }

  #supervise(runId: RunId): void {
    if (this.#supervised.has(runId) || this.#stopping.signal.aborted) return;
    const supervision = new Supervision(this.#context, runId);
    const done = supervision
      .run(this.#stopping.signal)
      .catch((error: unknown) => {
        this.#context.fleet.logger.error("supervision.ended", {
          run_id: runId,
          error: cleanText(
            error instanceof Error ? (error.stack ?? error.message) : String(error),
            1_000,
          ),
        });
      })
      .finally(() => {
        this.#supervised.delete(runId);
        this.#facts.clear();
        this.#nudge.nudge();
      });
    this.#supervised.set(runId, { supervision, done });
  }

  async #schedule(signal: AbortSignal): Promise<void> {
    const { fleet } = this.#context;
    while (!signal.aborted) {
      const queued = await this.#tryQueued().catch((error: unknown) => {
        const message = cleanText(error instanceof Error ? error.message : String(error), 300);
        fleet.logger.error("schedule.failed", { error: message });
        return true;
      });
      const timer = new AbortController();
      const tick = queued
        ? fleet.clock.sleep(TRY_EVERY_MS, AbortSignal.any([signal, timer.signal]))
        : new Promise<void>(() => {});
      await this.#nudge.wait(tick, signal);
      timer.abort();
    }
  }

  /** True while runs are waiting, or were left behind by a supervision that ended in trouble. */
  async #tryQueued(): Promise<boolean> {
    const { fleet } = this.#context;
    const live = await liveRuns(fleet.store.db);
    const repos = new Set(live.filter((run) => run.state === "queued").map((run) => run.repo));
    for (const run of live) {
      if (run.state !== "queued") this.#supervise(run.run_id);
    }
    for (const repo of repos) await this.#assignPool(repo);
    const again = await requestReplacements(this.#context, (input) => this.request(input));
    return again || repos.size > 0;
  }

  /** A pool that cannot be served now, for whatever reason, holds up no other one; its runs say why they wait. */
  async #assignPool(repo: string): Promise<void> {
    const { fleet } = this.#context;
    try {
      const facts = await this.poolFacts(repo);
      const { value: assigned } = await fleet.store.mutate(
        (tx) => assignQueued(tx, fleet, repo, facts),
        { quiet: true },
      );
      for (const run of assigned) this.#supervise(run.run_id);
    } catch (error) {
      if (!(error instanceof OrchestratorError)) throw error;
      const reason = cleanText(error.message, 300);
      fleet.logger.warn("pool.not_served", { repo, error: reason });
      await noteWhyQueued(fleet.store, repo, reason);
    }
  }
}
