import { OrchestratorError } from "../domain/errors.ts";
import { isName, splitWorkerName } from "../domain/names.ts";
import type { Session } from "./session.ts";
import { asEvents } from "./views.ts";

/** A run's id, a worker's or a repo's name, or `invalid_input`: checked before a controller is started for it. */
export function targetName(word: string, what = "target"): string {
  if (isName(word)) return word;
  throw new OrchestratorError(
    "invalid_input",
    `${what} ${JSON.stringify(word.slice(0, 60))} is no name of a run, worker or repo`,
    { hint: "'orchestrator status' shows them" },
  );
}

/** A worker's name, or `invalid_input`. */
export function workerNamed(word: string): string {
  if (splitWorkerName(word) !== undefined) return word;
  throw new OrchestratorError(
    "invalid_input",
    `${JSON.stringify(word.slice(0, 60))} is no worker's name`,
    { hint: "a worker is called after its pool and number, for example kite-1" },
  );
}

/** Place of the run's newest event: what comes later is news. */
export async function lastEventOf(session: Session, runId: string): Promise<number> {
  let place = 0;
  for (;;) {
    const events = asEvents(
      await session.call(
        "events.read",
        { after: place, run_id: runId, limit: 10_000 },
        { repeatable: true },
      ),
    );
    place = events.at(-1)?.seq ?? place;
    if (events.length < 10_000) return place;
  }
}
