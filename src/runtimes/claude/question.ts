import { createHash } from "node:crypto";
import { cleanText } from "../../domain/text.ts";
import { parseObject, textField } from "../fields.ts";
import type { Question, QuestionOption } from "../runtime.ts";
import { SHAPES, type QuestionShape, type VersionShapes } from "./question-data.ts";
import { COMPOSER } from "./vendor-data.ts";

const RULE = /^\s*─{20,}$/;
const OPTION = /^\s*(❯ )?\s*([1-9])\. (\S.*)$/;
const MAX_TEXT_LINES = 40;

/** The version that a registry file `<config>/sessions/<pid>.json` names. */
export function versionOf(registry: string): string | null {
  const parsed = parseObject(registry);
  return parsed === null ? null : textField(parsed, "version");
}

/** What a screen shows on which Escape stops the turn, a line each; null when it is not such a one. */
export function turnOnScreen(screen: string, version: string | null): string | null {
  const shapes = version === null ? undefined : SHAPES[version];
  if (shapes === undefined || !COMPOSER.test(screen)) return null;
  const last = shownLines(screen).at(-1) ?? "";
  return last.includes(shapes.turn) ? shapes.turn : null;
}

/**
 * The question at the bottom of the screen: its sentence, a menu numbered from 1 with one option marked, the recorded footer, and nothing below.
 * What stands above, which the agent may have written, counts for nothing.
 */
export function questionOnScreen(screen: string, version: string | null): Question | null {
  const shapes = version === null ? undefined : SHAPES[version];
  if (shapes === undefined || COMPOSER.test(screen)) return null;
  for (const shape of shapes.questions) {
    const question = match(shownLines(screen), shape, shape.footer);
    if (question !== null) return question;
  }
  return null;
}

/** Whether the denial is selected and stands open for words, none typed yet. */
export function takesWords(screen: string, version: string | null): boolean {
  return (
    openDenial(screen, version)?.label === withoutBlanks(SHAPES[version ?? ""]?.openDenial ?? "")
  );
}

/** Whether the selected denial carries exactly these words; they may be broken over lines. */
export function hasAmended(screen: string, version: string | null, words: string): boolean {
  const denial = openDenial(screen, version);
  return denial !== null && denial.label === withoutBlanks(denial.shapes.denialWith + words);
}

/** The marked option at the bottom of a question that takes words, without its blanks. */
function openDenial(
  screen: string,
  version: string | null,
): { label: string; shapes: VersionShapes } | null {
  const shapes = version === null ? undefined : SHAPES[version];
  if (shapes === undefined || COMPOSER.test(screen)) return null;
  const lines = shownLines(screen);
  const start = lines.findLastIndex((line) => OPTION.exec(line)?.[1] !== undefined);
  const footer = lines.at(-1)?.trim();
  if (start < 0 || !shapes.questions.some(({ amend }) => amend?.footer === footer)) return null;
  const label = OPTION.exec(lines.slice(start, -1).join(""))?.[3] ?? "";
  return { label: withoutBlanks(label), shapes };
}

function match(
  lines: readonly string[],
  shape: QuestionShape,
  footer: string | null,
): Question | null {
  const menuEnd = footer === null ? lines.length : lines.length - 1;
  if (footer !== null && lines.at(-1)?.trim() !== footer) return null;
  let menuStart = menuEnd;
  while (menuStart > 0 && OPTION.test(lines[menuStart - 1] ?? "")) menuStart -= 1;
  const menu = lines.slice(menuStart, menuEnd).map((line) => OPTION.exec(line));
  const asks = lines[menuStart - 1]?.trim() ?? "";
  const numbered = menu.every((option, index) => option?.[2] === String(index + 1));
  const marked = menu.filter((option) => option?.[1] !== undefined);
  if (menu.length < 2 || !numbered || marked.length !== 1 || !shape.asks.test(asks)) return null;
  const options = menu.map((option): QuestionOption => {
    const label = option?.[3]?.trim() ?? "";
    return {
      number: Number(option?.[2]),
      label: cleanText(label, 200),
      role: roleOf(shape, label),
    };
  });
  if (options.filter(({ role }) => role === "deny").length !== 1) return null;
  if (options.filter(({ role }) => role === "allow").length !== 1) return null;
  const ruled = lines.slice(0, menuStart).findLastIndex((line) => RULE.test(line));
  if (ruled < 0) return null;
  const text = lines
    .slice(ruled + 1, menuStart)
    .map((line) => cleanText(line, 300))
    .filter((line) => line !== "" && !/^╌+$/.test(line));
  return {
    id: shape.id,
    fingerprint: createHash("sha256").update(JSON.stringify(text)).digest("hex").slice(0, 12),
    text: text.slice(-MAX_TEXT_LINES),
    options,
    selected: Number(marked[0]?.[2]),
    amendKeys: shape.amend?.keys ?? null,
  };
}

function roleOf(shape: QuestionShape, label: string): QuestionOption["role"] {
  if (shape.allow.test(label)) return "allow";
  return shape.deny.test(label) ? "deny" : "other";
}

const shownLines = (screen: string): string[] =>
  screen
    .split("\n")
    .map((line) => line.trimEnd())
    .filter((line) => line !== "");

const withoutBlanks = (text: string): string => text.replaceAll(/\s+/g, "");
