import { isLost } from "../operations/client.ts";
import { parseName } from "../domain/names.ts";
import { cleanLine } from "./clean.ts";
import { paletteOf } from "./colour.ts";
import type { Context } from "./context.ts";
import { Page } from "./screen.ts";
import { openSession, type Session } from "./session.ts";
import { isSet, json, textOf, type CommandSpec, type Given } from "./spec.ts";
import { asEvent, asStatus } from "./views.ts";
import { frameOf, type Fleet, type Watcher } from "./watch-frame.ts";
import { changeLines } from "./watch-lines.ts";

/** Ages grow and statuses go stale by time alone: looked at so often (ms). */
const LOOK_EVERY_MS = 5_000;
/** Events that come together are one change (ms). */
const GATHER_MS = 50;
const PAUSE_MS = 500;
const MAX_PAUSE_MS = 10_000;

export const commands: readonly CommandSpec[] = [
  {
    path: "watch",
    summary: "Watch the fleet: workers, runs and statuses with age and reason, as they change",
    notes: `On a terminal a table that is repainted when something changes (q or Ctrl-C ends it); elsewhere a line for each change.
Watching starts no controller and stops nothing.`,
    options: [
      { name: "repo", value: "name", help: "only this pool" },
      { ...json, help: "print each change as JSON, one object a line" },
    ],
    examples: ["orchestrator watch", "orchestrator watch --repo kite", "orchestrator watch --json"],
    run: runWatch,
  },
];

async function runWatch(context: Context, given: Given): Promise<number> {
  const repo = textOf(given, "repo");
  if (repo !== undefined) parseName(repo, "--repo");
  const { io } = context;
  const ending = new AbortController();
  const signal = AbortSignal.any([context.interruption(), ending.signal]);
  const session = openSession(context, "store");
  // A pool that is not there is an error at once, not an empty page.
  const first = await fleetOf(session, repo).catch(async (error: unknown) => {
    await session.close();
    throw error;
  });
  const screen = isSet(given, "json") || context.env.term === undefined ? undefined : io.screen?.();
  using watcher =
    screen === undefined
      ? changeLines(context, isSet(given, "json"))
      : page(context, new Page(screen), repo);
  const undo = [
    screen?.onResize(() => watcher.show(latest)),
    screen?.onKey((key) => {
      if (key === "q" || key === "\u0003" || key === "\u0004") ending.abort(new Error("left"));
    }),
  ];
  let latest = first;
  watcher.show(first);
  try {
    await follow(
      context,
      session,
      repo,
      signal,
      (fleet) => {
        latest = fleet;
        watcher.show(fleet);
      },
      (why) => watcher.lost(why),
    );
  } finally {
    for (const stop of undo) stop?.();
    await session.close();
  }
  return 0;
}

const fleetOf = async (session: Session, repo: string | undefined): Promise<Fleet> =>
  asStatus(
    await session.call("status", repo === undefined ? {} : { target: repo }, { repeatable: true }),
  );

/** Looks again after every change that an event tells of, and now and then; a lost controller is waited for. */
async function follow(
  context: Context,
  session: Session,
  repo: string | undefined,
  signal: AbortSignal,
  show: (fleet: Fleet) => void,
  lost: (why: string) => void,
): Promise<void> {
  const clock = context.clock();
  let after: number | undefined;
  let pause = PAUSE_MS;
  while (!signal.aborted) {
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    let changed = true;
    let wake = () => {};
    const over = { failure: undefined as unknown };
    const reading = (async () => {
      const events = session.stream(
        "events.follow",
        after === undefined ? { new: true, repo } : { after, repo },
        either,
      );
      for await (const item of events) {
        after = asEvent(item).seq;
        changed = true;
        wake();
      }
    })().catch((error: unknown) => {
      over.failure = error;
      wake();
    });
    try {
      while (!signal.aborted && over.failure === undefined) {
        if (changed) await clock.sleep(GATHER_MS, either);
        changed = false;
        show(await fleetOf(session, repo));
        pause = PAUSE_MS;
        if (changed || over.failure !== undefined) continue;
        const timer = new AbortController();
        const woken = new Promise<void>((resolve) => {
          wake = resolve;
        });
        const tick = clock.sleep(LOOK_EVERY_MS, AbortSignal.any([either, timer.signal]));
        tick.catch(() => {});
        await Promise.race([woken, tick.catch(() => {})]);
        timer.abort();
      }
    } catch (error) {
      over.failure ??= error;
    } finally {
      stop.abort(new Error("looked"));
      await reading;
    }
    if (signal.aborted) return;
    const { failure } = over;
    if (!isLost(failure) && !isUnreachable(failure)) throw failure;
    lost(failure instanceof Error ? failure.message : String(failure));
    await clock.sleep(pause, signal).catch(() => {});
    pause = Math.min(MAX_PAUSE_MS, pause * 2);
  }
}

const isUnreachable = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "unreachable";

function page(context: Context, shown: Page, repo: string | undefined): Watcher {
  const palette = paletteOf(context.io);
  let last: Fleet = { workers: [], runs: [] };
  const show = (fleet: Fleet, note?: string) => {
    last = fleet;
    shown.show(frameOf(fleet, context.clock().now(), palette, repo, note));
  };
  return {
    show,
    lost: (why) => show(last, `cannot be seen now: ${cleanLine(why, 200)}`),
    [Symbol.dispose]: () => shown[Symbol.dispose](),
  };
}
