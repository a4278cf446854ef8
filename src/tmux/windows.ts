import { parseWindowName, type WindowStatus } from "../domain/status.ts";
import { cleanText } from "../domain/text.ts";

/** One line a window; the name last, since it may hold anything. */
export const WINDOW_FORMAT =
  "#{session_attached} #{window_id} #{window_index} #{pane_pid} #{pane_dead}#{pane_in_mode} #{pane_current_command}/#{@agent_pane}/#{window_name}";

export interface Window {
  /** `@7`: stays whatever the window is called and wherever it is moved. */
  readonly id: string;
  readonly index: number;
  /** Of its active pane. */
  readonly panePid: number;
  readonly dead: boolean;
  /** Somebody reads back in it: keys would not reach its program. */
  readonly inMode: boolean;
  /** Program in the foreground of its active pane, cleaned. */
  readonly command: string;
  /** The worker's scripts have marked it as the agent's, whatever it is called. */
  readonly isMarked: boolean;
  /** Cleaned for showing. */
  readonly name: string;
  /** What the window-name protocol says; undefined for a window that is not an agent's. */
  readonly status: WindowStatus | undefined;
  /** Terminals on the session. */
  readonly attached: number;
}

const LINE =
  /^(\d{1,6}) (@\d{1,9}) (\d{1,6}) (\d{1,10}) ([01])(\d{1,3}) (.*?)\/(%\d{1,9}|)\/(.*)$/su;

/** Parses what `listWindowsCommand` prints; a line that does not parse is dropped. */
export function parseWindows(stdout: string): readonly Window[] {
  return stdout.split("\n").flatMap((line) => parseWindow(line) ?? []);
}

function parseWindow(line: string): Window | undefined {
  const [, attached, id, index, pid, dead, mode, command, mark, name] = LINE.exec(line) ?? [];
  if (id === undefined || name === undefined) return undefined;
  return {
    id,
    index: Number(index),
    panePid: Number(pid),
    dead: dead === "1",
    inMode: mode !== "0",
    command: cleanText(command ?? "", 40),
    isMarked: mark !== "",
    name: cleanText(name, 200),
    status: parseWindowName(name),
    attached: Number(attached),
  };
}

/** The agent's window: the one that is marked, else one named as an agent's, else the second. */
export function agentWindow(windows: readonly Window[]): Window | undefined {
  return (
    windows.find(({ isMarked }) => isMarked) ??
    windows.find(({ status }) => status !== undefined) ??
    windows.find(({ index, name }) => index === 1 && name !== GUARD_WINDOW)
  );
}

/** Name of the window in which the worker's guard runs. */
export const GUARD_WINDOW = "guard";
