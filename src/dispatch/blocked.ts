import { OrchestratorError } from "../domain/errors.ts";
import type { Receipt } from "../domain/message.ts";
import { RUN_TRANSITIONS } from "../domain/run.ts";
import { cleanText } from "../domain/text.ts";
import { can } from "../domain/transition.ts";
import { runtimeOf, sessionName } from "../fleet/context.ts";
import type { DialogMatch } from "../runtimes/runtime.ts";
import type { DispatchContext } from "./context.ts";
import { evidenceOf, findRun, moveRun, type Run } from "./runs.ts";

const MAX_SCREEN = 4_000;
/** A program asks by its hook first and draws the question after it (ms). */
const DRAWN_WITHIN_MS = 2_000;
const DRAWN_LOOK_MS = 50;
/** A start without a dialog takes less (ms). */
const START_LOOK_AFTER_MS = 2_500;

/** Blocks the run for a person, with the reason and the screen; says nothing twice. */
export async function moveToBlocked(
  context: DispatchContext,
  run: Run,
  reason: string,
  receipt: Receipt | null,
): Promise<void> {
  const { screen, dialog } = await drawnScreen(context, run);
  const shown = dialog !== null && receipt !== null ? `dialog: ${dialog.label}` : reason;
  if (run.state === "blocked" && run.reason === shown) return;
  await context.fleet.store.mutate(async (tx) => {
    if (!can(RUN_TRANSITIONS, run.state, "stuck")) return;
    if (receipt !== null) {
      await tx.db
        .updateTable("messages")
        .set({ receipt, detail: screen })
        .where("run_id", "=", run.run_id)
        .where("launch", "=", run.launch)
        .where("receipt", "!=", "accepted")
        .execute();
    }
    await moveRun(tx, run, "stuck", {
      patch: { reason: shown },
      kind: "run.blocked",
      payload: {
        reason: shown,
        ...(receipt === null ? {} : { receipt }),
        ...(screen === null ? {} : { screen }),
      },
    });
  });
}

/**
 * Looks for a dialog while a program has started and not shown its session: hooks run only after the start dialogs. What was seen is stored as
 * evidence, and taken back when it is gone.
 */
export async function lookAtStart(context: DispatchContext, run: Run): Promise<void> {
  const { store, clock } = context.fleet;
  const evidence = evidenceOf(run);
  const isStarting =
    evidence.launch === run.launch &&
    evidence.turn === null &&
    evidence.process?.value.alive === true &&
    clock.now() - (evidence.startedAt ?? clock.now()) > START_LOOK_AFTER_MS;
  if (!isStarting) return;
  const { screen, dialog } = await look(context, run);
  const label = dialog?.label ?? null;
  if (screen === null || label === (evidence.startDialog?.label ?? null)) return;
  await store.mutate(
    async (tx) => {
      const now = await findRun(tx.db, run.run_id);
      const known = evidenceOf(now);
      if (known.launch !== run.launch || known.turn !== null) return;
      const startDialog = label === null ? null : { label, at: tx.now };
      await tx.db
        .updateTable("runs")
        .set({ evidence: JSON.stringify({ ...known, startDialog }) })
        .where("run_id", "=", run.run_id)
        .execute();
    },
    { quiet: true },
  );
}

interface Look {
  /** Null when it cannot be had now. */
  readonly screen: string | null;
  readonly dialog: DialogMatch | null;
}

/** The screen; when the agent asks something, once the question is on it. */
async function drawnScreen(context: DispatchContext, run: Run): Promise<Look> {
  const { clock } = context.fleet;
  const { turn, registry } = evidenceOf(run);
  const asks = turn?.value.phase === "asking" || registry?.value.status === "waiting";
  const deadline = clock.monotonic() + DRAWN_WITHIN_MS;
  for (;;) {
    const seen = await look(context, run);
    const isDrawn = !asks || seen.screen === null || seen.dialog !== null;
    if (isDrawn || clock.monotonic() > deadline) return seen;
    await clock.sleep(DRAWN_LOOK_MS);
  }
}

/** The agent's screen, cleaned line by line, and the dialog on it. */
async function look(context: DispatchContext, run: Run): Promise<Look> {
  const nothing = { screen: null, dialog: null };
  if (run.worker_id === null) return nothing;
  const transport = await context.connections.kept(run.worker_id);
  if (transport === undefined) return nothing;
  try {
    const text = await context.fleet.provisioner.screen(transport, sessionName(run.repo));
    const screen = text
      .split("\n")
      .map((line) => cleanText(line.replaceAll("\t", "  "), 300))
      .join("\n")
      .replaceAll(/\n{3,}/g, "\n\n")
      .trim()
      .slice(0, MAX_SCREEN);
    return { screen, dialog: runtimeOf(context.fleet, run.runtime).dialog(screen) };
  } catch (error) {
    if (error instanceof OrchestratorError) return nothing;
    throw error;
  }
}
