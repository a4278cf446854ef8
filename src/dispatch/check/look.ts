import { cleanText } from "../../domain/text.ts";
import { isTerminal } from "../../domain/run.ts";
import type { ProviderState } from "../../domain/worker.ts";
import { providerOf, sessionName } from "../../fleet/context.ts";
import type { Worker } from "../../fleet/workers.ts";
import { TOO_LATE, within } from "../../platform/within.ts";
import { listWindowsCommand } from "../../tmux/commands.ts";
import { parseWindows } from "../../tmux/windows.ts";
import { TransportError } from "../../transport/transport-error.ts";
import type { Transport } from "../../transport/transport.ts";
import type { DispatchContext } from "../context.ts";
import type { Run } from "../runs.ts";
import type { Look } from "./judge.ts";

/** Some hundred windows; a worker that sends more is not listened to. */
const MAX_OUTPUT_BYTES = 64 * 1024;

/** The transport's deadline and ours end at the same time: the same words for both, so that it is no change. */
const LATE = "no answer in time";

export interface LookOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Why nothing was read at a worker. */
export type Unread = Extract<Look, { readonly why: string }>;

/**
 * Acts at a worker over the kept connection or a short one, within the time; null when it did. Never dials one that may sleep, or that a
 * connection would keep awake; never rejects for what the worker or the way to it does.
 */
export async function actAt(
  context: DispatchContext,
  worker: Worker,
  run: Run | null,
  machine: ProviderState | null,
  { timeoutMs, signal }: LookOptions,
  act: (transport: Transport, signal: AbortSignal) => Promise<void>,
): Promise<Unread | null> {
  const refusal = whyNotDialled(context, worker, run, machine);
  try {
    const done = await within(context.fleet.clock, timeoutMs, signal, async (ends) => {
      const limits = { timeoutMs, mayDial: refusal === null };
      const acted = await context.connections.visit(worker.worker_id, limits, async (transport) => {
        await act(transport, ends);
        return true;
      });
      return acted === true ? null : refusal;
    });
    if (done !== TOO_LATE) return done;
    return { kind: "unreachable", why: LATE };
  } catch (error) {
    return { kind: "unreachable", why: whyOf(error) };
  }
}

/** The worker's windows, by one command. */
export async function listWindows(
  transport: Transport,
  worker: Pick<Worker, "repo">,
  signal: AbortSignal,
): Promise<Look> {
  const argv = listWindowsCommand(sessionName(worker.repo));
  const { code, stdout } = await transport.exec(argv, {
    signal,
    maxOutputBytes: MAX_OUTPUT_BYTES,
  });
  return code === 0 ? { kind: "windows", windows: parseWindows(stdout) } : { kind: "no-session" };
}

/** Null: it may be dialled. A kept connection is used whatever this says. */
function whyNotDialled(
  context: DispatchContext,
  worker: Worker,
  run: Run | null,
  machine: ProviderState | null,
): Unread | null {
  switch (machine) {
    case "warm":
    case "cold":
      return { kind: "left-alone", why: `the worker is asleep (${machine})` };
    case "unreachable":
      return { kind: "unreachable", why: "the provider cannot reach it" };
    case "gone":
      return { kind: "unreachable", why: "the provider says that it is gone" };
    case "running":
    case null: {
      if (worker.provider_id === null) return { kind: "left-alone", why: "it is being created" };
      if (!providerOf(context.fleet, worker.provider).capabilities.sleeps) return null;
      if (machine === null) {
        return { kind: "left-alone", why: "nobody can say whether it sleeps" };
      }
      const isLive = run !== null && !isTerminal(run.state);
      return isLive ? null : { kind: "left-alone", why: "awake without a run: it may fall asleep" };
    }
  }
}

/** The transport's own words name ports and times, which change; its kind of failure does not. */
function whyOf(error: unknown): string {
  if (error instanceof TransportError) {
    return error.failure === "timeout" || error.failure === "aborted"
      ? LATE
      : error.failure.replaceAll("_", " ");
  }
  return cleanText(error instanceof Error ? error.message : String(error), 200);
}
