import type { RunId } from "../domain/ids.ts";
import { cleanText } from "../domain/text.ts";
import type { Clock } from "../platform/clock.ts";
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

/** Steps that follow each other faster than anybody reads them are written together (ms). */
const GATHER_MS = 40;

/**
 * Records the steps of bringing a run to its launch: rows for `run show`, events for whoever follows. Writes in the background, in
 * order, so that recording never delays the next step; `flush` waits until all is written and reports a failure.
 */
export class StepLog {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #run: Run;
  readonly attempt: number;
  #pending: StepFact[] = [];
  #isGathering = false;
  #writing: Promise<void> = Promise.resolve();
  #failure: unknown;

  constructor({ store, clock }: { store: Store; clock: Clock }, run: Run, attempt: number) {
    this.#store = store;
    this.#clock = clock;
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
    if (!this.#isGathering) void this.#gather();
  }

  /** Another write that belongs to these: `flush` waits for it, and reports its failure, too. */
  also(written: Promise<unknown>): void {
    const before = this.#writing;
    this.#writing = written.then(
      () => before,
      (error: unknown) => {
        this.#failure ??= error;
        return before;
      },
    );
  }

  /** What is left is handed to the store before this returns its promise: a mutation asked for next comes after it. */
  async flush(): Promise<void> {
    this.#write();
    await this.#writing;
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #gather(): Promise<void> {
    this.#isGathering = true;
    await this.#clock.sleep(GATHER_MS);
    this.#isGathering = false;
    this.#write();
  }

  #write(): void {
    const facts = this.#pending.splice(0);
    if (facts.length === 0) return;
    const written = this.#store.mutate(
      async (tx) => {
        const last = new Map(facts.map((fact) => [fact.step, fact]));
        for (const fact of last.values()) {
          await upsertStep(tx, this.#run.run_id, this.attempt, fact);
        }
        for (const fact of facts) {
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
    this.also(written);
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
