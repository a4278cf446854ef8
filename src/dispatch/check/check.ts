import PQueue from "p-queue";
import { OrchestratorError } from "../../domain/errors.ts";
import { isTerminal } from "../../domain/run.ts";
import { cleanText } from "../../domain/text.ts";
import { providerStates } from "../../fleet/awake.ts";
import type { Worker } from "../../fleet/workers.ts";
import { TOO_LATE, within } from "../../platform/within.ts";
import type { DispatchContext } from "../context.ts";
import { checkWorker } from "./check-worker.ts";
import type { Checked } from "./judge.ts";
import { readSeen, toldOf, writeSeen, type Seen } from "./seen.ts";
import { changeLine, goneLine, sweepLine, type SweepCounts } from "./status-line.ts";
import { openStatusLog } from "./status-log.ts";

export interface CheckScope {
  readonly worker: string | undefined;
  readonly repo: string | undefined;
}

export interface CheckFiles {
  readonly fallback: string;
  readonly seen: string;
  readonly userHome: string;
}

export interface SweepResult {
  readonly workers: readonly (Checked & { readonly changed: boolean })[];
  readonly counts: SweepCounts;
  readonly ms: number;
  /** The file that has the lines. */
  readonly log: string;
  /** Why the configured file is not used; null while it is. */
  readonly refused: string | null;
}

/**
 * The silent check: reads the window names of every reachable, awake worker, compares them with the derived status, mends and records what
 * disagrees, and writes a line for each change and one for the sweep. One sweep at a time; each is bounded in time whatever workers and
 * providers do. Wakes nobody.
 */
export class SilentCheck {
  readonly #context: DispatchContext;
  readonly #files: CheckFiles;
  readonly #turn = new PQueue({ concurrency: 1 });

  constructor(context: DispatchContext, files: CheckFiles) {
    this.#context = context;
    this.#files = files;
  }

  /** `not_found` when the scope names nobody. */
  sweep(scope: CheckScope, signal: AbortSignal): Promise<SweepResult> {
    return this.#turn.add(() => this.#sweep(scope, signal));
  }

  async #sweep(scope: CheckScope, signal: AbortSignal): Promise<SweepResult> {
    signal.throwIfAborted();
    const { clock } = this.#context.fleet;
    const began = clock.monotonic();
    const workers = await this.#workersOf(scope);
    const all = await this.#look(workers, signal);
    signal.throwIfAborted();
    const seen = await readSeen(this.#files.seen);
    const results = all.map((each) => ({
      ...each,
      changed: each.was !== null || isMended(each) || isNews(seen, each),
    }));
    await this.#recordMissing(results);
    const gone = scope.worker === undefined ? await this.#goneSince(seen, workers, scope) : [];
    const counts = count(results);
    const ms = clock.monotonic() - began;
    const told = await this.#write(seen, scope, { results, gone, counts, ms });
    return { workers: results, counts, ms, ...told };
  }

