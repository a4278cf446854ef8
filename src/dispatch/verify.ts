import { cleanText } from "../domain/text.ts";
import type { DispatchContext } from "./context.ts";
import { placeOf } from "./launch.ts";
import type { Run } from "./runs.ts";

const MAX_TAIL_LINES = 20;

/**
 * Runs the repo's `verify` command in the clone after the agent's turn ended: a run counts as completed only when it passes. Null: passed, or
 * none is configured; else why not. A broken connection is an error, and the command runs again.
 */
export async function verifyRun(context: DispatchContext, run: Run): Promise<string | null> {
  const repo = context.fleet.config().repos[run.repo];
  if (repo?.verify === undefined || run.worker_id === null) return null;
  const { verify, verifyMinutes, env } = repo;
  const transport = await context.connections.reach(run.worker_id);
  const assignments = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const result = await transport.exec(
    ["env", "-C", placeOf(run).path, ...assignments, "sh", "-c", verify],
    { timeoutMs: verifyMinutes * 60_000 },
  );
  const passed = result.code === 0;
  const tail = `${result.stdout}\n${result.stderr}`
    .split("\n")
    .map((line) => cleanText(line, 300))
    .filter((line) => line !== "")
    .slice(-MAX_TAIL_LINES);
  await context.fleet.store.mutate(
    async (tx) =>
      tx.event({
        kind: passed ? "run.verified" : "run.verify_failed",
        repo: run.repo,
        run_id: run.run_id,
        worker_id: run.worker_id ?? undefined,
        payload: { code: result.code, signal: result.signal, tail },
      }),
    { quiet: true },
  );
  if (passed) return null;
  const how = result.code === null ? `signal ${result.signal ?? "unknown"}` : `code ${result.code}`;
  return `verify failed with ${how}${tail.length === 0 ? "" : `: ${tail.at(-1) ?? ""}`}`;
}
