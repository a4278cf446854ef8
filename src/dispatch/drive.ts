import { OrchestratorError } from "../domain/errors.ts";
import { asRunId } from "../domain/ids.ts";
import { cleanText } from "../domain/text.ts";
import { ensureCreated } from "../fleet/create.ts";
import { runtimeOf } from "../fleet/context.ts";
import { prepare, type PrepareOutcome, type Prepared } from "../fleet/prepare.ts";
import { whyFull } from "../fleet/disk.ts";
import { cleanTail, failureText } from "../fleet/failure-text.ts";
import { rescue } from "../fleet/rescue.ts";
import { findWorker, moveWorker, noteWorker, type Worker } from "../fleet/workers.ts";
import type { Transport } from "../transport/transport.ts";
import { ProviderError } from "../providers/provider-error.ts";
import { TransportError } from "../transport/transport-error.ts";
import { repoConfig, sessionName } from "../fleet/context.ts";
import type { OpenStart } from "../provisioner/provisioner.ts";
import { PREPARE_TIMEOUT_MS, type DispatchContext } from "./context.ts";
import { beginAttempt, endAttempt, jobOf, lastAttempt } from "./attempts.ts";
import { backOff, fail, giveBack, giveUpWorker, LONGEST_WAIT_MS, requeue } from "./drive-ends.ts";
import { encodeMessage, sentColumns } from "./launch.ts";
import { moveRun, waitingMessage, type Run } from "./runs.ts";
import { StepLog } from "./step-log.ts";

/** Worker step codes that decide what happens next (provision/README.md). */
const CODE = { otherFleet: 20, busy: 30, changed: 31, cloneFailed: 40 } as const;
const MAX_ATTEMPTS = 4;

/**
 * Drives a run from its worker to the intent to launch: create, connect, prepare, seed. Every step is idempotent or behind a gate on the
 * worker, so calling this again after a crash at any point goes on where it was. Ends with the run in `launched`, `finishing` or back
 * in `queued`. Returns the start of the launch that it intended, when that was begun ahead.
 */
export async function drive(
  context: DispatchContext,
  run: Run,
  signal: AbortSignal,
): Promise<OpenStart | undefined> {
  const { fleet } = context;
  const workerId = run.worker_id;
  if (workerId === null)
    throw new OrchestratorError("internal", `run ${run.run_id} is driving without a worker`);
  const attempts = await lastAttempt(context, run.run_id);
  // An attempt that was begun and not ended is taken up again under its own name: its job re-attaches.
  const attempt = attempts.open ?? attempts.last + 1;
  const steps = new StepLog(fleet, run, attempt);
  await using begun = new AsyncDisposableStack();
  try {
    // Nothing waits for this row: whoever comes after a crash without it counts to the same number.
    if (attempts.open === undefined) steps.also(beginAttempt(context, run, attempt));
    const worker = await created(context, run, await findWorker(fleet.store.db, workerId), steps);
    if (worker === undefined) return undefined;
    fleet.failpoint("before-connect");
    const transport = await steps.measure(fleet.clock.monotonic, "connect", () =>
      context.connections.reach(workerId),
    );
    fleet.failpoint("after-connect");
    const { outcome, ahead } = await context.limitPreparing(async () => {
      const [prepared, opened] = await Promise.allSettled([
        prepareRun(context, run, worker, attempt, transport, steps, signal),
        startAhead(context, run, worker, transport),
      ]);
      const ahead = begun.use(opened.status === "fulfilled" ? opened.value : undefined);
      if (prepared.status === "rejected") throw prepared.reason;
      return { outcome: prepared.value, ahead };
    });
    fleet.failpoint("after-prepare");
    // In order, and in one transaction when nothing comes between.
    const recorded = steps.flush();
    recorded.catch(() => {});
    await settle(context, run, worker, attempt, outcome, transport, signal);
    await recorded;
    if (outcome.kind !== "ready") return undefined;
    begun.move();
    return ahead;
  } catch (error) {
    await steps.flush().catch(() => {});
    if (signal.aborted) throw error;
    await settleError(context, run, attempt, error, signal);
    return undefined;
  }
}

