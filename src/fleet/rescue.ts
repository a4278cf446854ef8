import { join } from "node:path";
import { OrchestratorError } from "../domain/errors.ts";
import type { RunId } from "../domain/ids.ts";
import type { Saved } from "../provisioner/provisioner.ts";
import type { Transport } from "../transport/transport.ts";
import type { FleetContext } from "./context.ts";
import { whyFull } from "./disk.ts";
import { Mirror } from "./mirror.ts";
import { snapshotPrefix } from "./snapshots.ts";
import { noteWorker, type Worker } from "./workers.ts";

export type Rescued =
  | { readonly kind: "rescued"; readonly saved: Saved; readonly snapshot: string | null }
  /** Something is not in the mirror: nothing may be reset or destroyed. */
  | { readonly kind: "not-rescued"; readonly reason: string; readonly saved: Saved | null };

/**
 * Saves everything in the worker's clone into the controller's mirror and proves it there: snapshot, bundle, fetch, look the
 * commits up, and read the clone's fingerprint again. Only when nothing changed meanwhile is the fingerprint recorded, which is
 * what later lets the clone be reset. Safe to repeat: refs are named by run, epoch and a rising number.
 */
export async function rescue(
  context: FleetContext,
  worker: Worker,
  run: { runId: RunId; epoch: number },
  transport: Transport,
): Promise<Rescued> {
  try {
    return await save(context, worker, run, transport);
  } catch (error) {
    // What the worker cannot read or git cannot take will not be better the next time; a cut connection may.
    if (!(error instanceof OrchestratorError) || error.retryable || error.code !== "internal")
      throw error;
    const full = await whyFull(transport, worker.name);
    return { kind: "not-rescued", reason: full ?? error.message, saved: null };
  }
}

/** Whether the clone is not as it was when it was last proven saved. One that cannot be read counts as changed. */
export async function isUnsaved(
  context: FleetContext,
  worker: Worker,
  transport: Transport,
): Promise<boolean> {
  try {
    const clone = await context.provisioner.fingerprint(transport, worker.repo);
    return clone !== null && clone !== worker.saved_fingerprint;
  } catch (error) {
    if (error instanceof OrchestratorError && error.code === "internal") return true;
    throw error;
  }
}

async function save(
  context: FleetContext,
  worker: Worker,
  run: { runId: RunId; epoch: number },
  transport: Transport,
): Promise<Rescued> {
  const { provisioner, store } = context;
  const mirror = new Mirror(context.mirrors, worker.repo);
  await mirror.ensure();
  // Above what the guard took by the worker's clock, so that the end of a run is its latest.
  const former = await mirror.snapshots(run.runId);
  const number = Math.max(context.clock.now(), (former.at(-1)?.number ?? 0) + 1);
  const prefix = snapshotPrefix(run.runId, run.epoch, number);
  const saved = await provisioner.save(transport, {
    epoch: run.epoch,
    run: run.runId,
    number,
    repo: worker.repo,
  });
  if (!saved.complete) {
    const first = saved.unsaved[0];
    const reason =
      first === undefined
        ? "the snapshot failed"
        : `${first.path} could not be saved: ${first.why}`;
    return { kind: "not-rescued", reason, saved };
  }
  context.failpoint("after-save");
  if (saved.refs.length > 0) {
    await fetchRefs(context, worker.repo, prefix, transport);
    if (!(await mirror.has(saved.refs.map((ref) => ref.sha)))) {
      return {
        kind: "not-rescued",
        reason: "the snapshot did not arrive whole in the mirror",
        saved,
      };
    }
  }
  const again = await provisioner.fingerprint(transport, worker.repo);
  if (saved.fingerprint === null || again !== saved.fingerprint) {
    return { kind: "not-rescued", reason: "the clone changed while it was saved", saved };
  }
  await store.mutate((tx) => noteWorker(tx, worker.worker_id, { saved_fingerprint: again }), {
    quiet: true,
  });
  return { kind: "rescued", saved, snapshot: worktreeCommit(saved, prefix) };
}

/** Brings the refs below the prefix from the worker's private store into the mirror; an error when they do not arrive whole. Idempotent. */
export async function fetchRefs(
  context: FleetContext,
  repo: string,
  prefix: string,
  transport: Transport,
): Promise<void> {
  const mirror = new Mirror(context.mirrors, repo);
  await mirror.ensure();
  await using stream = await context.provisioner.bundleRefs(transport, {
    repo,
    prefix,
    have: await mirror.tips(),
  });
  await mirror.takeBundle(stream.bytes, join(context.mirrors, `${context.ids.next("bundle")}.tmp`));
}

/** The commit that holds the main work tree, files not committed included; the head where nothing is beside it. */
function worktreeCommit(saved: Saved, prefix: string): string | null {
  const named = (name: string) => saved.refs.find((ref) => ref.name === `${prefix}/${name}`)?.sha;
  return named("work") ?? named("head") ?? saved.head;
}
