import { OrchestratorError } from "../domain/errors.ts";
import type { RunId } from "../domain/ids.ts";
import { isTerminal } from "../domain/run.ts";
import { cleanText } from "../domain/text.ts";
import { isGone } from "../fleet/gone.ts";
import { findWorker, noteWorker } from "../fleet/workers.ts";
import { ProviderError } from "../providers/provider-error.ts";
import { Nudge } from "../platform/nudge.ts";
import { attend, type Attention } from "./attend.ts";
import type { DispatchContext } from "./context.ts";
import { drive } from "./drive.ts";
import { finish } from "./finish.ts";
import { followRun } from "./follow.ts";
import { keepSnapshots } from "./keep-snapshots.ts";
import { proveOver } from "./prove-over.ts";
import { findRun, moveRun, type Run } from "./runs.ts";

/** How often a run is looked at when nothing happens: statuses grow stale by time alone (ms). */
const LOOK_EVERY_MS = 1_000;
/** The same while the agent works and is heard (ms): a silence is noticed that much later. */
const CALM_LOOK_EVERY_MS = 10_000;
const MAX_PAUSE_MS = 15_000;

/**
 * Supervises one live run from its worker to its end. Level-triggered: every turn reads the run's row and does what its state asks for,
 * so a new supervision after a crash goes on where the old one was. News of the agent arrives through a follower beside it.
 */
export class Supervision {
  readonly #context: DispatchContext;
  readonly #runId: RunId;
  readonly #nudge = new Nudge();
  /** News of the work may be there. */
  readonly #work = new Nudge();
  readonly #attention: Attention;
  #follower: { stop(): Promise<void> } | undefined;
  #cancelDrive: AbortController | undefined;

