import type { Io } from "./io.ts";

export type Paint = (text: string) => string;

export interface Palette {
  readonly bold: Paint;
  readonly dim: Paint;
  readonly red: Paint;
  readonly green: Paint;
  readonly yellow: Paint;
}

/** Colours on a terminal that wants them; elsewhere the text as it is. */
export function paletteOf(io: Io): Palette {
  const paint = (on: number, off: number): Paint =>
    io.hasColours ? (text) => `\u001b[${on}m${text}\u001b[${off}m` : (text) => text;
  return {
    bold: paint(1, 22),
    dim: paint(2, 22),
    red: paint(31, 39),
    green: paint(32, 39),
    yellow: paint(33, 39),
  };
}

/** How good or bad a state of a run, a worker or an agent is, by colour. */
export function stateColour(palette: Palette, state: string): Paint {
  switch (state) {
    case "active":
    case "running":
    case "completed":
    case "free":
      return palette.green;
    case "blocked":
    case "stale":
    case "unknown":
    case "cancelling":
    case "unready":
      return palette.yellow;
    case "failed":
    case "error":
    case "abandoned":
      return palette.red;
    default:
      return (text) => text;
  }
}
