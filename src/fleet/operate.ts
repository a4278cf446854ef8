import { OrchestratorError } from "../domain/errors.ts";
import { quoteCommand, remoteCommand } from "../transport/quote.ts";
import type { Connections } from "./connections.ts";
import { providerOf, sessionName, type FleetContext } from "./context.ts";
import type { OnTerminal } from "../providers/provider.ts";
import { liveRunOf, whyBusy } from "./in-use.ts";
import type { Worker } from "./workers.ts";

/** What operators do with one worker directly. */

/** Whether somebody or something uses the worker, looked up on it now. */
export async function busyWorker(
  context: FleetContext,
  connections: Connections,
  worker: Worker,
): Promise<{ busy: boolean; reason: string }> {
  const live = await liveRunOf(context.store.db, worker);
  if (live !== undefined) return { busy: true, reason: `working on ${live.run_id}` };
  if (worker.allocation !== "free") return { busy: true, reason: worker.allocation };
  const transport = await connections.reach(worker.worker_id);
  const busy = whyBusy(await context.provisioner.probe(transport, sessionName(worker.repo)));
  return busy === null ? { busy: false, reason: "idle" } : { busy: true, reason: busy };
}

/** Runs "$@" after a leading ~ of each word has become the worker's home folder, as a shell there would have it. */
const WITH_TILDE = `left=$#
while [ "$left" -gt 0 ]; do
  word=$1
  shift
  case $word in "~") word=$HOME ;; "~/"*) word=$HOME/\${word#"~/"} ;; esac
  set -- "$@" "$word"
  left=$((left - 1))
done
exec "$@"`;

/** Runs a program in the worker's home folder; its exit code is data. */
export async function execOnWorker(
  connections: Connections,
  worker: Worker,
  argv: readonly string[],
  { timeoutMs, tilde }: { readonly timeoutMs: number; readonly tilde: boolean },
): Promise<{ code: number | null; stdout: string; stderr: string; truncated: boolean }> {
  const transport = await connections.reach(worker.worker_id);
  const hasTilde = tilde && argv.some((word) => word === "~" || word.startsWith("~/"));
  const { code, stdout, stderr, truncated } = hasTilde
    ? await transport.script(WITH_TILDE, argv, { timeoutMs })
    : await transport.exec(argv, { timeoutMs });
  return { code, stdout, stderr, truncated };
}

/** Accepts a new host key on the way to a worker, if it is that very one; what is kept open is dialled anew. */
export async function trustHostKey(
  context: FleetContext,
  connections: Connections,
  worker: Worker,
  fingerprint: string,
): Promise<{ trusted: string; fingerprint: string }> {
  const provider = providerOf(context, worker.provider);
  if (provider.trustHostKey === undefined || worker.provider_id === null) {
    throw new OrchestratorError(
      "invalid_input",
      `host keys of workers of the provider ${provider.id} are not for a person to accept`,
    );
  }
  const trusted = await provider.trustHostKey(worker.provider_id, fingerprint);
  await context.store.mutate(async (tx) => {
    tx.event({
      kind: "worker.host_key_trusted",
      repo: worker.repo,
      worker_id: worker.worker_id,
      payload: { worker: worker.name, shown_by: trusted, host_key: fingerprint },
    });
  });
  await connections.drop(worker.worker_id);
  return { trusted, fingerprint };
}

/** argv and environment that put the operator's terminal into a shell on the worker. Wakes the worker. */
export async function consoleOnWorker(
  context: FleetContext,
  connections: Connections,
  worker: Worker,
): Promise<{ argv: string[]; env: Record<string, string>; command: string }> {
  const provider = providerOf(context, worker.provider);
  if (provider.consoleArgv === undefined || worker.provider_id === null) {
    throw new OrchestratorError(
      "invalid_input",
      `workers of the provider ${provider.id} have no console yet`,
      { hint: `'orchestrator worker exec ${worker.name} -- PROGRAM' runs one program there` },
    );
  }
  await connections.reach(worker.worker_id);
  return onTerminal(await provider.consoleArgv(worker.provider_id));
}

/** argv and environment that put the operator's terminal into the worker's tmux. Wakes the worker. */
export async function attachWorker(
  context: FleetContext,
  connections: Connections,
  worker: Worker,
): Promise<{ argv: string[]; env: Record<string, string>; command: string }> {
  const provider = providerOf(context, worker.provider);
  if (provider.attachArgv === undefined || worker.provider_id === null) {
    throw new OrchestratorError(
      "invalid_input",
      `workers of the provider ${provider.id} cannot be attached to yet`,
    );
  }
  const transport = await connections.reach(worker.worker_id);
  const session = sessionName(worker.repo);
  const probe = await context.provisioner.probe(transport, session);
  if (probe.windows.length === 0) {
    throw new OrchestratorError(
      "not_found",
      `worker ${worker.name} has no tmux session ${session} now`,
      {
        hint: "it is made when the worker is prepared for its next run",
      },
    );
  }
  return onTerminal(await provider.attachArgv(worker.provider_id, session));
}

function onTerminal({ env, ...place }: OnTerminal): {
  argv: string[];
  env: Record<string, string>;
  command: string;
} {
  const { remote } = place;
  const argv = remote === undefined ? place.argv : [...place.argv, remoteCommand(remote)];
  const assignments = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  return {
    argv: [...argv],
    env: { ...env },
    command: quoteCommand(assignments.length === 0 ? argv : ["env", ...assignments, ...argv]),
  };
}
