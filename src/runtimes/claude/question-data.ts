/*
 * Questions of Claude Code that keys may answer, by version: what is not here is answered by a person in the window. Recorded as the other vendor
 * data; the screens are in the test fixtures.
 */

export interface QuestionShape {
  readonly id: string;
  /** The sentence right above the menu. */
  readonly asks: RegExp;
  readonly allow: RegExp;
  readonly deny: RegExp;
  /** Last line below the menu; null: nothing is below it. */
  readonly footer: string | null;
  /** Keys on the denial that let words be added, and the footer while they are typed. */
  readonly amend: { readonly keys: readonly string[]; readonly footer: string } | null;
}

export interface VersionShapes {
  readonly questions: readonly QuestionShape[];
  /** Below the input box while a turn runs, and only then. */
  readonly turn: string;
  /** The denial while it stands open for words, and how it begins once they are added. */
  readonly openDenial: string;
  readonly denialWith: string;
}

const ALLOW = /^Yes$/;
const DENY = /^No(, and tell Claude what to do differently( \(esc\))?)?$/;

export const SHAPES: Readonly<Record<string, VersionShapes>> = {
  "2.1.329": {
    questions: [
      {
        id: "permission",
        asks: /^Do you want to (proceed|create .+|make this edit to .+|overwrite .+)\?$/,
        allow: ALLOW,
        deny: DENY,
        footer: "Esc to cancel · Tab to amend",
        amend: { keys: ["Tab"], footer: "Esc to cancel" },
      },
      {
        id: "fetch-permission",
        asks: /^Do you want to allow Claude to fetch this content\?$/,
        allow: ALLOW,
        deny: DENY,
        footer: null,
        amend: null,
      },
    ],
    turn: "esc to interrupt",
    openDenial: "No, and tell Claude what to do differently",
    denialWith: "No, ",
  },
};
