import { OrchestratorError } from "../domain/errors.ts";
import { isTerminal } from "../domain/run.ts";
import { can } from "../domain/transition.ts";
import { RUN_TRANSITIONS } from "../domain/run.ts";
import type { RunId } from "../domain/ids.ts";
import { runtimeOf, sessionName } from "../fleet/context.ts";
import { hashText } from "../runtimes/fold.ts";
import type { MutateOptions } from "../store/store.ts";
import type { DispatchContext } from "./context.ts";
import type { Dispatcher } from "./dispatcher.ts";
import { insertMessage } from "./messages.ts";
import { proveOver } from "./prove-over.ts";
import { formerAnswer, type Answer } from "./request.ts";
import { continueRun } from "./resume.ts";
import { findRun, moveRun, type Run } from "./runs.ts";
import { targetRun } from "./target.ts";

/** The operator's commands on runs. Each changes rows first; the run's supervision does the rest. */

/** Stops a run. A queued one ends at once; another is `cancelling` until its agent is proven over. Repeating it changes nothing. */
export async function cancelRun(
  context: DispatchContext,
  dispatcher: Dispatcher,
  runId: string,
): Promise<Run> {
  const { store } = context.fleet;
  const { value } = await store.mutate(async (tx) => {
    const run = await findRun(tx.db, runId);
    if (run.state === "cancelling" || run.outcome === "cancelled") return run;
    if (!can(RUN_TRANSITIONS, run.state, "cancel")) {
      throw new OrchestratorError(
        "not_claimable",
        `run ${run.run_id} is ${run.state} and cannot be cancelled`,
      );
    }
    return moveRun(tx, run, "cancel", { patch: { reason: "cancelled by the operator" } });
  });
  dispatcher.cancelled(value.run_id);
  return value;
}

/** Ends a blocked run, once its agent is proven over, and starts its task again; an ended run's task is started again at once. */
export async function retryRun(
  context: DispatchContext,
  dispatcher: Dispatcher,
  runId: string,
  requestId: string | undefined,
): Promise<RunId> {
  const { store } = context.fleet;
  const run = await findRun(store.db, runId);
  if (run.state === "blocked") {
    const over = await dispatcher.quietly(run.run_id, () =>
      proveOver(context, run, { graceMs: 5_000 }),
    );
    if (over.kind !== "over") {
      throw new OrchestratorError(
        "needs_person",
        `the agent of run ${run.run_id} could not be stopped`,
        {
          details: { pids: over.pids },
        },
      );
    }
    await store.mutate((tx) =>
      moveRun(tx, run, "failed", {
        patch: { outcome: "failed", reason: `retried; it was blocked: ${run.reason ?? ""}` },
      }),
    );
    dispatcher.wake(run.run_id);
  } else if (!isTerminal(run.state) || run.state === "completed") {
    throw new OrchestratorError(
      "not_claimable",
      `run ${run.run_id} is ${run.state}: there is nothing to retry`,
      {
        hint: isTerminal(run.state)
          ? "send a follow-up with 'orchestrator send'"
          : "cancel it first",
      },
    );
  }
  const first = await store.db
    .selectFrom("messages")
    .select("body")
    .where("run_id", "=", run.run_id)
    .orderBy("seq")
    .executeTakeFirstOrThrow();
  const task = await store.db
    .selectFrom("tasks")
    .select("title")
    .where("task_id", "=", run.task_id)
    .executeTakeFirst();
  const accepted = await dispatcher.request({
    repo: run.repo,
    text: first.body,
    title: task?.title,
    worker: undefined,
    runtime: run.runtime,
    mode: run.mode,
    onFull: "queue",
    requestId,
    resumes: undefined,
  });
  return accepted.runId;
}

/** Continues a blocked run's conversation: the former process is proven over, then a new launch carries the text. */
export async function resumeRun(
  context: DispatchContext,
  dispatcher: Dispatcher,
  runId: string,
  text: string | undefined,
): Promise<Run> {
  const { store } = context.fleet;
  const run = await findRun(store.db, runId);
  if (run.state !== "blocked") {
    throw new OrchestratorError("not_claimable", `run ${run.run_id} is ${run.state}, not blocked`, {
      hint: "'orchestrator send' gives a follow-up to a run that is not blocked",
    });
  }
  if (!runtimeOf(context.fleet, run.runtime).capabilities.resumes) {
    throw new OrchestratorError(
      "not_claimable",
      `the ${run.runtime} runtime cannot continue a run`,
      {
        hint: `start it again with 'orchestrator run retry ${run.run_id}'`,
      },
    );
  }
  const value = await dispatcher.quietly(run.run_id, () => continueRun(context, run, text));
  dispatcher.wake(run.run_id);
  return value;
}

/** The run that has a message, and the message's number there. */
export interface Sent {
  readonly runId: RunId;
  readonly seq: number;
}

