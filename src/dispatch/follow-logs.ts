import { isTerminal } from "../domain/run.ts";
import { cleanText } from "../domain/text.ts";
import { parseLine } from "../runtimes/parse-line.ts";
import type { WorkerLine } from "../runtimes/signal.ts";
import type { StoredEvent } from "../store/store.ts";
import type { Transport } from "../transport/transport.ts";
import type { DispatchContext } from "./context.ts";
import { LogQueue } from "./log-queue.ts";
import { placeOf } from "./launch.ts";
import { findRun, type Run } from "./runs.ts";

export interface LogLine {
  readonly at: number;
  /** `run`: what the orchestrator did; `setup`: output of a step on the worker; `agent`: what the agent's hooks and launcher said. */
  readonly source: "run" | "setup" | "agent";
  readonly text: string;
}

/** Steps whose output is worth following. */
const SHOWN_STEPS: ReadonlySet<unknown> = new Set(["clone", "setup", "agent"]);
/** What is on its way when the end is known (ms). */
const GRACE_MS = 500;
const AGAIN_MS = 1_000;
const MAX_TEXT = 1_000;

/**
 * Everything about one run as it happens, from its beginning to its end: its events, the output of its set-up, the agent's own events. What a worker
 * that cannot be reached would say is left out, and comes when it can be reached again; the run's events always come. Ends with the run.
 */
export async function* followLogs(
  context: DispatchContext,
  runId: string,
  signal: AbortSignal,
): AsyncGenerator<LogLine> {
  const run = await findRun(context.fleet.store.db, runId);
  const ended = new AbortController();
  const either = AbortSignal.any([signal, ended.signal]);
  const queue = new LogQueue<LogLine>();
  const work = followAll(context, run, queue, either).then(
    () => queue.end(),
    (error: unknown) => queue.end(signal.aborted ? undefined : error),
  );
  try {
    yield* queue.lines(signal);
  } finally {
    ended.abort(new Error("no longer followed"));
    await work;
  }
}

async function followAll(
  context: DispatchContext,
  run: Run,
  queue: LogQueue<LogLine>,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock } = context.fleet;
  const inner = new AbortController();
  const either = AbortSignal.any([signal, inner.signal]);
  const steps = new Map<string, AbortController>();
  const others: Array<Promise<void>> = [];
  let agent: Promise<void> | undefined;
  try {
    let place = 0;
    for (;;) {
      const now = await findRun(store.db, run.run_id);
      const upTo = await store.lastSeq();
      const events = await store.readEvents(place, { limit: 500, filter: { run_id: run.run_id } });
      for (const event of events) {
        queue.push({ at: event.at, source: "run", text: describe(event) });
        const { step, state } = event.payload;
        if (event.kind === "run.step" && SHOWN_STEPS.has(step) && typeof step === "string") {
          if (state === "running") {
            steps.get(step)?.abort(new Error("begun again"));
            const stop = new AbortController();
            steps.set(step, stop);
            others.push(
              followStep(context, event, step, queue, AbortSignal.any([either, stop.signal])),
            );
          } else endSoon(context, steps.get(step), either);
        }
        if (event.kind === "run.launched") agent ??= followAgent(context, run, queue, either);
      }
      const isAll = events.length < 500;
      place = isAll ? Math.max(place, upTo) : (events.at(-1)?.seq ?? place);
      if (!isAll) continue;
      if (isTerminal(now.state)) break;
      await store.waitForEvents(place, either);
    }
    await clock.sleep(GRACE_MS, signal);
  } finally {
    inner.abort(new Error("the run has ended"));
    await Promise.allSettled([...others, agent]);
  }
}

function endSoon(
  context: DispatchContext,
  stop: AbortController | undefined,
  signal: AbortSignal,
): void {
  if (stop === undefined) return;
  context.fleet.clock
    .sleep(GRACE_MS, signal)
    .then(() => stop.abort(new Error("the step has ended")))
    .catch(() => {});
}

/** The output of one step, from its beginning, while it grows. */
async function followStep(
  context: DispatchContext,
  event: StoredEvent,
  step: string,
  queue: LogQueue<LogLine>,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock } = context.fleet;
  if (event.run_id === null || event.worker_id === null) return;
  const transport = await context.connections.kept(event.worker_id);
  const attempt = await store.db
    .selectFrom("steps")
    .select((select) => select.fn.max("attempt").as("attempt"))
    .where("run_id", "=", event.run_id)
    .where("step", "=", step)
    .executeTakeFirst();
  if (transport === undefined || attempt?.attempt == null) return;
  // The transport starts commands in the worker's home.
  const file = `.orchestrator/jobs/${event.run_id}-${attempt.attempt}/${step}.log`;
  await lines(transport, ["tail", "-n", "+1", "-s", "0.2", "-F", file], signal, (text) =>
    queue.push({ at: clock.now(), source: "setup", text: `${step}| ${cleanText(text, MAX_TEXT)}` }),
  );
}

async function lines(
  transport: Transport,
  argv: readonly string[],
  signal: AbortSignal,
  take: (text: string) => void,
): Promise<void> {
  try {
    await using running = await transport.stream(argv, { signal });
    for await (const text of running.lines) take(text);
  } catch {
    // Ended by us, or with its connection: the step's own end is an event.
  }
}

/** The agent's lines from the first on; goes on where it was after a cut. */
async function followAgent(
  context: DispatchContext,
  run: Run,
  queue: LogQueue<LogLine>,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock, provisioner } = context.fleet;
  let file: string | null = null;
  let offset = 0;
  while (!signal.aborted) {
    try {
      const now = await findRun(store.db, run.run_id);
      const transport =
        now.worker_id === null ? undefined : await context.connections.kept(now.worker_id);
      if (transport !== undefined && placeOf(now).home !== "") {
        await using follow = await provisioner.follow(transport, {
          run: run.run_id,
          file,
          offset,
          signal,
        });
        if (follow.file !== file) offset = 0;
        file = follow.file;
        for await (const line of follow.lines) {
          offset = line.offset;
          const parsed = parseLine(line.text);
          if (parsed !== null && parsed.event !== "pulse")
            queue.push({ at: parsed.at, source: "agent", text: describeLine(parsed) });
        }
      }
    } catch {
      // Without the worker there is nothing to show of it.
    }
    await clock.sleep(AGAIN_MS, signal).catch(() => {});
  }
}

/** What of a payload tells most, by the names that hooks use. */
const TELLING = [
  "tool_name",
  "prompt",
  "source",
  "reason",
  "error",
  "message",
  "exit_code",
  "code",
  "last_assistant_message",
  "pid",
];

function describeLine({ event, launch, payload }: WorkerLine): string {
  const more = TELLING.flatMap((key) => {
    const value = payload[key];
    return typeof value === "string" || typeof value === "number"
      ? [`${key}=${cleanText(String(value), 200)}`]
      : [];
  });
  return cleanText([`${launch}`, event, ...more].join(" "), MAX_TEXT);
}

function describe({ kind, payload }: StoredEvent): string {
  const more = Object.entries(payload)
    .filter(([key, value]) => value !== null && value !== undefined && key !== "screen")
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  return cleanText([kind, ...more].join(" "), MAX_TEXT);
}
