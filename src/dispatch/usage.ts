import { z } from "zod";
import { runtimeOf } from "../fleet/context.ts";
import type { Usage } from "../runtimes/runtime.ts";
import type { Db } from "../store/store.ts";
import type { Transport } from "../transport/transport.ts";
import type { DispatchContext } from "./context.ts";
import { placeOf } from "./launch.ts";
import { evidenceOf, findRun, type Run } from "./runs.ts";

/** Largest part of a transcript that is read (bytes). */
const MAX_TRANSCRIPT = 64 * 1024 * 1024;
/** The program shows a turn's cost up to half a second after its end, when its status line is drawn again; a busy machine is slower (ms). */
const COST_PATIENCE_MS = 1_500;
const LOOK_EVERY_MS = 25;

/** What one run used: its conversation's transcript, less what the runs before it in that conversation have reported. */
export async function usageOf(
  context: DispatchContext,
  run: Run,
  transport: Transport,
): Promise<Usage | null> {
  const runtime = runtimeOf(context.fleet, run.runtime);
  if (!runtime.capabilities.reportsUsage || evidenceOf(run).transcriptPath === null) return null;
  await awaitCost(context, run);
  const transcript = await readTranscript(context, run, transport);
  const whole = transcript === null ? null : runtime.usage(transcript);
  return whole === null ? null : withoutEarlier(context.fleet.store.db, run, whole);
}

/** The agent's own record of the conversation; null when there is none. */
export async function readTranscript(
  context: DispatchContext,
  run: Run,
  transport: Transport,
): Promise<string | null> {
  const { transcriptPath } = evidenceOf(run);
  // The path came from the worker: only a file below the agent's own home is read.
  if (
    transcriptPath === null ||
    !transcriptPath.startsWith(`${placeOf(run).home}/`) ||
    transcriptPath.includes("/../")
  )
    return null;
  return context.fleet.provisioner.readTail(transport, transcriptPath, MAX_TRANSCRIPT);
}

/** Waits until the cost of the completed turn was shown (the transcript is whole by then), but not for long. */
async function awaitCost(context: DispatchContext, run: Run): Promise<void> {
  const { clock, store } = context.fleet;
  if (run.outcome !== "completed") return;
  const deadline = clock.monotonic() + COST_PATIENCE_MS;
  while (clock.monotonic() < deadline) {
    const { turn, costShown, process } = evidenceOf(await findRun(store.db, run.run_id));
    const isShown = turn !== null && costShown !== null && costShown.at >= turn.at;
    if (isShown || process?.value.alive !== true) return;
    await clock.sleep(LOOK_EVERY_MS);
  }
}

const reported = z.object({
  input_tokens: z.number().nullable(),
  output_tokens: z.number().nullable(),
  cache_read_tokens: z.number().nullable(),
  cache_write_tokens: z.number().nullable(),
  cost_usd: z.number().nullable(),
});

async function withoutEarlier(db: Db, run: Run, whole: Usage): Promise<Usage> {
  let left = whole;
  for (let earlier = run.resumes; earlier !== null;) {
    const before = await findRun(db, earlier);
    earlier = before.resumes;
    const report = before.report === null ? null : reported.parse(JSON.parse(before.report));
    if (report === null) continue;
    const less = (from: number, by: number | null) => Math.max(0, from - (by ?? 0));
    left = {
      inputTokens: less(left.inputTokens, report.input_tokens),
      outputTokens: less(left.outputTokens, report.output_tokens),
      cacheReadTokens: less(left.cacheReadTokens, report.cache_read_tokens),
      cacheWriteTokens: less(left.cacheWriteTokens, report.cache_write_tokens),
      costUsd: left.costUsd === null ? null : less(left.costUsd, report.cost_usd),
      model: left.model,
    };
  }
  return left;
}
