import { OrchestratorError } from "../domain/errors.ts";
import { sessionName } from "../fleet/context.ts";
import type { Worker } from "../fleet/workers.ts";
import { listWindowsCommand, typeCommand } from "../tmux/commands.ts";
import { agentWindow, GUARD_WINDOW, parseWindows, type Window } from "../tmux/windows.ts";
import type { Transport } from "../transport/transport.ts";
import { sendToRun, type Sent } from "./commands.ts";
import type { DispatchContext } from "./context.ts";
import type { Dispatcher } from "./dispatcher.ts";

/** Programs that read a command line. Anything else in the foreground could take the text for an answer to its question. */
const SHELLS: ReadonlySet<string> = new Set(
  "sh bash dash ash zsh ksh mksh fish csh tcsh busybox".split(" "),
);

export type SentToWindow =
  | { readonly kind: "typed"; readonly window: string }
  | ({ readonly kind: "message"; readonly window: string } & Sent);

/**
 * Types one command line into a window of the worker and ends it with Enter; for the agent's window, however it was named, the text is
 * delivered as a message instead, with its receipt. What was typed under a request id is never typed again. Wakes the worker.
 */
export async function sendToWindow(
  context: DispatchContext,
  dispatcher: Dispatcher,
  worker: Worker,
  input: { readonly window: string; readonly text: string; readonly requestId: string | undefined },
): Promise<SentToWindow> {
  const message = async (window: string): Promise<SentToWindow> => {
    const options = { live: false, requestId: input.requestId };
    const sent = await sendToRun(context, dispatcher, worker.name, input.text, options);
    return { kind: "message", window, ...sent };
  };
  if (input.window === "agent") return message("agent");
  const transport = await context.connections.reach(worker.worker_id);
  const windows = await windowsOf(transport, worker);
  const target = findWindow(windows, input.window);
  if (target === undefined) {
    throw new OrchestratorError(
      "not_found",
      `worker ${worker.name} has no window ${input.window}`,
      {
        hint: `it has ${windows.map(({ index, name }) => `${index} ${name}`).join(", ")}`,
      },
    );
  }
  const shown = `${target.id} ${target.name}`;
  if (target.id === agentWindow(windows)?.id) return message(shown);
  refuse(worker, target, input.text);
  const { requestId: id, window, text } = input;
  const body = { worker: worker.name, window, text };
  const { replayed } = await context.fleet.store.mutate<boolean>(
    async (tx) => {
      tx.event({
        kind: "worker.typed",
        repo: worker.repo,
        worker_id: worker.worker_id,
        // Not the text: a command line may hold a secret.
        payload: { worker: worker.name, window: shown, bytes: Buffer.byteLength(text) },
      });
      return true;
    },
    { quiet: true, request: id === undefined ? undefined : { id, operation: "worker.send", body } },
  );
  if (!replayed) await type(context, transport, worker, target, text);
  return { kind: "typed", window: shown };
}

async function windowsOf(transport: Transport, worker: Worker): Promise<readonly Window[]> {
  const session = sessionName(worker.repo);
  const { code, stdout } = await transport.exec(listWindowsCommand(session));
  if (code === 0) return parseWindows(stdout);
  throw new OrchestratorError(
    "not_found",
    `worker ${worker.name} has no tmux session ${session} now`,
    { hint: "it is made when the worker is prepared for its next run" },
  );
}

function findWindow(windows: readonly Window[], wanted: string): Window | undefined {
  if (/^\d+$/.test(wanted)) return windows.find(({ index }) => index === Number(wanted));
  return windows.find(({ id, name }) => id === wanted || name === wanted);
}

function refuse(worker: Worker, window: Window, text: string): void {
  const where = `window ${window.index} (${window.name}) of worker ${worker.name}`;
  if (/\p{Cc}/u.test(text)) {
    throw new OrchestratorError(
      "invalid_input",
      "a command for a window is one line without control characters",
    );
  }
  if (window.name === GUARD_WINDOW) {
    throw new OrchestratorError("invalid_input", `${where} is the guard's: nothing is typed there`);
  }
  const why = window.dead
    ? "its program has ended"
    : window.inMode
      ? "somebody reads in it"
      : SHELLS.has(window.command)
        ? null
        : `${window.command === "" ? "a program" : window.command} runs in it, which is no shell`;
  if (why === null) return;
  throw new OrchestratorError("needs_person", `nothing was typed into ${where}: ${why}`, {
    hint: `look at it with 'orchestrator attach ${worker.name}'`,
  });
}

async function type(
  context: DispatchContext,
  transport: Transport,
  worker: Worker,
  window: Window,
  text: string,
): Promise<void> {
  const argv = typeCommand(window.id, context.fleet.ids.next("typed"));
  const { code } = await transport.exec(argv, { stdin: text });
  if (code === 0) return;
  throw new OrchestratorError(
    "delivery_unconfirmed",
    `tmux on worker ${worker.name} did not take the text for window ${window.name}`,
    { details: { exit_code: code } },
  );
}