  async #workersOf({ worker, repo }: CheckScope): Promise<Worker[]> {
    const { store, config } = this.#context.fleet;
    let query = store.db
      .selectFrom("workers")
      .selectAll()
      .where("allocation", "not in", ["destroyed", "destroying"]);
    if (worker !== undefined) query = query.where("name", "=", worker);
    if (repo !== undefined) query = query.where("repo", "=", repo);
    const found = await query.orderBy("repo").orderBy("number").execute();
    if (found.length > 0) return found;
    if (worker !== undefined) {
      const where = repo === undefined ? "" : ` of the repo ${repo}`;
      throw new OrchestratorError("not_found", `there is no worker ${worker}${where}`, {
        hint: "'orchestrator worker list' shows the workers",
      });
    }
    if (repo !== undefined && config().repos[repo] === undefined) {
      throw new OrchestratorError("not_found", `there is no repo ${repo} in the configuration`);
    }
    return [];
  }

  async #look(workers: readonly Worker[], signal: AbortSignal): Promise<Checked[]> {
    const context = this.#context;
    const { clock, config, logger } = context.fleet;
    const { parallel, workerSeconds, sweepSeconds } = config().check;
    const timeoutMs = workerSeconds * 1_000;
    const over = clock.monotonic() + sweepSeconds * 1_000;
    const states = await providerStates(context.fleet, workers, timeoutMs, signal);
    const queue = new PQueue({ concurrency: parallel });
    const one = async (worker: Worker): Promise<Checked> => {
      const machine = states.get(worker.worker_id) ?? null;
      const left = over - clock.monotonic();
      if (left <= 0) return notLookedAt(worker, machine);
      // What the worker does is bounded by its own deadline, what the store does by nothing: hence the second one.
      const result = await within(clock, Math.min(left, timeoutMs * 2), signal, (ends) =>
        checkWorker(context, worker, machine, {
          timeoutMs: Math.min(timeoutMs, left),
          signal: ends,
        }),
      ).catch((error: unknown) => {
        const message = cleanText(error instanceof Error ? error.message : String(error), 300);
        logger.error("check.failed", { worker: worker.name, error: message });
        return TOO_LATE;
      });
      return result === TOO_LATE ? notLookedAt(worker, machine) : result;
    };
    return Promise.all(workers.map((worker) => queue.add(() => one(worker))));
  }

  /** A live run without its window cannot go on by itself: an event for whoever follows, once. */
  async #recordMissing(results: SweepResult["workers"]): Promise<void> {
    const missing = results.filter(
      ({ changed, run, found }) =>
        changed &&
        run !== null &&
        !isTerminal(run.state) &&
        (found.includes("window_missing") || found.includes("session_missing")),
    );
    if (missing.length === 0) return;
    await this.#context.fleet.store.mutate(
      async (tx) => {
        for (const { worker, run, found } of missing) {
          tx.event({
            kind: "run.window_missing",
            repo: worker.repo,
            run_id: run?.run_id,
            worker_id: worker.worker_id,
            payload: { worker: worker.name, session: !found.includes("session_missing") },
          });
        }
      },
      { quiet: true },
    );
  }

  /** Workers the log knows that are no more. */
  async #goneSince(
    seen: Seen,
    workers: readonly Worker[],
    { repo }: CheckScope,
  ): Promise<readonly { readonly id: string; readonly name: string }[]> {
    const there = new Set<string>(workers.map(({ worker_id }) => worker_id));
    const candidates = Object.entries(seen.workers).filter(([id]) => !there.has(id));
    if (candidates.length === 0) return [];
    const { db } = this.#context.fleet.store;
    const rows = await db
      .selectFrom("workers")
      .select(["worker_id", "repo", "allocation"])
      .execute();
    const known = new Map<string, (typeof rows)[number]>(rows.map((row) => [row.worker_id, row]));
    return candidates.flatMap(([id, { name }]) => {
      const row = known.get(id);
      const isOurs = repo === undefined || row?.repo === repo;
      const isGone = row === undefined || row.allocation === "destroyed";
      return isOurs && isGone ? [{ id, name }] : [];
    });
  }

  async #write(
    seen: Seen,
    scope: CheckScope,
    sweep: {
      results: SweepResult["workers"];
      gone: readonly { readonly id: string; readonly name: string }[];
      counts: SweepCounts;
      ms: number;
    },
  ): Promise<{ log: string; refused: string | null }> {
    const { clock, config, logger } = this.#context.fleet;
    const { results, gone, counts, ms } = sweep;
    const log = openStatusLog({
      wanted: config().check.log,
      fallback: this.#files.fallback,
      userHome: this.#files.userHome,
      refusedBefore: seen.refused,
    });
    const changed = results.filter((each) => each.changed);
    for (const each of changed) await log.write(changeLine(clock.now(), each), clock.now());
    for (const { name } of gone) await log.write(goneLine(clock.now(), name), clock.now());
    const name = scope.worker ?? scope.repo ?? "all";
    await log.write(sweepLine(clock.now(), name, counts, ms), clock.now());
    const { path, refused } = log;
    if (refused !== null && refused !== seen.refused) {
      logger.warn("check.log_refused", { refused, path });
    }
    if (changed.length > 0 || gone.length > 0 || refused !== seen.refused) {
      const workers = { ...seen.workers };
      for (const { id } of gone) delete workers[id];
      for (const each of changed) {
        workers[each.worker.worker_id] = { name: each.worker.name, told: toldOf(each) };
      }
      await writeSeen(this.#files.seen, { workers, refused });
    }
    return { log: path, refused };
  }
}

function notLookedAt(worker: Worker, machine: Checked["machine"]): Checked {
  return {
    worker,
    run: null,
    machine,
    window: null,
    was: null,
    status: null,
    source: "controller",
    reason: "the check ran out of time",
    ageMs: 0,
    found: ["left_alone"],
  };
}

const isMended = ({ found }: Checked): boolean => found.includes("guard_restarted");

const isNews = (seen: Seen, each: Checked): boolean =>
  seen.workers[each.worker.worker_id]?.told !== toldOf(each);

function count(results: SweepResult["workers"]): SweepCounts {
  const having = (...words: readonly Checked["found"][number][]) =>
    results.filter(({ found }) => words.some((word) => found.includes(word))).length;
  const unread = having("asleep", "unreachable", "left_alone");
  return {
    workers: results.length,
    read: results.length - unread,
    asleep: having("asleep"),
    unreachable: having("unreachable"),
    leftAlone: having("left_alone"),
    missing: having("window_missing", "session_missing"),
    changed: results.filter(({ changed }) => changed).length,
    corrected: having("corrected"),
    repaired: having("guard_restarted"),
  };
}
