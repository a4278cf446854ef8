import { fileReference, MAX_ARGUMENT_BYTES, refuseText } from "../encode.ts";
import type { MessagePlace } from "../encode.ts";
import type { Encoding } from "../runtime.ts";
import { ALTERED, KEPT, PASTE_LIMITS, QUIT_WORDS } from "./vendor-data.ts";

/** Put on a line of its own before a text that the CLI would take for a command of its own. */
const PREFIX = "Task (sent as text, not as a command):\n";

/**
 * The text as Claude Code will show it to have been submitted when it is the last argument of its start. Exact for nearly every text;
 * what begins with `/` (a command) and the bare words that quit the CLI get a line before them; what the CLI would alter, or what is too
 * large for one argument, goes into a file.
 */
export function encodeForClaude(text: string, place: MessagePlace): Encoding {
  const reason = refuseText(text);
  if (reason !== null) return { kind: "refused", reason };
  const prefixed = text.trimStart().startsWith("/") || QUIT_WORDS.has(text.trim().toLowerCase());
  const sent = prefixed ? PREFIX + text : text;
  if (Buffer.byteLength(sent, "utf8") > MAX_ARGUMENT_BYTES || isAltered(text))
    return fileReference(text, place);
  return {
    kind: "encoded",
    message: { form: prefixed ? "prefixed" : "exact", sent, file: null },
  };
}

const isAltered = (text: string): boolean => ALTERED.test(text.replace(KEPT, ""));

/** What the CLI would wrap, change, run as a command, or not submit at all when it is pasted into its input box. */
export function refusePasteForClaude(text: string): string | null {
  const { characters, lines } = PASTE_LIMITS;
  const first = text.trimStart()[0];
  if (text.length > characters || text.split("\n").length > lines)
    return `a pasted text may have ${characters} characters and ${lines} lines: the CLI marks a longer one as foreign content`;
  if (first === "/" || first === "!") return `a pasted text that begins with ${first} is a command`;
  if (QUIT_WORDS.has(text.trim().toLowerCase())) return `${text.trim()} quits the CLI`;
  if (text.endsWith("\\")) return "a backslash at the end keeps the CLI from taking the text";
  if (text !== text.trimEnd() || /[\t\r]/.test(text) || isAltered(text))
    return "the CLI changes tabs, characters that are not seen, and blanks at the end";
  return refuseText(text);
}
