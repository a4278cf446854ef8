import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import type { Transport } from "../transport/transport.ts";
import { execWorker, WORKER_CODES, workerFailed, type Bundle } from "./bundle.ts";
import type { Pressed } from "./provisioner.ts";

const TIMEOUT_MS = 30_000;
const OTHER_SCREEN = 65;
const NO_LIVE_PANE = 69;

/** See `Provisioner.press`. */
export async function press(
  transport: Transport,
  bundle: Bundle,
  session: string,
  expected: { readonly how: "same" | "has"; readonly screen: string },
  keys: readonly string[],
): Promise<Pressed> {
  const args = [session, expected.how, ...keys];
  const result = await execWorker(transport, bundle, "press", args, {
    stdin: expected.screen,
    timeoutMs: TIMEOUT_MS,
  });
  if (result.code === 0) return "pressed";
  if (result.code === OTHER_SCREEN) return "other-screen";
  if (result.code !== NO_LIVE_PANE) throw workerFailed(`press keys in ${session}`, result);
  const why = cleanText(result.stderr, 200);
  throw new OrchestratorError(
    "not_found",
    `session ${session} has no agent to reach${why === "" ? "" : `: ${why}`}`,
  );
}

/** See `Provisioner.interrupt`. */
export async function interrupt(
  transport: Transport,
  bundle: Bundle,
  run: string,
  launch: number,
): Promise<"sent" | "absent"> {
  const result = await execWorker(transport, bundle, "interrupt", [run, String(launch)], {
    timeoutMs: TIMEOUT_MS,
  });
  if (result.code === 0) return "sent";
  if (result.code === WORKER_CODES.absent) return "absent";
  throw workerFailed(`interrupt launch ${launch} of ${run}`, result);
}
