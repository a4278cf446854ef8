import type { TerminalScreen } from "./io.ts";
import { fit } from "./table.ts";

const ENTER = "\u001b[?1049h\u001b[?25l\u001b[?7l";
const LEAVE = "\u001b[?7h\u001b[?25h\u001b[?1049l";
const CLEAR_LINE = "\u001b[2K";

/** A frame of plain lines; `paint` may colour a line that already fits. */
export interface Frame {
  readonly lines: readonly string[];
  paint(line: string, index: number): string;
}

/** The terminal as a page that is repainted line by line, only where something changed. */
export class Page implements Disposable {
  readonly #screen: TerminalScreen;
  #shown: string[] = [];
  #size = "";

  constructor(screen: TerminalScreen) {
    this.#screen = screen;
    screen.write(ENTER);
  }

  /** Shows as much of the frame as fits; nothing is written when it is what is there. */
  show(frame: Frame): void {
    const { rows, columns } = this.#screen.size();
    const lines = cut(frame.lines, rows).map((line, index) =>
      frame.paint(fit(line, columns), index),
    );
    const size = `${rows}x${columns}`;
    // What a terminal keeps of its lines when it changes its size is its own business.
    const all = size !== this.#size;
    this.#size = size;
    let text = all ? "\u001b[2J" : "";
    for (let row = 0; row < Math.max(lines.length, this.#shown.length); row += 1) {
      const line = lines[row] ?? "";
      if (!all && line === (this.#shown[row] ?? "")) continue;
      if (row < rows) text += `\u001b[${row + 1};1H${CLEAR_LINE}${line}`;
    }
    this.#shown = lines;
    if (text !== "") this.#screen.write(text);
  }

  [Symbol.dispose](): void {
    this.#screen.write(LEAVE);
  }
}

/** The first lines, and how many more there are. */
function cut(lines: readonly string[], rows: number): readonly string[] {
  if (lines.length <= rows) return lines;
  const kept = Math.max(0, rows - 1);
  return [...lines.slice(0, kept), `… ${lines.length - kept} more lines`].slice(
    0,
    Math.max(1, rows),
  );
}
