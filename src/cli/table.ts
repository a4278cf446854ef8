import { cleanLine } from "./clean.ts";

/** Characters that fill two cells of a terminal (East Asian wide, emoji) and those that fill none. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1faff}\u{20000}-\u{3fffd}]/u;
const NARROW_ONLY = /^[\x20-\x7e]*$/;

/** Cells of a terminal that `text` fills, as most terminals count. */
export function widthOf(text: string): number {
  if (NARROW_ONLY.test(text)) return text.length;
  let width = 0;
  for (const character of text) {
    if (/^\p{M}$/u.test(character)) continue;
    width += WIDE.test(character) ? 2 : 1;
  }
  return width;
}

/** At most `cells` cells of `text`; an ellipsis marks a cut. */
export function fit(text: string, cells: number): string {
  if (widthOf(text) <= cells) return text;
  let shown = "";
  let width = 0;
  for (const character of text) {
    width += widthOf(character);
    if (width > cells - 1) break;
    shown += character;
  }
  return `${shown}…`;
}

/**
 * Lines of a table with a head; cells are cleaned. The last column takes what `columns` leaves (at least 20 cells).
 */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns = Infinity,
): string[] {
  const all = [head, ...rows].map((row) => row.map((cell) => cleanLine(cell, 400)));
  const widths = head.map((_, index) => Math.max(...all.map((row) => widthOf(row[index] ?? ""))));
  const before = widths.slice(0, -1).reduce((sum, width) => sum + width + 2, 0);
  const last = Math.max(20, columns - before);
  return all.map((row) =>
    row
      .map((cell, index) =>
        index === row.length - 1
          ? fit(cell, last)
          : cell + " ".repeat((widths[index] ?? 0) - widthOf(cell)),
      )
      .join("  ")
      .trimEnd(),
  );
}
