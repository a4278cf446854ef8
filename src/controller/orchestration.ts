import type { Orchestration, DispatchRequest } from "../operations/services.ts";
import type { PlanView, PoolView, RunView, WorkerView } from "../operations/views.ts";
import { viewRun, viewSent } from "../operations/run-views.ts";
import { requireLimit, viewLimit } from "../operations/limit-views.ts";
import { viewPool } from "../operations/pool-views.ts";
import { viewWorker } from "../operations/worker-views.ts";
import { admissionTo } from "../dispatch/admission.ts";
import { liftAndWake } from "../dispatch/limited.ts";
import { answerRun } from "../dispatch/answer.ts";
import { cancelRun, resumeRun, retryRun, sendToRun } from "../dispatch/commands.ts";
import type { DispatchContext } from "../dispatch/context.ts";
import type { Dispatcher } from "../dispatch/dispatcher.ts";
import { snapshotPool } from "../dispatch/assign.ts";
import { followLogs } from "../dispatch/follow-logs.ts";
import { interruptRun } from "../dispatch/interrupt.ts";
import { findRun } from "../dispatch/runs.ts";
import { recoverRun, snapshotsOfRun } from "../dispatch/recover.ts";
import { diffOfRun, logsOfRun } from "../dispatch/work.ts";
import { allocate } from "../fleet/allocate.ts";
import {
  attachWorker,
  busyWorker,
  consoleOnWorker,
  execOnWorker,
  trustHostKey,
} from "../fleet/operate.ts";
import { adoptWorker } from "../fleet/adopt.ts";
import { destroyWorker } from "../fleet/destroy.ts";
import { cordonWorker, drainWorker, uncordonWorker, untilDrained } from "../fleet/flags.ts";
import { rescueWorker } from "../fleet/rescue-worker.ts";
import { resetWorker } from "../fleet/reset.ts";
import { makeReady, reserveIdleWorker, setUpAgain } from "../fleet/ready.ts";
import { findWorker, findWorkerByName, type Worker } from "../fleet/workers.ts";
import { cleanText } from "../domain/text.ts";
import { openPause, pausePool, resumePool } from "../fleet/pauses.ts";
import { repoConfig } from "../fleet/context.ts";
import { OrchestratorError } from "../domain/errors.ts";
import { ensureSetUp } from "../fleet/set-up.ts";
import type { SilentCheck } from "../dispatch/check/check.ts";
import { sendToWindow } from "../dispatch/send-to-window.ts";
import { viewSweep } from "../operations/check-view.ts";
import type { ConfigSource } from "./config-source.ts";

export interface OrchestrationOptions {
  readonly dispatch: DispatchContext;
  readonly dispatcher: Dispatcher;
  readonly configSource: ConfigSource;
  readonly silentCheck: SilentCheck;
  readonly signal: AbortSignal;
  stop(): void;
}

