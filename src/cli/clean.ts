import { cleanText } from "../domain/text.ts";

/** One line of foreign text for a terminal. */
export const cleanLine = (text: string, max = 500): string => cleanText(text, max);

/** Foreign text of several lines for a terminal: as `cleanLine`, but line breaks and indentation stay. */
export function cleanBlock(text: string): string {
  return text.split(/\r?\n/).map(cleanIndented).join("\n");
}

function cleanIndented(line: string): string {
  // Plain text, the common case, keeps its inner blanks: tables and screens live from them.
  if (/^[\t\x20-\x7e]*$/.test(line)) return line.replaceAll("\t", "    ");
  const indent = /^ */.exec(line)?.[0] ?? "";
  return indent + keepBlanks(line.slice(indent.length));
}

/** Cleans between runs of blanks, so that columns stay where they are. */
function keepBlanks(line: string): string {
  return line
    .replaceAll("\t", "    ")
    .split(/( {2,})/)
    .map((part) => (/^ {2,}$/.test(part) ? part : cleanEdges(part)))
    .join("");
}

function cleanEdges(part: string): string {
  const inner = cleanText(part, 20_000);
  return `${part.startsWith(" ") ? " " : ""}${inner}${part.endsWith(" ") && part !== " " ? " " : ""}`;
}
