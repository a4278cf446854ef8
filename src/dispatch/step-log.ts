import type { RunId } from "../domain/ids.ts";
import { cleanText } from "../domain/text.ts";
import type { JobLine } from "../provisioner/provisioner.ts";
import type { StepsTable } from "../store/schema.ts";
import type { Store } from "../store/store.ts";
import type { Run } from "./runs.ts";

interface StepFact {
  readonly step: string;
  readonly state: StepsTable["state"];
  readonly ms: number | null;
  readonly exitCode: number | null;
  readonly detail: string | null;
}

/**
 * Records the steps of bringing a run to its launch: rows for `run show`, events for whoever follows. Writes in the background, in
 * order, so that recording never delays the next step; `flush` waits until all is written and reports a failure.
 */
export class StepLog {
  readonly #store: Store;
  readonly #run: Run;
  readonly attempt: number;
  #pending: StepFact[] = [];
  #writing: Promise<void> | undefined;
  #failure: unknown;

  constructor(store: Store, run: Run, attempt: number) {
    this.#store = store;
    this.#run = run;
    this.attempt = attempt;
  }

  /** Records a step of our own: `running`, then `done` or `failed`, whatever comes of it. */
  async measure<T>(now: () => number, step: string, action: () => Promise<T>): Promise<T> {
    const began = now();
    this.note({ step, state: "running", ms: null, exitCode: null, detail: null });
    try {
      const value = await action();
      this.note({ step, state: "done", ms: now() - began, exitCode: null, detail: null });
      return value;
    } catch (error) {
      const detail = error instanceof Error ? cleanText(error.message, 300) : null;
      this.note({ step, state: "failed", ms: now() - began, exitCode: null, detail });
      throw error;
    }
  }

  /** Records a line of a worker's job. */
  take(line: JobLine): void {
    switch (line.kind) {
      case "start":
        return this.note({
          step: line.step,
          state: "running",
          ms: null,
          exitCode: null,
          detail: null,
        });
      case "done":
        return this.note({
          step: line.step,
          state: "done",
          ms: line.ms,
          exitCode: 0,
          detail: null,
        });
      case "skip":
        return this.note({
          step: line.step,
          state: "skipped",
          ms: line.ms,
          exitCode: 0,
          detail: cleanText(line.why, 300),
        });
      case "fail":
        return this.note({
          step: line.step,
          state: "failed",
          ms: line.ms,
          exitCode: line.code,
          detail: null,
        });
      case "worker":
      case "fact":
      case "tail":
        return;
    }
  }

  note(fact: StepFact): void {
    this.#pending.push(fact);
    this.#writing ??= this.#write();
  }

  async flush(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #write(): Promise<void> {
    // One turn later, so that what is noted together is committed together.
    await Promise.resolve();
    try {
      while (this.#pending.length > 0) {
        const facts = this.#pending.splice(0);
        await this.#store.mutate(
          async (tx) => {
            for (const fact of facts) {
              await upsertStep(tx, this.#run.run_id, this.attempt, fact);
              tx.event({
                kind: "run.step",
                repo: this.#run.repo,
                run_id: this.#run.run_id,
                worker_id: this.#run.worker_id ?? undefined,
                payload: { step: fact.step, state: fact.state, ms: fact.ms, detail: fact.detail },
              });
            }
          },
          { quiet: true },
        );
      }
    } catch (error) {
      this.#failure = error;
    } finally {
      this.#writing = undefined;
    }
  }
}

async function upsertStep(
  tx: Parameters<Parameters<Store["mutate"]>[0]>[0],
  runId: RunId,
  attempt: number,
  fact: StepFact,
): Promise<void> {
  const ended = fact.state === "running" ? null : tx.now;
  await tx.db
    .insertInto("steps")
    .values({
      run_id: runId,
      attempt,
      step: fact.step,
      state: fact.state,
      exit_code: fact.exitCode,
      detail: fact.detail,
      started_at: tx.now - (fact.ms ?? 0),
      ended_at: ended,
    })
    .onConflict((conflict) =>
      conflict.columns(["run_id", "attempt", "step"]).doUpdateSet({
        state: fact.state,
        exit_code: fact.exitCode,
        detail: fact.detail,
        ended_at: ended,
      }),
    )
    .execute();
}
