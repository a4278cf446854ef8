import { parseWindowName, type WindowStatus } from "../domain/status.ts";
import { cleanText } from "../domain/text.ts";

/** One line a window; the name last, since it may hold anything. */
export const WINDOW_FORMAT =
  "#{session_attached} #{window_id} #{window_index} #{pane_pid} #{pane_dead} #{window_name}";

export interface Window {
  /** `@7`: stays whatever the window is called and wherever it is moved. */
  readonly id: string;
  readonly index: number;
  /** Of its active pane. */
  readonly panePid: number;
  readonly dead: boolean;
  /** Cleaned for showing. */
  readonly name: string;
  /** What the window-name protocol says; undefined for a window that is not an agent's. */
  readonly status: WindowStatus | undefined;
  /** Terminals on the session. */
  readonly attached: number;
}

const LINE = /^(\d{1,6}) (@\d{1,9}) (\d{1,6}) (\d{1,10}) ([01]) (.*)$/su;

/** Parses what `listWindowsCommand` prints; a line that does not parse is dropped. */
export function parseWindows(stdout: string): readonly Window[] {
  return stdout.split("\n").flatMap((line) => parseWindow(line) ?? []);
}

function parseWindow(line: string): Window | undefined {
  const [, attached, id, index, pid, dead, name] = LINE.exec(line) ?? [];
  if (id === undefined || name === undefined) return undefined;
  return {
    id,
    index: Number(index),
    panePid: Number(pid),
    dead: dead === "1",
    name: cleanText(name, 200),
    status: parseWindowName(name),
    attached: Number(attached),
  };
}
