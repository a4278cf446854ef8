import type { LimitView } from "../operations/views.ts";
import { formatAge, formatTime, plural } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import { performAt } from "./session.ts";
import { argumentOf, isSet, json, type CommandSpec } from "./spec.ts";
import { table } from "./table.ts";
import { asLimit, asLimits } from "./views.ts";

export const commands: readonly CommandSpec[] = [
  {
    path: "limit list",
    summary: "List the limits of the agents' accounts: until when, and who waits",
    notes: `A limit comes from an agent's own error: a usage window, a rate limit, an overloaded API, a credential that is refused, an empty balance. Runs that
use the account wait, and new ones queue. When its time is over, or another secret is there, one run tries first; the others follow when it is answered.`,
    options: [{ name: "all", help: "those that are over, too" }, json],
    examples: ["orchestrator limit list", "orchestrator limit list --all --json"],
    async run(context, given) {
      const input = { all: isSet(given, "all") };
      const limits = asLimits(
        await performAt(context, "store", "limit.list", input, { repeatable: true }),
      );
      const { io } = context;
      if (isSet(given, "json")) for (const limit of limits) printJson(io, limit);
      else if (limits.length === 0) printLine(io, "no limits");
      else
        for (const line of limitTable(limits, context.clock().now(), io.columns))
          printLine(io, line);
      return 0;
    },
  },
  {
    path: "limit clear",
    summary: "End a limit by your word: the runs that wait for it go on, one after the other",
    notes: "One that is not over is met again, and then stands again.",
    arguments: [{ name: "limit", help: "the limit's id, from 'orchestrator limit list'" }],
    options: [json],
    examples: ["orchestrator limit clear limit-7k3m9x2q0abc"],
    async run(context, given) {
      const input = { limit_id: argumentOf(given, 0) };
      const limit = asLimit(
        await performAt(context, "controller", "limit.clear", input, { repeatable: true }),
      );
      if (isSet(given, "json")) printJson(context.io, limit);
      else {
        const waiting = plural(limit.waiting.length, "run");
        printLine(context.io, `${limit.limit_id} is over; ${waiting} waited for it`);
      }
      return 0;
    },
  },
];

/** Also used by `status`. */
export function limitTable(limits: readonly LimitView[], now: number, columns: number): string[] {
  return table(
    ["LIMIT", "STATE", "UNTIL", "SINCE", "WAITING", "WHY"],
    limits.map((limit) => [
      limit.limit_id,
      limit.state,
      untilOf(limit),
      formatAge(now - limit.created_at),
      String(limit.waiting.length),
      `${limit.reason} (${limit.account})${limit.lifted_because === null ? "" : `; ${limit.lifted_because}`}`,
    ]),
    columns,
  );
}

function untilOf(limit: LimitView): string {
  if (limit.state === "lifted") return "-";
  return limit.limited_until === null ? "it is mended" : formatTime(limit.limited_until);
}
