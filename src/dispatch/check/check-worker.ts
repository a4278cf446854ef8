import type { StatusVerdict } from "../../domain/status.ts";
import type { ProviderState } from "../../domain/worker.ts";
import { sessionName } from "../../fleet/context.ts";
import { findWorker, type Worker } from "../../fleet/workers.ts";
import type { Transport } from "../../transport/transport.ts";
import type { DispatchContext } from "../context.ts";
import { findRun, liveRunOf, type Run } from "../runs.ts";
import { statusOf } from "../status.ts";
import { correctWindow } from "../window.ts";
import { judge, type Checked, type Found, type Judgement, type Look } from "./judge.ts";
import { actAt, listWindows, type LookOptions } from "./look.ts";

/**
 * A name and the status it follows from travel different ways: what still disagrees after this time (ms), with nothing else having
 * changed, is no change under way.
 */
const SETTLE_MS = 1_500;

/** Looks at one worker, mends what the facts prove to be wrong, and says how it is. Never rejects for what the worker does. */
export async function checkWorker(
  context: DispatchContext,
  worker: Worker,
  machine: ProviderState | null,
  options: LookOptions,
): Promise<Checked> {
  const before = await runOf(context, worker);
  let result: Checked | undefined;
  const unread = await actAt(context, worker, before, machine, options, async (to, signal) => {
    const moment = await read(context, worker, machine, to, signal);
    const { differs, guardMissing, found } = moment;
    // As it is if the time ends before anything could be mended.
    const wrong: Found[] = [];
    if (differs) wrong.push("differs");
    if (guardMissing) wrong.push("guard_missing");
    result = checked(moment, [...found, ...wrong]);
    if (guardMissing) result = await mendGuard(context, to, result);
    if (differs) result = await mendName(context, to, { result, moment, machine }, signal);
  });
  if (result !== undefined) return result;
  const look = unread ?? { kind: "unreachable", why: "nothing was read" };
  const moment = await judged(context, worker, machine, look);
  return checked(moment, moment.found);
}

/** What is so at a worker, as seen at one moment and stored right after. */
interface Moment extends Judgement {
  readonly worker: Worker;
  readonly run: Run | null;
  readonly machine: ProviderState | null;
  readonly verdict: StatusVerdict | null;
  readonly look: Look;
}

async function read(
  context: DispatchContext,
  worker: Worker,
  machine: ProviderState | null,
  transport: Transport,
  signal: AbortSignal,
): Promise<Moment> {
  return judged(context, worker, machine, await listWindows(transport, worker, signal));
}

async function judged(
  context: DispatchContext,
  asked: Worker,
  machine: ProviderState | null,
  look: Look,
): Promise<Moment> {
  const { clock, store } = context.fleet;
  const worker = await findWorker(store.db, asked.worker_id);
  const run = await runOf(context, worker);
  const connection = look.kind === "unreachable" ? "down" : "up";
  const verdict =
    run === null ? null : statusOf(run, { now: clock.now(), provider: machine, connection });
  return { worker, run, machine, verdict, look, ...judge(worker, run, verdict, look) };
}

/** Its live run, or its last one. */
async function runOf(context: DispatchContext, worker: Worker): Promise<Run | null> {
  const { db } = context.fleet.store;
  const live = await liveRunOf(db, worker.worker_id);
  if (live !== undefined) return live;
  return worker.last_run_id === null ? null : findRun(db, worker.last_run_id);
}

function checked(moment: Moment, found: readonly Found[]): Checked {
  const { worker, run, machine, verdict, look, window } = moment;
  const isAsleep = machine === "warm" || machine === "cold";
  const why = "why" in look ? [look.why] : [];
  return {
    worker,
    run,
    machine,
    window,
    was: null,
    status: verdict?.status ?? null,
    source: verdict?.source ?? (look.kind === "windows" ? "tmux" : "controller"),
    reason: [verdict?.reason ?? "no run yet", ...why].join("; "),
    ageMs: verdict?.ageMs ?? 0,
    found: found.map((word) => (word === "left_alone" && isAsleep ? "asleep" : word)),
  };
}

const replaced = (result: Checked, word: Found, by: Found): Checked => ({
  ...result,
  found: result.found.map((each) => (each === word ? by : each)),
});

async function mendGuard(
  context: DispatchContext,
  transport: Transport,
  result: Checked,
): Promise<Checked> {
  const session = sessionName(result.worker.repo);
  const answer = await context.fleet.provisioner.keepGuard(transport, session);
  // One that runs by now was only late.
  if (answer !== "running") return replaced(result, "guard_missing", "guard_restarted");
  return { ...result, found: result.found.filter((word) => word !== "guard_missing") };
}

async function mendName(
  context: DispatchContext,
  transport: Transport,
  former: { result: Checked; moment: Moment; machine: ProviderState | null },
  signal: AbortSignal,
): Promise<Checked> {
  const { result, moment, machine } = former;
  const { worker } = result;
  await context.fleet.clock.sleep(SETTLE_MS, signal);
  const now = await read(context, worker, machine, transport, signal);
  const guard = result.found.filter((word) => word.startsWith("guard_"));
  if (!now.differs || now.run === null || now.verdict === null) {
    return checked(now, [...now.found, ...guard]);
  }
  const isSettled =
    now.window === moment.window &&
    now.run.run_id === moment.run?.run_id &&
    now.verdict.status === moment.verdict?.status;
  const shown = now.window ?? "";
  const { run, verdict } = now;
  if (!isSettled || !(await correctWindow(context, transport, { run, shown, verdict }))) {
    return checked(now, [...now.found, "differs", ...guard]);
  }
  const after = await read(context, worker, machine, transport, signal);
  return { ...checked(after, [...after.found, "corrected", ...guard]), was: shown };
}
