import { cleanText } from "../domain/text.ts";
import { repoConfig, runtimeOf } from "../fleet/context.ts";
import type { WorkerFile } from "../provisioner/provisioner.ts";
import type { WorkerLine, WorkSignal } from "../runtimes/signal.ts";
import { workSignals } from "../runtimes/worker-signals.ts";
import type { Tx } from "../store/store.ts";
import type { DispatchContext } from "./context.ts";
import type { Run } from "./runs.ts";

/** How the guard watches the work of a run, and what becomes of the news it tells. */

/** Minutes without a commit after which a run's work is overdue; 0: its agent cannot be told, or there is no rule. */
export function commitRuleMinutes(context: DispatchContext, run: Run): number {
  const runtime = runtimeOf(context.fleet, run.runtime);
  return runtime.capabilities.takesInstructions
    ? repoConfig(context.fleet, run.repo).commitRule.minutes
    : 0;
}

/** The file `watch` of a launch (provision/README.md, "The work"). */
export function watchFile(context: DispatchContext, run: Run): WorkerFile {
  const { snapshots } = repoConfig(context.fleet, run.repo);
  const seconds = (minutes: number) => (minutes === 0 ? 0 : Math.max(1, Math.round(minutes * 60)));
  const words = [
    run.epoch ?? 0,
    run.repo,
    seconds(snapshots.everyMinutes),
    seconds(commitRuleMinutes(context, run)),
    snapshots.push,
  ];
  return { name: "watch", content: Buffer.from(`${words.join(" ")}\n`), mode: 0o600 };
}

/** Events for what the guard told of the work in these lines of the run, in the transaction that takes the lines. */
export function noteWork(tx: Tx, run: Run, lines: readonly WorkerLine[]): void {
  for (const signal of lines.flatMap(workSignals)) {
    const { kind, payload } = describe(signal);
    tx.event({
      kind,
      repo: run.repo,
      run_id: run.run_id,
      worker_id: run.worker_id ?? undefined,
      payload,
    });
  }
}

function describe(signal: WorkSignal): { kind: string; payload: Record<string, unknown> } {
  const clean = (names: readonly string[]) => names.map((name) => cleanText(name, 200));
  switch (signal.kind) {
    case "snapshot_taken":
      return {
        kind: "run.snapshot_taken",
        payload: {
          number: signal.number,
          epoch: signal.epoch,
          moved: signal.moved,
          pushed: cleanText(signal.pushed, 200),
          skipped: clean(signal.skipped),
          skipped_total: signal.skippedTotal,
          unsaved: clean(signal.unsaved),
          unsaved_total: signal.unsavedTotal,
        },
      };
    case "snapshot_failed":
      return { kind: "run.snapshot_failed", payload: { reason: cleanText(signal.reason, 200) } };
    case "commit_overdue":
      return { kind: "run.commit_overdue", payload: { uncommitted_ms: signal.uncommittedMs } };
    case "committed":
      return { kind: "run.committed", payload: {} };
  }
}
