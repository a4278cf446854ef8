import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { quantile, median, series, wallMs } from "./measure.ts";
import type { Product } from "./product.ts";
import { makePrompt } from "./prompt.ts";
import type { Findings } from "./report.ts";

/** What a poll of that interval finds late on average: half of it. */
const POLL_MS = 500;
const CHANGES_A_ROUND = 20;

/**
 * P4: from the line that an agent's own hook writes to the durable event at a client that follows, and from the start of the hook's process.
 * Permission asked and turn gone on, by turns: each is another status.
 */
export async function detection(product: Product, rounds: number): Promise<Findings> {
  const [worker = ""] = product.workers;
  const fromLine = series("hook's line written -> event at a client");
  const fromHook = series("hook's process started -> event at a client");
  const { runId } = await product.dispatch(makePrompt("watched").text, worker);
  const { runtime_session_id: session } = await product.run(runId);
  const home = product.homeOf(worker);
  const lines = join(home, ".orchestrator", "runs", runId, "events.jsonl");
  const stop = new AbortController();
  const statuses = product.events(runId, stop.signal)[Symbol.asyncIterator]();
  const reached = async (wanted: string): Promise<number> => {
    for (;;) {
      const next = await statuses.next();
      if (next.done === true) throw new Error("the events ended");
      const { kind, payload } = next.value;
      if (kind === "run.status" && payload["status"] === wanted) return wallMs();
    }
  };
  const change = async (event: string, wanted: string) => {
    const payload = JSON.stringify({
      session_id: session,
      hook_event_name: event,
      tool_name: "Bash",
      tool_input: {},
    });
    const began = wallMs();
    const child = spawn(join(home, ".orchestrator", "bin", "hook"), [event], {
      env: {
        PATH: process.env["PATH"],
        HOME: home,
        ORCHESTRATOR_RUN: runId,
        ORCHESTRATOR_LAUNCH: `${runId}/1`,
      },
      stdio: ["pipe", "ignore", "ignore"],
    });
    const over = once(child, "close");
    child.stdin.end(payload);
    const seen = await reached(wanted);
    await over;
    const last = readFileSync(lines, "utf8")
      .trimEnd()
      .split("\n")
      .findLast((line) => line.includes(`"event":"${event}"`));
    fromLine.samples.push(seen - (JSON.parse(last ?? "{}") as { at: number }).at);
    fromHook.samples.push(seen - began);
  };
  for (let round = 0; round < rounds * CHANGES_A_ROUND; round += 2) {
    await change("PermissionRequest", "blocked");
    await change("PostToolUse", "running");
  }
  stop.abort();
  await product.settle([runId]);
  return {
    series: [fromLine, fromHook],
    goals: [
      {
        id: "P4",
        what: "line -> event, median",
        value: median(fromLine.samples),
        limit: 10,
        better: "at most",
        unit: "ms",
      },
      {
        id: "P4",
        what: "line -> event, 99 of 100",
        value: quantile(fromLine.samples, 0.99),
        limit: 100,
        better: "at most",
        unit: "ms",
      },
      {
        id: "P4",
        what: `a poll every ${POLL_MS} ms / line -> event`,
        value: POLL_MS / 2 / median(fromLine.samples),
        limit: 50,
        better: "at least",
        unit: "x",
      },
    ],
    notes: ["the line's time has a resolution of 1 ms, and is taken before it is written"],
  };
}
