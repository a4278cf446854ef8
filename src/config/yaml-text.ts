import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
  type YAMLMap,
} from "yaml";

/*
 * YAML as a document that keeps comments, and as plain values. Parser messages quote the text, which may hold a pasted
 * secret: problems carry sentences of our own instead.
 */

export interface Position {
  readonly line: number;
  readonly column: number;
}

interface YamlProblem extends Position {
  readonly message: string;
}

export interface YamlText {
  readonly document: Document.Parsed;
  readonly value: unknown;
  /** Where the key at `path` stands; that of its nearest parent when it is absent. Lines and columns count from 1. */
  position(path: readonly PropertyKey[]): Position;
}

export type YamlResult =
  | { readonly kind: "parsed"; readonly yaml: YamlText }
  | { readonly kind: "broken"; readonly problems: readonly YamlProblem[] };

/** Aliases that expand to more nodes than this are taken for an attack. */
const MAX_ALIAS_COUNT = 100;

const MESSAGES: Readonly<Record<string, string>> = {
  BAD_ALIAS: "an alias has no anchor",
  BAD_DIRECTIVE: "a line that begins with % is not allowed here",
  BAD_DQ_ESCAPE: "a double-quoted text has an unknown escape sequence",
  BAD_INDENT: "the indentation is wrong",
  BAD_SCALAR_START: "a value begins with a character that needs quotes",
  BLOCK_AS_IMPLICIT_KEY: "a value with a colon and a blank needs quotes",
  BLOCK_IN_FLOW: "an indented block stands inside brackets",
  MISSING_CHAR: "a quote, bracket, comma, colon or blank is missing",
  MULTILINE_IMPLICIT_KEY: "a line has no colon after its key",
  MULTIPLE_DOCS: "there is more than one document",
  NON_STRING_KEY: "a key is not a plain text",
  RESOURCE_EXHAUSTION: "it is nested too deeply",
  TAB_AS_INDENT: "a tab is used as indentation",
  TAG_RESOLVE_FAILED: "a tag (!...) is not allowed",
  UNEXPECTED_TOKEN: "something stands where it may not",
};

/** Pure. Duplicate keys, tags, second documents and alias bombs are problems. An empty text has the value null. */
export function parseYaml(text: string): YamlResult {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    stringKeys: true,
    // The library compares every key with every other; `walk` is linear.
    uniqueKeys: false,
    logLevel: "error",
  });
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const problems = [...document.errors, ...document.warnings].map((error) => ({
    ...at(error.pos[0]),
    message: MESSAGES[error.code] ?? "the syntax is wrong",
  }));
  if (problems.length === 0) {
    const { duplicates, cycles } = walk(document);
    problems.push(
      ...duplicates.map((offset) => ({ ...at(offset), message: "a key is there twice" })),
      ...cycles.map((offset) => ({ ...at(offset), message: "an alias stands inside its anchor" })),
    );
  }
  if (problems.length > 0) return { kind: "broken", problems };
  try {
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIAS_COUNT });
    const position = (path: readonly PropertyKey[]) => at(offsetOf(document, path));
    return { kind: "parsed", yaml: { document, value, position } };
  } catch {
    const message = "its aliases have no anchor, or expand to too much";
    return { kind: "broken", problems: [{ ...at(0), message }] };
  }
}

/** Offsets of keys that a mapping holds already, and of aliases that would make an endless value. */
function walk(document: Document.Parsed): { duplicates: number[]; cycles: number[] } {
  const duplicates: number[] = [];
  const cycles: number[] = [];
  visit(document, {
    Alias(_, alias, path) {
      const target = alias.resolve(document);
      if (target && path.includes(target)) cycles.push(alias.range?.[0] ?? 0);
    },
    Map(_, map) {
      const seen = new Set<unknown>();
      for (const { key } of map.items) {
        if (!isScalar(key)) continue;
        if (seen.has(key.value)) duplicates.push(key.range?.[0] ?? 0);
        seen.add(key.value);
      }
    },
  });
  return { duplicates, cycles };
}

function offsetOf(document: Document.Parsed, path: readonly PropertyKey[]): number {
  let node: unknown = document.contents;
  let offset = 0;
  for (const step of path) {
    const target: unknown = isAlias(node) ? node.resolve(document) : node;
    if (isMap(target)) {
      const pair = findPair(target, step);
      if (!isScalar(pair?.key)) return offset;
      offset = pair.key.range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(target)) {
      node = target.items[Number(step)];
      if (isScalar(node) || isMap(node) || isSeq(node)) offset = node.range?.[0] ?? offset;
    } else {
      return offset;
    }
  }
  return offset;
}

function findPair(map: YAMLMap, key: PropertyKey) {
  return map.items.find((item) => isScalar(item.key) && item.key.value === key);
}
