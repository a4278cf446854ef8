import { z } from "zod";
import { repoName, runIdInput } from "./inputs.ts";
import { operation } from "./operation.ts";
import { eventView } from "./views.ts";

const selection = z.strictObject({
  after: z.int().min(0).default(0).describe("only events with a higher seq"),
  run_id: runIdInput.optional(),
  repo: repoName.optional(),
  kinds: z
    .array(z.string().max(60))
    .max(50)
    .optional()
    .describe("exact kinds, or prefixes ending in '.'"),
});

export const eventsRead = operation({
  id: "events.read",
  summary: "Read events from a place in the log",
  runs: "anywhere",
  access: "read",
  input: selection.extend({ limit: z.int().min(1).max(10_000).default(500) }),
  output: z.array(eventView),
  errors: ["truncated"],
  cli: "events",
  answer: {
    kind: "once",
    handle: ({ store }, { after, limit, ...filter }) => store.readEvents(after, { limit, filter }),
  },
});

export const eventsFollow = operation({
  id: "events.follow",
  summary: "Read events from a place in the log and then as they happen",
  runs: "anywhere",
  access: "read",
  input: selection.extend({
    new: z.boolean().default(false).describe("only events that come from now on"),
  }),
  output: eventView,
  errors: ["truncated"],
  cli: "events --follow",
  answer: {
    kind: "stream",
    async *handle({ store }, { after, new: fromNow, ...filter }, signal) {
      let place = fromNow ? await store.lastSeq() : after;
      while (!signal.aborted) {
        const upTo = await store.lastSeq();
        const events = await store.readEvents(place, { limit: 500, filter });
        yield* events;
        // A filter may skip many: go on from the newest event known to be read past.
        place = events.length === 500 ? (events.at(-1)?.seq ?? place) : Math.max(place, upTo);
        if (events.length === 500) continue;
        await store.waitForEvents(place, signal).catch((error: unknown) => {
          if (!signal.aborted) throw error;
        });
      }
    },
  },
});