/** The controller's answers to the doors, by the rooms that know. */
export function orchestration(options: OrchestrationOptions): Orchestration {
  const { dispatch, dispatcher, configSource, silentCheck, signal } = options;
  const { fleet, connections, seeds } = dispatch;
  const { store, clock } = fleet;
  const shownRun = async (runId: string): Promise<RunView> =>
    viewRun(store.db, await findRun(store.db, runId), clock.now());
  const shownWorker = async (worker: Worker): Promise<WorkerView> =>
    viewWorker(store.db, await findWorker(store.db, worker.worker_id), clock.now());
  const shownMessage = async ({ runId, seq }: { runId: string; seq: number }) =>
    viewSent(store.db, await findRun(store.db, runId), seq, clock.now());
  const shownPool = (repo: string): Promise<PoolView> =>
    viewPool({ store, clock, config: fleet.config() }, repo);
  const byName = (name: string) => findWorkerByName(store.db, name);
  const workersNamed = (name: string) =>
    byName(name).catch((error: unknown) => {
      if (error instanceof OrchestratorError && error.code === "not_found") return undefined;
      throw error;
    });

  return {
    async plan({ repo, worker }): Promise<PlanView> {
      await configSource.refresh();
      repoConfig(fleet, repo);
      const facts = await dispatcher.poolFacts(repo);
      const { runtime } = repoConfig(fleet, repo);
      const admission = await admissionTo(store.db, fleet, repo);
      const closed = admission({ repo, runtime, resumes: null });
      if (closed !== null) return { kind: "queue", worker: null, reason: closed, considered: [] };
      const plan = allocate(
        await snapshotPool({ db: store.db, now: clock.now() }, fleet, repo, facts),
        worker ?? null,
      );
      return {
        kind: plan.kind,
        worker: plan.kind === "use" || plan.kind === "create" ? plan.name : null,
        reason: plan.reason,
        considered: [...plan.considered],
      };
    },
    async dispatch(request: DispatchRequest) {
      await configSource.refresh();
      const { resumes, ...rest } = request;
      const resumed = resumes === undefined ? undefined : await findRun(store.db, resumes);
      const accepted = await dispatcher.request({ ...rest, resumes: resumed });
      return { run: await shownRun(accepted.runId), replayed: accepted.replayed };
    },
    async cancel(runId) {
      return shownRun((await cancelRun(dispatch, dispatcher, runId)).run_id);
    },
    async retry(runId, requestId) {
      await configSource.refresh();
      return shownRun(await retryRun(dispatch, dispatcher, runId, requestId));
    },
    async resume(runId, text) {
      await configSource.refresh();
      return shownRun((await resumeRun(dispatch, dispatcher, runId, text)).run_id);
    },
    async send(target, text, sendOptions) {
      await configSource.refresh();
      return shownMessage(await sendToRun(dispatch, dispatcher, target, text, sendOptions));
    },
    snapshots: async (runId) =>
      (await snapshotsOfRun(dispatch, runId)).map(({ skipped, unsaved, ...snapshot }) => ({
        ...snapshot,
        skipped: [...skipped],
        unsaved: [...unsaved],
      })),
    async recover(runId, target) {
      await configSource.refresh();
      const { nested, elsewhere, ...recovered } = await recoverRun(dispatch, runId, target);
      return { ...recovered, nested: [...nested], elsewhere: [...elsewhere] };
    },
    async answer(runId, input) {
      const { run, question, chosen, keys, evidence } = await answerRun(
        dispatch,
        dispatcher,
        runId,
        input,
      );
      return {
        run: await shownRun(run.run_id),
        question: {
          id: question.fingerprint,
          kind: question.id,
          text: [...question.text],
          options: question.options.map((option) => ({ ...option })),
        },
        chosen: chosen === null ? null : { ...chosen },
        keys: [...keys],
        evidence,
      };
    },
    async interrupt(target, by) {
      const { run, keys, evidence } = await interruptRun(dispatch, dispatcher, target, by);
      return { run: await shownRun(run.run_id), keys: [...keys], evidence };
    },
    diff: async (runId) => diffOfRun(dispatch, await findRun(store.db, runId)),
    logs: async (runId, { lines }) => logsOfRun(dispatch, await findRun(store.db, runId), lines),
    followLogs: (runId, signal) => followLogs(dispatch, runId, signal),
    async workerCreate(repo) {
      await configSource.refresh();
      const worker = await reserveIdleWorker(fleet, repo, await dispatcher.poolFacts(repo));
      return shownWorker(await makeReady(fleet, connections, seeds, worker, signal));
    },
    async workerSetup(name, { create }) {
      await configSource.refresh();
      if (create) {
        const found = await workersNamed(name);
        const poolFacts = (repo: string) => dispatcher.poolFacts(repo);
        const setUp = { context: fleet, connections, seeds, signal, poolFacts };
        return shownWorker(await ensureSetUp(setUp, name, found));
      }
      return shownWorker(await setUpAgain(fleet, connections, seeds, await byName(name), signal));
    },
    workerBusy: async (name) => busyWorker(fleet, connections, await byName(name)),
    workerExec: async (name, argv, execOptions) =>
      execOnWorker(connections, await byName(name), argv, execOptions),
    workerConsole: async (name) => consoleOnWorker(fleet, connections, await byName(name)),
    async workerSend(name, window, text, requestId) {
      await configSource.refresh();
      const input = { window, text, requestId };
      const sent = await sendToWindow(dispatch, dispatcher, await byName(name), input);
      const run = sent.kind === "message" ? await shownMessage(sent) : null;
      return { worker: name, window: sent.window, kind: sent.kind, run };
    },
    async check(scope, checkSignal) {
      // A configuration that is broken now must not silence the check.
      await configSource.refresh().catch(() => {});
      return viewSweep(await silentCheck.sweep(scope, checkSignal));
    },
    async workerCordon(name) {
      const worker = await byName(name);
      await cordonWorker(store, worker);
      return shownWorker(worker);
    },
    async workerUncordon(name) {
      const worker = await byName(name);
      await uncordonWorker(store, worker);
      dispatcher.nudge();
      return shownWorker(worker);
    },
    async workerDrain(name, { wait, destroy, timeoutMs }, asked) {
      const worker = await byName(name);
      await drainWorker(store, worker);
      const either = AbortSignal.any([signal, asked]);
      if (wait) await untilDrained(fleet, worker, timeoutMs, either);
      if (destroy) await destroyWorker(fleet, connections, await byName(name));
      return shownWorker(worker);
    },
    async workerReset(name) {
      await configSource.refresh();
      return shownWorker(await resetWorker(fleet, connections, seeds, await byName(name), signal));
    },
    async workerRescue(name) {
      await configSource.refresh();
      const rescued = await rescueWorker(fleet, connections, seeds, await byName(name), signal);
      return {
        ...(await shownWorker(rescued.worker)),
        rescued_run: rescued.runId,
        snapshot: rescued.snapshot,
        skipped: rescued.skipped.map(({ why, path }) => cleanText(`${why} ${path}`, 300)),
      };
    },
    async workerAdopt(name) {
      await configSource.refresh();
      return shownWorker(await adoptWorker(fleet, connections, name));
    },
    async workerDestroy(name) {
      const worker = await byName(name);
      await destroyWorker(fleet, connections, worker);
      return shownWorker(worker);
    },
    async workerTrust(name, fingerprint) {
      await configSource.refresh();
      return trustHostKey(fleet, connections, await byName(name), fingerprint);
    },
    workerAttach: async (name) => attachWorker(fleet, connections, await byName(name)),
    async limitClear(limitId) {
      const limit = await requireLimit(store.db, limitId);
      const shown = await viewLimit(store.db, limit);
      if (limit.state !== "lifted") {
        await store.mutate((tx) => liftAndWake(tx, fleet.ids, limit, "cleared by the operator"));
      }
      dispatcher.nudge();
      return {
        ...(await viewLimit(store.db, await requireLimit(store.db, limitId))),
        waiting: shown.waiting,
      };
    },
    async poolPause(repo, reason) {
      await configSource.refresh();
      repoConfig(fleet, repo);
      await store.mutate(async (tx) => {
        const pause = await openPause(tx.db, repo);
        // What a set-up paused, and the operator pauses too, is the operator's to resume.
        if (pause?.cause === "operator") return;
        if (pause !== undefined) await resumePool(tx, pause, "paused by the operator");
        await pausePool(tx, fleet.ids, repo, {
          cause: "operator",
          reason: cleanText(reason ?? "by the operator", 200),
          signature: null,
          base: null,
          setup: null,
        });
      });
      return shownPool(repo);
    },
    async poolResume(repo) {
      await configSource.refresh();
      repoConfig(fleet, repo);
      await store.mutate(async (tx) => {
        const pause = await openPause(tx.db, repo);
        if (pause !== undefined) await resumePool(tx, pause, "resumed by the operator");
      });
      dispatcher.nudge();
      return shownPool(repo);
    },
    stop: options.stop,
    liveRuns: () => dispatcher.liveCount,
  };
}
