import { OrchestratorError } from "../domain/errors.ts";
import { asRunId, asTaskId, type RunId } from "../domain/ids.ts";
import { cleanText } from "../domain/text.ts";
import { isTerminal } from "../domain/run.ts";
import { providerOf, repoConfig, runtimeOf, type FleetContext } from "../fleet/context.ts";
import { findWorker, findWorkerByName, type Worker } from "../fleet/workers.ts";
import { assignQueued, type PoolFacts } from "./assign.ts";
import { NO_EVIDENCE, type Evidence } from "../runtimes/evidence.ts";
import { evidenceOf, findRun, type Run } from "./runs.ts";
import type { Store, Tx } from "../store/store.ts";

export interface DispatchInput {
  readonly repo: string;
  readonly text: string;
  readonly title: string | undefined;
  readonly worker: string | undefined;
  readonly runtime: string | undefined;
  readonly mode: string | undefined;
  readonly onFull: "queue" | "fail";
  readonly requestId: string | undefined;
  /** The ended run whose conversation this one continues, on its worker. */
  readonly resumes: Run | undefined;
  /** Under which operation and with which content the request id is kept. Default: a dispatch of this input. */
  readonly request?: { readonly operation: string; readonly body: unknown } | undefined;
}

/** What is kept under a request id. */
export interface Answer {
  readonly runId: RunId;
  readonly assigned: readonly RunId[];
  /** Of a follow-up to a live run: its message; else the run's first. */
  readonly seq?: number;
}

export interface Accepted {
  readonly runId: RunId;
  readonly replayed: boolean;
  /** Runs that got a worker in the same transaction. */
  readonly assigned: readonly RunId[];
}

/**
 * Accepts a task: one transaction writes task, run and first message, and gives the pool's idle workers to its queue. Everything that can
 * be refused is refused before. The same request id with the same input returns the first answer, whatever has changed since.
 */
export async function requestRun(
  context: FleetContext,
  input: DispatchInput,
  readFacts: () => Promise<PoolFacts>,
): Promise<Accepted> {
  const { requestId, resumes, request, ...rest } = input;
  const kept =
    requestId === undefined
      ? undefined
      : {
          id: requestId,
          ...(request ?? {
            operation: "dispatch",
            body: { ...rest, resumes: resumes?.run_id ?? null },
          }),
        };
  const former = await formerAnswer(context.store, kept);
  if (former !== undefined) return { ...former, replayed: true };
  const repo = repoConfig(context, input.repo);
  const runtime = runtimeOf(context, input.resumes?.runtime ?? input.runtime ?? repo.runtime);
  const provider = providerOf(context, repo.provider);
  const mode =
    input.mode ?? repo.permissionMode ?? runtime.defaultMode(provider.capabilities.sharesMachine);
  if (!runtime.capabilities.modes.includes(mode)) {
    throw new OrchestratorError(
      "invalid_input",
      `runtime ${runtime.id} has no permission mode '${cleanText(mode, 40)}'`,
      {
        hint: `one of: ${runtime.capabilities.modes.join(", ")}`,
      },
    );
  }
  const encoding = runtime.encode(input.text, { runId: "run-check", seq: 1, home: "/home/check" });
  if (encoding.kind === "refused") {
    throw new OrchestratorError(
      "invalid_input",
      `the task cannot be delivered: ${encoding.reason}`,
    );
  }
  await context.resolveAuth(repo, runtime);
  if (input.worker !== undefined) await refuseForeignWorker(context, input.repo, input.worker);

  const facts = await readFacts();
  const { value, replayed } = await context.store.mutate(
    async (tx) => {
      const runId = await insertRun(tx, context, input, runtime.id, mode);
      const assigned = await assignQueued(tx, context, input.repo, facts);
      if (input.onFull === "fail" && !assigned.some((run) => run.run_id === runId)) {
        const run = await findRun(tx.db, runId);
        throw new OrchestratorError(
          "nothing_available",
          `no worker of ${input.repo} is free: ${run.allocation_reason ?? "the pool is full"}`,
          {
            hint: "leave out '--on-full fail' to queue the task",
            retryable: true,
          },
        );
      }
      return { runId, assigned: assigned.map((run) => run.run_id) };
    },
    { request: kept },
  );
  return { runId: asRunId(value.runId), replayed, assigned: value.assigned };
}

/** The answer kept under this request id, if there is one; `request_mismatch` when it was given for something else. */
export async function formerAnswer(
  store: Store,
  request: { readonly id: string; readonly operation: string; readonly body: unknown } | undefined,
): Promise<Answer | undefined> {
  if (request === undefined) return undefined;
  const known = await store.db
    .selectFrom("requests")
    .select("request_id")
    .where("request_id", "=", request.id)
    .executeTakeFirst();
  if (known === undefined) return undefined;
  const { value } = await store.mutate<Answer>(
    async () => {
      throw new OrchestratorError("internal", `request id ${request.id} was forgotten just now`, {
        retryable: true,
      });
    },
    { request, quiet: true },
  );
  return value;
}

