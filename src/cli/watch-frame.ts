import { isTerminal } from "../domain/run.ts";
import type { RunView, StatusView, WorkerView } from "../operations/views.ts";
import { cleanLine } from "./clean.ts";
import { stateColour, type Palette } from "./colour.ts";
import { formatAge, plural } from "./format.ts";
import type { Frame } from "./screen.ts";
import { table } from "./table.ts";

export interface Fleet {
  readonly workers: readonly WorkerView[];
  readonly runs: readonly RunView[];
}

export interface Watcher extends Disposable {
  show(fleet: Fleet): void;
  /** The fleet cannot be seen now. */
  lost(why: string): void;
}

/** How old a reading may be before its age is worth showing (ms). */
const FRESH_MS = 45_000;

/** The page as lines; pure. */
export function frameOf(
  fleet: Fleet,
  now: number,
  palette: Palette,
  repo: string | undefined,
  note?: string,
): Frame {
  const workers = table(
    ["WORKER", "STATE", "AGENT", "SINCE", "RUN", "WHY"],
    fleet.workers.map((worker) => [
      worker.worker,
      worker.idle ? "idle" : worker.allocation,
      worker.status?.status ?? "-",
      sinceOf(worker.status, now),
      worker.run_id ?? "-",
      [worker.reason, reasonOf(worker.status), worker.idle ? null : worker.not_idle_because].find(
        (why) => why !== null && why !== "",
      ) ?? "",
    ]),
  );
  const live = fleet.runs.filter((run) => !isTerminal(run.state));
  const runs = table(
    ["RUN", "STATE", "WORKER", "AGENT", "SINCE", "WHY"],
    live.map((run) => [
      run.run_id,
      run.state,
      run.worker ?? "-",
      run.status?.status ?? "-",
      sinceOf(run.status, now),
      run.state_reason ?? reasonOf(run.status) ?? run.reason ?? run.task,
    ]),
  );
  const states = [
    "",
    "",
    ...fleet.workers.map(({ status, idle }) => (idle ? "free" : (status?.status ?? ""))),
    "",
    "",
    ...live.map((run) => (run.state === "blocked" ? "blocked" : (run.status?.status ?? run.state))),
  ];
  const title = `${repo === undefined ? "fleet" : repo}: ${plural(fleet.workers.length, "worker")}, ${plural(live.length, "live run")}`;
  return {
    lines: [note === undefined ? title : `${title}; ${note}`, ...workers, "", ...runs],
    paint: (line, index) =>
      index < 2 || line === "" || line.startsWith("RUN  ")
        ? palette.bold(line)
        : stateColour(palette, states[index] ?? "")(line),
  };
}

function reasonOf(status: StatusView | null): string | null {
  if (status === null) return null;
  const reason = cleanLine(status.reason, 200);
  return status.age_ms > FRESH_MS ? `${reason} (seen ${formatAge(status.age_ms)} ago)` : reason;
}

/** Coarse, so that nothing is repainted every second: how long it has been so. */
function sinceOf(status: StatusView | null, now: number): string {
  if (status === null) return "-";
  const ms = now - status.since;
  return ms < 60_000 ? "<1m" : formatAge(ms);
}