/** On a worker that has the scripts, the start of the agent comes up while it is prepared, and waits for its files. */
async function startAhead(
  context: DispatchContext,
  run: Run,
  worker: Worker,
  transport: Transport,
): Promise<OpenStart | undefined> {
  if (worker.allocation === "preparing") return undefined;
  return context.fleet.provisioner.openStart(transport, {
    epoch: run.epoch ?? worker.epoch,
    run: run.run_id,
    launch: run.launch + 1,
    session: sessionName(run.repo),
  });
}

async function created(
  context: DispatchContext,
  run: Run,
  worker: Worker,
  steps: StepLog,
): Promise<Worker | undefined> {
  if (worker.allocation !== "creating") return worker;
  const { fleet } = context;
  const made = await steps.measure(fleet.clock.monotonic, "create", () =>
    ensureCreated(fleet, worker),
  );
  if (made.kind === "created") return made.worker;
  await steps.flush();
  await requeue(
    context,
    run,
    `worker ${worker.name} was not created: ${made.reason}`,
    made.foreign ? 0 : LONGEST_WAIT_MS,
  );
  return undefined;
}

async function prepareRun(
  context: DispatchContext,
  run: Run,
  worker: Worker,
  attempt: number,
  transport: Transport,
  steps: StepLog,
  signal: AbortSignal,
): Promise<PrepareOutcome> {
  const { fleet } = context;
  const repo = repoConfig(fleet, run.repo);
  const former = await formerLaunch(context, worker, run);
  return prepare(
    fleet,
    context.seeds,
    worker,
    {
      job: jobOf(run, attempt),
      epoch: run.epoch ?? worker.epoch,
      runtime: runtimeOf(fleet, run.runtime),
      mode: run.mode,
      runBranch: repo.runBranch === "none" ? "" : `orchestrator/${run.run_id}`,
      clone:
        run.resumes !== null ? "continue" : worker.allocation === "preparing" ? "fresh" : "reuse",
      former,
      timeoutMs: PREPARE_TIMEOUT_MS,
      signal,
    },
    transport,
    (line) => steps.take(line),
  );
}

/** The launch of the worker's previous run, whose agent may still sit in the window. */
async function formerLaunch(context: DispatchContext, worker: Worker, run: Run) {
  const former = await context.fleet.store.db
    .selectFrom("runs")
    .select(["run_id", "launch"])
    .where("worker_id", "=", worker.worker_id)
    .where("run_id", "!=", run.run_id)
    .where("launch", ">", 0)
    .orderBy("epoch", "desc")
    .executeTakeFirst();
  return former === undefined ? null : { run: former.run_id, launch: former.launch };
}

async function settle(
  context: DispatchContext,
  run: Run,
  worker: Worker,
  attempt: number,
  outcome: PrepareOutcome,
  transport: Transport,
  signal: AbortSignal,
): Promise<void> {
  switch (outcome.kind) {
    case "ready":
      return intendLaunch(context, run, worker, attempt, outcome.prepared);
    case "lost":
      return backOff(context, run, attempt, "the worker restarted while it was being prepared", {
        signal,
      });
    case "failed":
      return settleFailure(context, run, worker, attempt, outcome, transport, signal);
  }
}

async function settleFailure(
  context: DispatchContext,
  run: Run,
  worker: Worker,
  attempt: number,
  outcome: Extract<PrepareOutcome, { kind: "failed" }>,
  transport: Transport,
  signal: AbortSignal,
): Promise<void> {
  const tail = cleanTail(outcome.tail);
  if (outcome.step === "idle" && outcome.code === CODE.busy) {
    const why = cleanText(outcome.fact ?? "somebody uses it", 200);
    return giveBack(context, run, worker, why);
  }
  if (outcome.step === "saved" && outcome.code === CODE.changed) {
    const lastRun = await formerLaunch(context, worker, run);
    const saved = await rescue(
      context.fleet,
      worker,
      { runId: asRunId(lastRun?.run ?? run.run_id), epoch: run.epoch ?? worker.epoch },
      transport,
    );
    if (saved.kind === "rescued")
      return backOff(context, run, attempt, "work found on the worker was saved first", {
        signal,
        delayMs: 0,
      });
    return giveUpWorker(context, run, worker, `unrescued: ${saved.reason}`);
  }
  if (outcome.step === "owner" && outcome.code === CODE.otherFleet) {
    return giveUpWorker(context, run, worker, "it belongs to another fleet");
  }
  const full = await whyFull(transport, worker.name);
  const reason = full === null ? failureText(outcome) : `${full}: ${failureText(outcome)}`;
  if (outcome.code === CODE.cloneFailed && full === null && attempt < MAX_ATTEMPTS - 1) {
    return backOff(context, run, attempt, reason, { signal });
  }
  await fail(context, run, reason, { step: outcome.step, code: outcome.code, tail });
}