async function refuseForeignWorker(
  context: FleetContext,
  repo: string,
  name: string,
): Promise<Worker> {
  const worker = await findWorkerByName(context.store.db, name);
  if (worker.repo === repo) return worker;
  throw new OrchestratorError(
    "invalid_input",
    `worker ${name} belongs to the pool ${worker.repo}, not to ${repo}`,
  );
}

async function insertRun(
  tx: Tx,
  context: FleetContext,
  input: DispatchInput,
  runtime: string,
  mode: string,
): Promise<RunId> {
  const runId = asRunId(context.ids.next("run"));
  const taskId = input.resumes?.task_id ?? asTaskId(context.ids.next("task"));
  if (input.resumes === undefined) {
    await tx.db
      .insertInto("tasks")
      .values({
        task_id: taskId,
        repo: input.repo,
        title: cleanText(input.title ?? input.text, 200),
        body: input.text,
        state: "open",
        reason: null,
        review: "none",
        attempts: 0,
        max_attempts: 1,
        cancel_requested: 0,
        created_at: tx.now,
        updated_at: tx.now,
      })
      .execute();
    tx.event({ kind: "task.open", repo: input.repo, task_id: taskId });
  }
  const wanted = await wantedWorker(tx, input);
  await tx.db
    .insertInto("runs")
    .values({
      run_id: runId,
      task_id: taskId,
      repo: input.repo,
      state: "queued",
      reason: null,
      outcome: null,
      worker_id: null,
      epoch: null,
      allocation_reason: null,
      wanted_worker: wanted,
      runtime,
      mode,
      runtime_session_id: input.resumes?.runtime_session_id ?? context.ids.uuid(),
      resumes: input.resumes?.run_id ?? null,
      launch: 0,
      launched_at: null,
      branch: input.resumes?.branch ?? null,
      base_commit: input.resumes?.base_commit ?? null,
      place: null,
      head_commit: null,
      evidence:
        input.resumes === undefined ? null : JSON.stringify(startingEvidence(input.resumes)),
      follow_generation: null,
      follow_offset: 0,
      report: null,
      unrescued: 0,
      request_id: input.requestId ?? null,
      request: JSON.stringify({
        title: input.title ?? null,
        worker: input.worker ?? null,
        onFull: input.onFull,
      }),
      created_at: tx.now,
      updated_at: tx.now,
      started_at: null,
      finished_at: null,
      not_before: null,
    })
    .execute();
  await tx.db
    .insertInto("messages")
    .values({
      run_id: runId,
      seq: 1,
      body: input.text,
      sent_hash: null,
      sent_bytes: null,
      form: null,
      launch: null,
      receipt: "queued",
      detail: null,
      created_at: tx.now,
      confirmed_at: null,
    })
    .execute();
  tx.event({
    kind: "run.queued",
    repo: input.repo,
    run_id: runId,
    task_id: taskId,
    payload: { worker: wanted },
  });
  return runId;
}

/** A continued conversation shows its cost from its beginning: what was shown so far is not this run's. */
function startingEvidence(former: Run): Evidence {
  return { ...NO_EVIDENCE, costShown: evidenceOf(former).costShown ?? null };
}

/** A follow-up goes to the worker that holds its conversation, as long as that worker was not given to another run since. */
async function wantedWorker(tx: Tx, input: DispatchInput): Promise<string | null> {
  if (input.resumes === undefined) return input.worker ?? null;
  const { resumes } = input;
  if (!isTerminal(resumes.state) || resumes.worker_id === null) {
    throw new OrchestratorError(
      "not_claimable",
      `run ${resumes.run_id} is ${resumes.state} and cannot be followed up`,
    );
  }
  if (evidenceOf(resumes).prompts.length === 0 && resumes.resumes === null) {
    throw new OrchestratorError(
      "not_claimable",
      `run ${resumes.run_id} ended before its agent had the task: there is no conversation to continue`,
      { hint: `start it again with 'orchestrator run retry ${resumes.run_id}'` },
    );
  }
  const worker = await findWorker(tx.db, resumes.worker_id);
  if (worker.allocation === "destroyed" || worker.last_run_id !== resumes.run_id) {
    throw new OrchestratorError(
      "not_claimable",
      `worker ${worker.name} no longer holds the conversation of ${resumes.run_id}`,
      {
        hint: "dispatch a new task instead",
      },
    );
  }
  return worker.name;
}
