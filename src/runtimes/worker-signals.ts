import { listField, numberField, textField } from "./fields.ts";
import type { RegistryStatus, Signal, WorkerLine, WorkSignal } from "./signal.ts";

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
  if (line.source !== "guard") return [];
  return line.event === "pulse" ? pulseSignals(line) : workSignals(line);
}

const MAX_NAMES = 5;

/** What the guard tells of the work; texts are as the worker wrote them. */
export function workSignals({ source, event, payload }: WorkerLine): readonly WorkSignal[] {
  if (source !== "guard") return [];
  const count = (key: string) => Math.max(0, Math.trunc(numberField(payload, key) ?? 0));
  const names = (key: string) =>
    (listField(payload, key) ?? []).filter((name) => typeof name === "string").slice(0, MAX_NAMES);
  switch (event) {
    case "snapshot": {
      const [number, epoch] = [count("number"), count("epoch")];
      if (!isPlainNumber(number) || !isPlainNumber(epoch)) return [];
      return [
        {
          kind: "snapshot_taken",
          number,
          epoch,
          moved: payload["moved"] === true,
          pushed: textField(payload, "pushed") ?? "no",
          skipped: names("skipped"),
          skippedTotal: count("skipped_total"),
          unsaved: names("unsaved"),
          unsavedTotal: count("unsaved_total"),
        },
      ];
    }
    case "snapshot_failed":
      return [{ kind: "snapshot_failed", reason: textField(payload, "reason") ?? "" }];
    case "commit_overdue":
      return [{ kind: "commit_overdue", uncommittedMs: count("uncommitted_ms") }];
    case "committed":
      return [{ kind: "committed" }];
    default:
      return [];
  }
}

/** What can be a part of a ref's name. */
const isPlainNumber = (value: number): boolean => value > 0 && value < 1e15;

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