async function settleError(
  context: DispatchContext,
  run: Run,
  attempt: number,
  error: unknown,
  signal: AbortSignal,
): Promise<void> {
  const { fleet } = context;
  const message = cleanText(error instanceof Error ? error.message : String(error), 300);
  fleet.logger.warn("run.drive_failed", { run_id: run.run_id, attempt, error: message });
  if (!(error instanceof OrchestratorError) || error.code === "lease_stale") throw error;
  // While nobody knows whether the worker was made, the run waits for it: it is never started elsewhere meanwhile.
  const waits = error.retryable && (await isBeingCreated(context, run));
  const again = error.retryable && attempt < MAX_ATTEMPTS;
  if (waits || again) return backOff(context, run, attempt, message, { signal });
  const isLost = error instanceof ProviderError && error.failure === "gone";
  if (isLost || error instanceof TransportError || error.code === "unreachable") {
    return giveUpThis(context, run, message);
  }
  const full = await whyFullNow(context, run);
  const reason = full === null ? message : `${full}: it could not be prepared`;
  await fail(context, run, reason, { code: error.code });
}

/** What the worker's scripts could not say when they failed. */
async function whyFullNow(context: DispatchContext, run: Run): Promise<string | null> {
  if (run.worker_id === null) return null;
  const transport = await context.connections.kept(run.worker_id);
  if (transport === undefined) return null;
  return whyFull(transport, (await findWorker(context.fleet.store.db, run.worker_id)).name);
}

async function isBeingCreated(context: DispatchContext, run: Run): Promise<boolean> {
  if (run.worker_id === null) return false;
  const worker = await findWorker(context.fleet.store.db, run.worker_id);
  return worker.allocation === "creating";
}

async function giveUpThis(context: DispatchContext, run: Run, reason: string): Promise<void> {
  if (run.worker_id === null) return;
  await giveUpWorker(context, run, await findWorker(context.fleet.store.db, run.worker_id), reason);
}

/** The intent to launch is committed before anything starts: from here on only the gate on the worker tells what happened. */
async function intendLaunch(
  context: DispatchContext,
  run: Run,
  worker: Worker,
  attempt: number,
  prepared: Prepared,
): Promise<void> {
  const { store } = context.fleet;
  await store.mutate(async (tx) => {
    const message = await waitingMessage(tx.db, run.run_id);
    if (message === undefined)
      throw new OrchestratorError("internal", `run ${run.run_id} has no message to deliver`);
    const launch = run.launch + 1;
    if (worker.allocation === "preparing") {
      await moveWorker(tx, worker, "prepared_for_run", { last_run_id: run.run_id });
    }
    await noteWorker(tx, worker.worker_id, { boot_id: prepared.bootId, saved_fingerprint: null });
    await tx.db
      .updateTable("messages")
      .set({ launch, ...sentColumns(encodeMessage(context, run, message, prepared.home)) })
      .where("run_id", "=", run.run_id)
      .where("seq", "=", message.seq)
      .execute();
    await endAttempt(tx.db, run.run_id, attempt, "done", tx.now);
    await moveRun(tx, run, "launch_intended", {
      patch: {
        launch,
        launched_at: tx.now,
        branch: prepared.branch ?? run.branch,
        base_commit: prepared.base ?? run.base_commit,
        place: JSON.stringify(prepared),
      },
      payload: { launch, runtime_session_id: run.runtime_session_id },
    });
  });
  context.fleet.failpoint("after-intent");
}
