import { z } from "zod";
import { OrchestratorError } from "../domain/errors.ts";
import { runtimeOf, repoConfig, sessionName } from "../fleet/context.ts";
import { findWorker } from "../fleet/workers.ts";
import type { Prepared } from "../fleet/prepare.ts";
import type { OpenStart, StartResult, WorkerFile } from "../provisioner/provisioner.ts";
import { hashText } from "../runtimes/fold.ts";
import type { Encoding, LaunchPlan } from "../runtimes/runtime.ts";
import { execScript } from "../provisioner/exec-script.ts";
import type { Transport } from "../transport/transport.ts";
import type { DispatchContext } from "./context.ts";
import { commitInstructions } from "./commit-rule.ts";
import { watchFile } from "./watch-work.ts";
import { evidenceOf, findRun, messageOf, type Message, type Run } from "./runs.ts";

const place = z.object({
  home: z.string(),
  uid: z.number(),
  bootId: z.string(),
  path: z.string(),
  base: z.string().nullable(),
  branch: z.string().nullable(),
});

/** Where the run lives on its worker. */
export function placeOf(run: Run): Prepared {
  if (run.place === null)
    throw new OrchestratorError("internal", `run ${run.run_id} was never prepared`);
  return place.parse(JSON.parse(run.place));
}

/**
 * Starts the run's latest intended launch, or finds it started: the gate on the worker decides, so calling again is safe at any time.
 * Records first what text the agent will be shown to have received.
 */
export async function ensureStarted(
  context: DispatchContext,
  run: Run,
  transport: Transport,
  ahead?: OpenStart,
): Promise<StartResult> {
  const { fleet } = context;
  const message = await messageOf(fleet.store.db, run.run_id, run.launch);
  const files = await launchFiles(context, run, message);
  fleet.failpoint("before-start");
  const epoch = run.epoch ?? 0;
  const fits = ahead?.launch === run.launch && ahead.epoch === epoch;
  const result =
    (fits ? await ahead.send(files) : null) ??
    (await fleet.provisioner.start(transport, {
      epoch,
      run: run.run_id,
      launch: run.launch,
      session: sessionName(run.repo),
      files,
    }));
  fleet.failpoint("after-start");
  return result;
}

/** What never got a prompt, in this run or the one it follows, has no conversation that could be continued. */
async function hasConversation(context: DispatchContext, run: Run): Promise<boolean> {
  if (evidenceOf(run).prompts.length > 0) return true;
  if (run.resumes === null) return false;
  const former = await findRun(context.fleet.store.db, run.resumes);
  return former.runtime_session_id === run.runtime_session_id;
}

async function launchFiles(
  context: DispatchContext,
  run: Run,
  message: Message | undefined,
): Promise<WorkerFile[]> {
  const { fleet } = context;
  const runtime = runtimeOf(fleet, run.runtime);
  const { home, uid, path } = placeOf(run);
  const encoding = message === undefined ? undefined : encodeMessage(context, run, message, home);
  if (encoding?.kind === "refused") {
    throw new OrchestratorError(
      "delivery_unconfirmed",
      `the message cannot be delivered: ${encoding.reason}`,
    );
  }
  const encoded = encoding?.message ?? null;
  if (message !== undefined) await recordEncoding(context, run, message, encoding);
  const seq = message?.seq ?? 0;
  const worker = run.worker_id === null ? null : await findWorker(fleet.store.db, run.worker_id);
  const plan = runtime.launch({
    runId: run.run_id,
    launch: run.launch,
    seq,
    runtimeSessionId: run.runtime_session_id ?? "",
    resume: await hasConversation(context, run),
    message: encoded,
    mode: run.mode,
    instructions: commitInstructions(context, run),
    flags: repoConfig(fleet, run.repo).flags,
    cwd: path,
    home,
    root: uid === 0,
    worker: worker?.name ?? "",
  });
  const files = toFiles(
    run,
    plan,
    path,
    encoded === null ? null : { seq, sent: encoded.sent, file: encoded.file },
    repoConfig(fleet, run.repo).env,
  );
  return [...files, watchFile(context, run)];
}

function toFiles(
  run: Run,
  plan: LaunchPlan,
  cwd: string,
  message: { seq: number; sent: string; file: string | null } | null,
  repoEnv: Readonly<Record<string, string>>,
): WorkerFile[] {
  const bytes = (text: string) => new Uint8Array(Buffer.from(text));
  const argument = message === null ? null : `prompt-${run.launch}`;
  const files: WorkerFile[] = Object.entries(plan.files).map(([name, content]) => ({
    name,
    content: bytes(content),
    mode: 0o600,
  }));
  if (message !== null && argument !== null) {
    files.push({ name: argument, content: bytes(message.sent), mode: 0o600 });
    if (message.file !== null) {
      files.push({ name: `message-${message.seq}`, content: bytes(message.file), mode: 0o600 });
    }
  }
  const script = execScript({
    cwd,
    env: { ...plan.env, ...repoEnv },
    argv: plan.argv,
    auth: run.repo,
    message:
      message !== null && argument !== null && plan.appendMessage
        ? { file: argument, bytes: Buffer.byteLength(message.sent) }
        : null,
  });
  files.push({ name: `exec-${run.launch}`, content: bytes(script), mode: 0o600 });
  return files;
}

/** What the agent is given for a message of a run, by its runtime. */
export function encodeMessage(
  context: DispatchContext,
  run: Run,
  message: Message,
  home: string,
): Encoding {
  const where = { runId: run.run_id, seq: message.seq, home };
  return runtimeOf(context.fleet, run.runtime).encode(message.body, where);
}

/** What the agent will be shown to have received, in the message's row; nothing of a refused message. */
export function sentColumns(
  encoding: Encoding | undefined,
): Partial<Pick<Message, "sent_hash" | "sent_bytes" | "form">> {
  if (encoding?.kind !== "encoded") return {};
  const { hash, bytes } = hashText(encoding.message.sent);
  return { sent_hash: hash, sent_bytes: bytes, form: encoding.message.form };
}

/** The first launch's was recorded with the intent; that of a pasted or further message may not be there yet. */
async function recordEncoding(
  context: DispatchContext,
  run: Run,
  message: Message,
  encoding: Encoding | undefined,
): Promise<void> {
  const columns = sentColumns(encoding);
  if (columns.sent_hash === undefined || columns.sent_hash === message.sent_hash) return;
  await context.fleet.store.mutate(
    (tx) =>
      tx.db
        .updateTable("messages")
        .set(columns)
        .where("run_id", "=", run.run_id)
        .where("seq", "=", message.seq)
        .execute(),
    { quiet: true },
  );
}
