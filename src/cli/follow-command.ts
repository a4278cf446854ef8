import type { RunDetailView, RunView } from "../operations/views.ts";
import { cleanLine } from "./clean.ts";
import { paletteOf } from "./colour.ts";
import type { Context } from "./context.ts";
import { exitCodeOf, INTERRUPTED, showError, toJsonError } from "./errors.ts";
import { followRun, judge } from "./follow.ts";
import { plural } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import { openProgress } from "./progress.ts";
import type { Session } from "./session.ts";
import { asRunDetail, asRuns } from "./views.ts";

export interface FollowChoice {
  readonly until: "delivered" | "ended";
  readonly json: boolean;
  /** Events up to this one are old news. */
  readonly after: number;
  /** Number of the message that is followed until it is delivered, when it is not the run's first. */
  readonly message?: number;
  /** What Ctrl-C leaves behind, when it is not the usual. */
  readonly interruptedNote?: string;
}

/**
 * Follows a run that was just asked for, and says how it came out; resolves with the exit code. Ctrl-C stops following,
 * never the run. As JSON: `{"event":...}` lines, then the run with `outcome`, `position` while queued, and `error`
 * where the exit code is not 0.
 */
export async function followAndReport(
  context: Context,
  session: Session,
  accepted: RunView,
  choice: FollowChoice,
): Promise<number> {
  const { io } = context;
  const signal = context.interruption();
  // The answer already says that no worker is free: the claim is made with the request.
  if (accepted.state === "queued" && choice.until === "delivered") {
    return reportRun(context, session, await detailOf(session, accepted.run_id), choice);
  }
  const progress = await openProgress(context, choice.json);
  let run: RunDetailView | undefined;
  try {
    run = await followRun(context, session, {
      runId: accepted.run_id,
      after: choice.after,
      until: choice.until,
      message: choice.message,
      signal,
      show: progress.show,
    });
  } finally {
    progress.end();
  }
  if (run !== undefined) return reportRun(context, session, run, choice);
  const note = choice.interruptedNote ?? "the run goes on";
  if (choice.json) printJson(io, { run_id: accepted.run_id, outcome: "interrupted", note });
  else {
    io.writeError(`\nstopped following; ${note}\n`);
    io.writeError(`hint: orchestrator status ${accepted.run_id}\n`);
  }
  return INTERRUPTED;
}

const detailOf = async (session: Session, runId: string): Promise<RunDetailView> =>
  asRunDetail(await session.call("run.show", { run_id: runId }, { repeatable: true }));

async function reportRun(
  context: Context,
  session: Session,
  run: RunDetailView,
  choice: FollowChoice,
): Promise<number> {
  const { io } = context;
  const { outcome, error } = judge(run, choice.message);
  const position = run.state === "queued" ? await positionOf(session, run) : undefined;
  if (choice.json) {
    printJson(io, {
      ...run,
      outcome,
      ...(position === undefined ? {} : { position }),
      ...(error === undefined ? {} : { error: toJsonError(error) }),
    });
    return error === undefined ? 0 : exitCodeOf(error.code);
  }
  if (position !== undefined) {
    printLine(
      io,
      `queued    position ${position} of the pool ${run.repo}: ${cleanLine(run.reason ?? "no worker is free")}`,
    );
  }
  printMonitoring(context, run, choice.message);
  return error === undefined ? 0 : showError(io, error, false);
}

/** First come, first served: the place is the number of queued runs of the pool up to this one. */
async function positionOf(session: Session, run: RunView): Promise<number> {
  const live = asRuns(
    await session.call(
      "run.list",
      { repo: run.repo, live: true, limit: 1_000 },
      { repeatable: true },
    ),
  );
  const before = live.filter(
    (other) =>
      other.state === "queued" &&
      (other.created_at < run.created_at ||
        (other.created_at === run.created_at && other.run_id < run.run_id)),
  );
  return before.length + 1;
}

function printMonitoring(context: Context, run: RunDetailView, message: number | undefined): void {
  const { io } = context;
  const palette = paletteOf(io);
  const shown =
    run.messages.find(({ seq }) => seq === message) ??
    run.messages.findLast(({ launch }) => launch === run.launch) ??
    run.messages[0];
  const text = shown === undefined ? "" : ` (${plural(shown.bytes, "byte")}: ${shown.receipt})`;
  printLine(io, `${palette.bold("run")}       ${run.run_id}${text}`);
  printLine(io, `${palette.bold("status")}    orchestrator status ${run.run_id}`);
  if (run.attach !== null) printLine(io, `${palette.bold("watch")}     ${cleanLine(run.attach)}`);
}