  constructor(context: DispatchContext, runId: RunId) {
    this.#context = context;
    this.#runId = runId;
    this.#attention = {
      changed: () => {
        this.#nudge.nudge();
        this.#work.nudge();
      },
      shown: undefined,
      quiet: false,
      calm: false,
      ahead: undefined,
      blockedFor: undefined,
      started: 0,
      connection: "up",
      followedSince: undefined,
      windowDiffersSince: undefined,
      windowCorrectedUp: undefined,
    };
  }

  /** Something changed that concerns the run: look now. */
  nudge(): void {
    this.#nudge.nudge();
  }

  /** The run was cancelled: whatever brings it to its launch stops. */
  cancel(): void {
    this.#cancelDrive?.abort(new Error("the run was cancelled"));
    this.#nudge.nudge();
  }

  /** Does something that stops the run's agent: what the agent shows meanwhile is our doing, and no news. */
  async quietly<T>(action: () => Promise<T>): Promise<T> {
    this.#attention.quiet = true;
    try {
      return await action();
    } finally {
      this.#attention.quiet = false;
      this.#nudge.nudge();
    }
  }

  /** Resolves when the run has ended, went back to the queue, or the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    try {
      while (!signal.aborted) {
        const run = await findRun(this.#context.fleet.store.db, this.#runId);
        if (run.state === "queued" || isTerminal(run.state)) return;
        try {
          const moved = await this.#turn(run, signal);
          failures = 0;
          if (!moved) {
            await this.#pause(this.#attention.calm ? CALM_LOOK_EVERY_MS : LOOK_EVERY_MS, signal);
          }
        } catch (error) {
          if (signal.aborted) return;
          failures += 1;
          await this.#trouble(run, error, failures, signal);
        }
      }
    } finally {
      await this.#follower?.stop();
      await this.#attention.ahead?.[Symbol.asyncDispose]();
    }
  }

  /** True when the run was moved, so that the next turn must not wait. */
  async #turn(run: Run, signal: AbortSignal): Promise<boolean> {
    this.#attention.calm = false;
    switch (run.state) {
      case "driving":
        await this.#driveUntilCancelled(run, signal);
        return true;
      case "launched":
      case "active":
      case "blocked":
        this.#follow(run, signal);
        await attend(this.#context, run, this.#attention, signal);
        return this.#hasMoved(run);
      case "cancelling": {
        this.#attention.quiet = true;
        const over = await proveOver(this.#context, run, { graceMs: 5_000 });
        if (over.kind !== "over") return false;
        await this.#context.fleet.store.mutate((tx) =>
          moveRun(tx, run, "proven_over", {
            patch: { outcome: "cancelled", reason: "cancelled" },
            payload: { outcome: "cancelled" },
          }),
        );
        return true;
      }
      case "finishing":
        await finish(this.#context, run);
        return this.#hasMoved(run);
      case "queued":
      case "completed":
      case "failed":
      case "cancelled":
      case "abandoned":
        return true;
    }
  }

  /** A cancelled run's set-up is not waited for, however long it takes; the worker's next job ends what is left of it. */
  async #driveUntilCancelled(run: Run, signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    this.#cancelDrive = stop;
    try {
      this.#attention.ahead = await drive(
        this.#context,
        run,
        AbortSignal.any([signal, stop.signal]),
      );
    } catch (error) {
      if (!stop.signal.aborted || signal.aborted) throw error;
    } finally {
      this.#cancelDrive = undefined;
    }
  }

  async #hasMoved(run: Run): Promise<boolean> {
    const now = await findRun(this.#context.fleet.store.db, run.run_id);
    return now.state !== run.state || now.launch !== run.launch;
  }

  #follow(run: Run, signal: AbortSignal): void {
    if (this.#follower !== undefined) return;
    const stop = new AbortController();
    const ended = AbortSignal.any([signal, stop.signal]);
    const done = this.#keepFollowing(run.run_id, ended);
    const kept = keepSnapshots(this.#context, run.run_id, this.#work, ended);
    this.#follower = {
      stop: async () => {
        stop.abort(new Error("the run is no longer followed"));
        await Promise.all([done, kept]);
      },
    };
  }

  /** Follows again after every cut, at once the first time, then with growing pauses. */
  async #keepFollowing(runId: RunId, signal: AbortSignal): Promise<void> {
    const { fleet, connections } = this.#context;
    let pauseMs = 0;
    while (!signal.aborted) {
      try {
        const run = await findRun(fleet.store.db, runId);
        if (isTerminal(run.state) || run.worker_id === null) return;
        const transport = await connections.reach(run.worker_id);
        const began = fleet.clock.monotonic();
        this.#attention.connection = "up";
        this.#attention.followedSince = began;
        await followRun(this.#context, run, transport, this.#attention, signal);
        pauseMs =
          fleet.clock.monotonic() - began > 5_000 ? 0 : Math.min(MAX_PAUSE_MS, pauseMs * 2 + 100);
      } catch (error) {
        if (signal.aborted) return;
        pauseMs = Math.min(MAX_PAUSE_MS, pauseMs * 2 + 100);
        this.#attention.connection = "down";
        const message = cleanText(error instanceof Error ? error.message : String(error), 300);
        fleet.logger.warn("run.follow_failed", { run_id: runId, error: message });
        if (error instanceof ProviderError && error.failure === "gone") await this.#noteGone(runId);
      }
      this.#nudge.nudge();
      if (pauseMs > 0) await fleet.clock.sleep(pauseMs, signal).catch(() => {});
    }
  }

  /** Only what the provider says twice, by id, makes a worker gone; the run's status follows from it. */
  async #noteGone(runId: RunId): Promise<void> {
    const { fleet } = this.#context;
    const run = await findRun(fleet.store.db, runId);
    if (run.worker_id === null) return;
    const worker = await findWorker(fleet.store.db, run.worker_id);
    if (worker.provider_state === "gone" || !(await isGone(fleet, worker))) return;
    await fleet.store.mutate(
      (tx) =>
        noteWorker(tx, worker.worker_id, { provider_state: "gone", provider_state_at: tx.now }),
      { quiet: true },
    );
  }

  async #trouble(run: Run, error: unknown, failures: number, signal: AbortSignal): Promise<void> {
    const { fleet } = this.#context;
    const message = cleanText(error instanceof Error ? error.message : String(error), 300);
    const expected = error instanceof OrchestratorError;
    fleet.logger[expected ? "warn" : "error"]("run.trouble", {
      run_id: run.run_id,
      state: run.state,
      failures,
      error: message,
      ...(expected ? {} : { stack: error instanceof Error ? (error.stack ?? "") : "" }),
    });
    // Looked at again at once: a row that moved underneath is the ordinary case.
    if (expected && error.code === "lease_stale" && failures < 3) return;
    await this.#pause(Math.min(MAX_PAUSE_MS, 200 * 2 ** Math.min(failures, 8)), signal);
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const timer = this.#context.fleet.clock.sleep(ms, AbortSignal.any([signal, stop.signal]));
    await this.#nudge.wait(timer, signal);
    stop.abort();
    await timer.catch(() => {});
  }
}
