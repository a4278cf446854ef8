import { listField, numberField, textField } from "./fields.ts";
import type { RegistryStatus, Signal, WorkerLine } from "./signal.ts";

const REGISTRY: ReadonlySet<string> = new Set(["idle", "busy", "waiting", "shell", "absent"]);

const isRegistryStatus = (text: string): text is RegistryStatus => REGISTRY.has(text);

/** Signals of the lines that launcher and guard write, the same for every runtime (provision/README.md). */
export function workerSignals(line: WorkerLine): readonly Signal[] {
  if (line.source === "launcher" && line.event === "started") {
    const pid = numberField(line.payload, "pid");
    return [{ kind: "process", alive: true, pid, exitCode: null, signal: null }];
  }
  if (line.source === "launcher" && line.event === "exit") {
    const { payload } = line;
    const number = numberField(payload, "signal");
    const signal = textField(payload, "signal") ?? (number === null ? null : String(number));
    const exitCode = numberField(payload, "code");
    return [{ kind: "process", alive: false, pid: numberField(payload, "pid"), exitCode, signal }];
  }
  return line.source === "guard" && line.event === "pulse" ? pulseSignals(line) : [];
}

function pulseSignals({ payload }: WorkerLine): readonly Signal[] {
  const signals: Signal[] = [];
  const alive = payload["alive"];
  if (typeof alive === "boolean") {
    const pid = numberField(payload, "pid");
    signals.push({ kind: "process", alive, pid, exitCode: null, signal: null });
  }
  const status = textField(payload, "registry");
  if (status !== null && isRegistryStatus(status)) {
    const waitingFor = textField(payload, "waiting_for");
    signals.push({ kind: "registry", status, waitingFor, settled: payload["settled"] === true });
  }
  const windowId = textField(payload, "window_id");
  const windowName = textField(payload, "window");
  const attached = numberField(payload, "attached");
  if (windowId !== null || windowName !== null || attached !== null)
    signals.push({ kind: "tmux", windowId, windowName, attached: attached ?? 0 });
  return signals;
}

/** How many entries a list of the payload has; absent: none. */
export const countOf = (line: WorkerLine, key: string): number =>
  listField(line.payload, key)?.length ?? 0;