/** Gives a follow-up to a run: at the end of its turn while it lives, as a new run on the same worker once it has ended. */
export async function sendToRun(
  context: DispatchContext,
  dispatcher: Dispatcher,
  target: string,
  text: string,
  options: { live: boolean; requestId: string | undefined },
): Promise<Sent> {
  const { store } = context.fleet;
  const asked = { operation: "send", body: { target, text, live: options.live } };
  const request = options.requestId === undefined ? undefined : { id: options.requestId, ...asked };
  const former = await formerAnswer(store, request);
  if (former !== undefined) return { runId: former.runId, seq: former.seq ?? 1 };
  const run = await targetRun(context, target);
  const encoding = runtimeOf(context.fleet, run.runtime).encode(text, {
    runId: run.run_id,
    seq: 1,
    home: "/",
  });
  if (encoding.kind === "refused") {
    throw new OrchestratorError(
      "invalid_input",
      `the message cannot be delivered: ${encoding.reason}`,
    );
  }
  if (isTerminal(run.state)) {
    if (options.live) {
      throw new OrchestratorError(
        "not_claimable",
        `run ${run.run_id} has ended: there is no live window to paste into`,
        {
          hint: "leave out --live to continue the conversation in a new run",
        },
      );
    }
    const accepted = await dispatcher.request({
      repo: run.repo,
      text,
      title: undefined,
      worker: undefined,
      runtime: undefined,
      mode: run.mode,
      onFull: "queue",
      requestId: options.requestId,
      resumes: run,
      request: asked,
    });
    return { runId: accepted.runId, seq: 1 };
  }
  if (options.live) {
    return { runId: run.run_id, seq: await pasteLive(context, run, text, request) };
  }
  if (!runtimeOf(context.fleet, run.runtime).capabilities.resumes) {
    throw new OrchestratorError(
      "not_claimable",
      `run ${run.run_id} is ${run.state}, and the ${run.runtime} runtime takes nothing more while it works`,
      { hint: `send it again when the run has ended: 'orchestrator run wait ${run.run_id}'` },
    );
  }
  const { value } = await store.mutate<Answer>(
    async (tx) => {
      const now = await findRun(tx.db, run.run_id);
      if (now.state === "finishing" || now.state === "cancelling" || isTerminal(now.state)) {
        throw new OrchestratorError(
          "not_claimable",
          `run ${run.run_id} is ${now.state}: it takes no more messages`,
          {
            hint: `send it again when the run has ended: 'orchestrator run wait ${run.run_id}'`,
            retryable: true,
          },
        );
      }
      const seq = await insertMessage(tx, run.run_id, text);
      tx.event({
        kind: "run.message_queued",
        repo: run.repo,
        run_id: run.run_id,
        payload: { seq },
      });
      return { runId: run.run_id, assigned: [], seq };
    },
    { request },
  );
  dispatcher.nudge(run.run_id);
  return { runId: run.run_id, seq: value.seq ?? 1 };
}

/**
 * Pastes into the live window, on the operator's explicit word only, and only while the agent's registry says idle: during a dialog an Enter
 * would approve it. Returns the message's number; its receipt stays `typed_only` until the agent's hook shows the text.
 */
async function pasteLive(
  context: DispatchContext,
  run: Run,
  text: string,
  request: MutateOptions["request"],
): Promise<number> {
  const { fleet, connections } = context;
  const runtime = runtimeOf(fleet, run.runtime);
  if (!runtime.capabilities.livePaste || run.worker_id === null) {
    throw new OrchestratorError(
      "not_claimable",
      `the ${run.runtime} runtime takes no text in its window`,
    );
  }
  const refused = runtime.refusePaste(text);
  if (refused !== null) {
    throw new OrchestratorError("invalid_input", `the message cannot be pasted: ${refused}`, {
      hint: "leave out --live: the message is then delivered exactly when the turn ends",
    });
  }
  const transport = await connections.reach(run.worker_id);
  const session = sessionName(run.repo);
  const probe = await fleet.provisioner.probe(transport, session, {
    run: run.run_id,
    launch: run.launch,
  });
  if (probe.agent?.alive !== true || probe.registry?.status !== "idle") {
    throw new OrchestratorError(
      "needs_person",
      `the agent of run ${run.run_id} is not idle: nothing was typed`,
      {
        hint: "leave out --live: the message is then delivered when the turn ends",
        details: { registry: probe.registry?.status ?? "absent" },
      },
    );
  }
  const { hash, bytes } = hashText(text);
  // Before the first key: what was typed under this request id is never typed again.
  const { value, replayed } = await fleet.store.mutate<Answer>(
    async (tx) => {
      const seq = await insertMessage(tx, run.run_id, text);
      await tx.db
        .updateTable("messages")
        .set({
          launch: run.launch,
          sent_hash: hash,
          sent_bytes: bytes,
          form: "exact",
          receipt: "typed_only",
        })
        .where("run_id", "=", run.run_id)
        .where("seq", "=", seq)
        .execute();
      return { runId: run.run_id, assigned: [], seq };
    },
    { request },
  );
  if (!replayed) {
    await fleet.provisioner.paste(transport, session, text);
    await fleet.provisioner.sendKeys(transport, session, ["Enter"]);
  }
  return value.seq ?? 1;
}
