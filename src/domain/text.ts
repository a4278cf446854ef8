/** Sequences that a terminal acts on: CSI, OSC/DCS/APC/PM/SOS strings, and other two-character escapes, in 7 and 8 bit form. */
const ESCAPES =
  // oxlint-disable-next-line no-control-regex
  /(?:\u001b\[|\u009b)[\u0030-\u003f]*[\u0020-\u002f]*[\u0040-\u007e]?|(?:\u001b[\]PX^_]|[\u0090\u0098\u009d-\u009f])[^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c)?|\u001b[\u0020-\u002f]*[\u0030-\u007e]?/g;

/** Control characters, and all that reorders, hides or joins text without being seen. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/**
 * Text from a worker, fit for one line of a terminal, a page, a log or a prompt: escape sequences, control, bidirectional and
 * zero-width characters are removed, white space is folded to single blanks, and at most `max` UTF-16 units stay (an ellipsis marks
 * the cut). Never throws; idempotent.
 */
export function cleanText(text: string, max: number): string {
  // What is cut away can only be longer than what is shown: a bound on the work for hostile sizes.
  const bounded = text.length > max * 8 + 1_024 ? text.slice(0, max * 8 + 1_024) : text;
  const clean = bounded
    .replace(ESCAPES, "")
    .replace(/[^\S\ufeff]+/gu, " ")
    .replace(INVISIBLE, "")
    .toWellFormed()
    .replace(/ {2,}/g, " ")
    .trim();
  if (clean.length <= max && bounded === text) return clean;
  const head = clean.slice(0, Math.max(0, max - 1));
  return `${(/[\ud800-\udbff]$/.test(head) ? head.slice(0, -1) : head).trimEnd()}…`.slice(0, max);
}
