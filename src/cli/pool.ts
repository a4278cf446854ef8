import { OrchestratorError } from "../domain/errors.ts";
import { parseName } from "../domain/names.ts";
import type { PoolView } from "../operations/views.ts";
import { cleanLine } from "./clean.ts";
import type { Context } from "./context.ts";
import { printJson, printLine } from "./io.ts";
import { performAt } from "./session.ts";
import { argumentOf, isSet, json, textOf, type CommandSpec, type Given } from "./spec.ts";
import { table } from "./table.ts";
import { asPool, asPools } from "./views.ts";

const poolArgument = { name: "pool", help: "the repo whose workers it is" };

export const commands: readonly CommandSpec[] = [
  {
    path: "pool list",
    summary: "List the pools: workers, queue, and what keeps new tasks out",
    options: [json],
    examples: ["orchestrator pool list"],
    async run(context, given) {
      const pools = asPools(
        await performAt(context, "store", "pool.list", {}, { repeatable: true }),
      );
      const { io } = context;
      if (isSet(given, "json")) for (const pool of pools) printJson(io, pool);
      else if (pools.length === 0)
        printLine(io, "no pools; 'orchestrator repo add' makes the first");
      else for (const line of poolTable(pools, io.columns)) printLine(io, line);
      return 0;
    },
  },
  {
    path: "pool pause",
    summary: "Give a pool's workers no further runs; what runs goes on, and new tasks queue",
    notes: `A pool pauses by itself when the same set-up fails alike on two of its workers. It resumes by your word ('pool resume'), when a worker of it was
set up after all ('worker setup'), or when the base branch or the script changed and a worker that had failed passes with it.`,
    arguments: [poolArgument],
    options: [{ name: "reason", value: "text", help: "why, for whoever looks" }, json],
    examples: ["orchestrator pool pause kite --reason 'the registry is down'"],
    run: (context, given) =>
      changePool(context, given, "pool.pause", { reason: textOf(given, "reason") }),
  },
  {
    path: "pool resume",
    summary: "Let a paused pool's workers take runs again",
    arguments: [poolArgument],
    options: [json],
    examples: ["orchestrator pool resume kite"],
    run: (context, given) => changePool(context, given, "pool.resume", {}),
  },
];

async function changePool(
  context: Context,
  given: Given,
  op: string,
  more: object,
): Promise<number> {
  const repo = parseName(argumentOf(given, 0), "pool");
  if (textOf(given, "reason")?.trim() === "") {
    throw new OrchestratorError("invalid_input", "--reason is empty");
  }
  const pool = asPool(
    await performAt(context, "controller", op, { repo, ...more }, { repeatable: true }),
  );
  if (isSet(given, "json")) printJson(context.io, pool);
  else {
    const state = pool.pause === null ? "takes runs" : `is paused: ${cleanLine(pool.pause.reason)}`;
    printLine(context.io, `pool ${pool.pool} ${state}`);
    if (pool.pause === null && pool.closed_because !== null)
      printLine(context.io, `but: ${cleanLine(pool.closed_because)}`);
  }
  return 0;
}

/** Also used by `status`. */
export function poolTable(pools: readonly PoolView[], columns: number): string[] {
  return table(
    ["POOL", "STATE", "WORKERS", "IDLE", "QUEUED", "WHY"],
    pools.map((pool) => [
      pool.pool,
      pool.pause === null ? (pool.admits ? "open" : "limited") : "paused",
      String(pool.workers),
      String(pool.idle),
      String(pool.queued),
      pool.closed_because ?? "",
    ]),
    columns,
  );
}
