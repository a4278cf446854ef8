import type { EventView } from "../operations/views.ts";
import { isLost } from "../operations/client.ts";
import { cleanLine } from "./clean.ts";
import type { Context } from "./context.ts";
import { formatTime } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import { wholeNumber } from "./parse.ts";
import { openSession, performAt } from "./session.ts";
import { isSet, json, listOf, textOf, type CommandSpec, type Given } from "./spec.ts";
import { asEvent, asEvents } from "./views.ts";

const RECONNECTS = 5;

export const commands: readonly CommandSpec[] = [
  {
    path: "events",
    summary: "Read events from a place in the log, or follow them as they happen",
    notes: "Each line begins with the event's number: give it to --after to go on from there.",
    options: [
      { name: "after", value: "n", help: "only events after this number; default 0" },
      { name: "follow", help: "go on with new events until Ctrl-C" },
      { name: "new", help: "with --follow: leave out what was there before" },
      { name: "run", value: "id", help: "only events of this run" },
      { name: "repo", value: "name", help: "only events of this pool" },
      {
        name: "kind",
        value: "kind",
        help: "only this kind, or a prefix such as run. (repeatable)",
        multiple: true,
      },
      { name: "limit", value: "n", help: "at most this many, without --follow; default 500" },
      json,
    ],
    examples: [
      "orchestrator events --repo kite --kind run.",
      "orchestrator events --after 1200 --follow --json",
    ],
    run: runEvents,
  },
];

async function runEvents(context: Context, given: Given): Promise<number> {
  const selection = {
    after: wholeNumber(given, "after") ?? 0,
    run_id: textOf(given, "run"),
    repo: textOf(given, "repo"),
    kinds: listOf(given, "kind"),
  };
  const asJson = isSet(given, "json");
  if (isSet(given, "follow")) return follow(context, selection, isSet(given, "new"), asJson);
  const input = { ...selection, limit: wholeNumber(given, "limit", 1) };
  const events = asEvents(
    await performAt(context, "store", "events.read", input, { repeatable: true }),
  );
  for (const event of events) print(context, event, asJson);
  return 0;
}

async function follow(
  context: Context,
  selection: { readonly after: number },
  fromNow: boolean,
  asJson: boolean,
): Promise<number> {
  const signal = context.interruption();
  const session = openSession(context, "store");
  let { after } = selection;
  let isNew = fromNow;
  let losses = 0;
  try {
    for (;;) {
      try {
        for await (const item of session.stream(
          "events.follow",
          { ...selection, after, ...(isNew ? { new: true } : {}) },
          signal,
        )) {
          const event = asEvent(item);
          isNew = false;
          after = event.seq;
          losses = 0;
          print(context, event, asJson);
        }
        return 0;
      } catch (error) {
        if (signal.aborted) return 0;
        losses += 1;
        if (!isLost(error) || losses > RECONNECTS) throw error;
      }
    }
  } finally {
    await session.close();
  }
}

function print(context: Context, event: EventView, asJson: boolean): void {
  if (asJson) return printJson(context.io, event);
  const about = [
    event.run_id,
    event.run_id === null ? event.worker_id : null,
    event.run_id === null ? event.task_id : null,
  ]
    .filter((id) => id !== null)
    .join(" ");
  const payload = Object.entries(event.payload).map(([key, value]) => `${key}=${shorten(value)}`);
  printLine(
    context.io,
    [String(event.seq).padStart(6), formatTime(event.at), event.kind.padEnd(18), about, ...payload]
      .join(" ")
      .trimEnd(),
  );
}

function shorten(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  const clean = cleanLine(text, 80);
  return typeof value === "string" && /[\s="]/.test(clean) ? JSON.stringify(clean) : clean;
}
