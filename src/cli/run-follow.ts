import { isTerminal } from "../domain/run.ts";
import { isLost } from "../operations/client.ts";
import { cleanLine } from "./clean.ts";
import { paletteOf } from "./colour.ts";
import type { Context } from "./context.ts";
import { exitCodeOf, INTERRUPTED, showError, toJsonError } from "./errors.ts";
import { judge } from "./follow.ts";
import { formatTime } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import { openSession } from "./session.ts";
import { isSet, type Given } from "./spec.ts";
import { asLogLine, asRunDetail } from "./views.ts";

const RECONNECTS = 5;

/** Shows a run's lines until it has ended; a lost controller is found again, and what was shown is not shown twice. */
export async function followRunLogs(
  context: Context,
  given: Given,
  runId: string,
): Promise<number> {
  const { io } = context;
  const asJson = isSet(given, "json");
  const palette = paletteOf(io);
  const signal = context.interruption();
  const session = openSession(context, "controller");
  const show = async () =>
    asRunDetail(await session.call("run.show", { run_id: runId }, { repeatable: true }));
  let losses = 0;
  let shown = new Map<string, number>();
  try {
    for (;;) {
      const former = shown;
      shown = new Map();
      try {
        for await (const item of session.stream("run.follow", { run_id: runId }, signal)) {
          const line = asLogLine(item);
          const key = `${line.source} ${line.source === "setup" ? "" : line.at} ${line.text}`;
          const count = (shown.get(key) ?? 0) + 1;
          shown.set(key, count);
          if (count <= (former.get(key) ?? 0)) continue;
          losses = 0;
          if (asJson) printJson(io, line);
          else {
            const source = palette.dim(`${formatTime(line.at)} ${line.source.padEnd(5)}`);
            printLine(io, `${source} ${cleanLine(line.text, 1_000)}`);
          }
        }
        break;
      } catch (error) {
        if (signal.aborted) return INTERRUPTED;
        losses += 1;
        if (!isLost(error) || losses > RECONNECTS) throw error;
      }
    }
    if (signal.aborted) return INTERRUPTED;
    const run = await show();
    // A controller that is asked to stop ends its streams.
    if (!isTerminal(run.state)) return 0;
    const { error } = judge(run);
    if (error === undefined) return 0;
    if (!asJson) return showError(io, error, false);
    printJson(io, { error: toJsonError(error) });
    return exitCodeOf(error.code);
  } finally {
    await session.close();
  }
}
