import { isDeepStrictEqual } from "node:util";
import { type Document, isAlias, isMap, isScalar, type YAMLMap } from "yaml";
import { OrchestratorError } from "../domain/errors.ts";
import type { YamlText } from "./yaml-text.ts";
import { parseYaml } from "./yaml-text.ts";

type Mapping = Readonly<Record<string, unknown>>;

/** A mapping to stand at `path`, or undefined to remove the key. */
export interface YamlEdit {
  readonly path: readonly [string, ...string[]];
  readonly value: Mapping | undefined;
}

const HEADER = " Configuration of Sprite Orchestrator. Its keys: `orchestrator config schema`.";

/**
 * The text with one mapping set or removed; comments, order and untouched values stay. Changes `yaml.document`. Throws
 * `invalid_input` when the file shares values by anchors in a way that the edit would change something else too.
 */
export function editYaml(yaml: YamlText, { path, value }: YamlEdit, file: string): string {
  const { document } = yaml;
  if (document.contents === null && !document.comment && !document.commentBefore) {
    document.commentBefore = HEADER;
  }
  const expected = withValue(isMapping(yaml.value) ? yaml.value : {}, path, value);
  try {
    if (value === undefined) document.deleteIn(path);
    else setMapping(document, path, value);
    const text = document.toString({ lineWidth: 0 });
    const result = parseYaml(text);
    if (result.kind === "parsed" && isDeepStrictEqual(result.yaml.value, expected)) return text;
  } catch (error) {
    throw sharedValues(file, path, error);
  }
  throw sharedValues(file, path);
}

function setMapping(document: Document.Parsed, path: readonly string[], value: Mapping): void {
  const root = document.contents;
  if (isMap(root) && root.items.length === 0) root.flow = false;
  for (let depth = 1; depth <= path.length; depth += 1) {
    const place = path.slice(0, depth);
    const node: unknown = document.getIn(place, true);
    // Writing through an alias would change its anchor.
    if (isAlias(node)) throw new Error("alias");
    if (isMap(node)) {
      if (node.items.length === 0) node.flow = false;
      continue;
    }
    const empty = document.createNode({});
    empty.flow = false;
    if (isScalar(node)) empty.commentBefore = node.commentBefore ?? node.comment ?? null;
    document.setIn(place, empty);
  }
  const map: unknown = document.getIn(path, true);
  if (isMap(map)) fill(document, map, value);
}

function fill(document: Document.Parsed, map: YAMLMap, value: Mapping): void {
  for (const { key } of map.items.slice()) {
    if (isScalar(key) && !Object.hasOwn(value, String(key.value))) map.delete(key);
  }
  for (const [key, wanted] of Object.entries(value)) {
    const node: unknown = map.get(key, true);
    if (isMap(node) && isMapping(wanted)) fill(document, node, wanted);
    else if (isScalar(node) && !isObject(wanted)) {
      if (node.value === wanted) continue;
      // A text of several lines may be none that stands plainly, as the former one did.
      if (node.type === "PLAIN") delete node.type;
      map.set(key, wanted);
    } else if (!isNodeEqual(document, node, wanted)) map.set(key, document.createNode(wanted));
  }
}

function isNodeEqual(document: Document.Parsed, node: unknown, wanted: unknown): boolean {
  return isObject(node) && "toJS" in node && typeof node.toJS === "function"
    ? isDeepStrictEqual(node.toJS(document), wanted)
    : false;
}

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null;

function isMapping(value: unknown): value is Mapping {
  return isObject(value) && !Array.isArray(value);
}

function withValue(
  target: Mapping,
  [key, ...rest]: readonly string[],
  value: Mapping | undefined,
): Mapping {
  if (key === undefined) return value ?? {};
  const { [key]: current, ...others } = target;
  if (rest.length === 0 && value === undefined) return others;
  return { ...target, [key]: withValue(isMapping(current) ? current : {}, rest, value) };
}

function sharedValues(file: string, path: readonly string[], cause?: unknown): OrchestratorError {
  return new OrchestratorError(
    "invalid_input",
    `${file} shares values by anchors, so that ${path.join(".")} cannot be changed alone`,
    { hint: "change the file by hand", cause, details: { file, path: path.join(".") } },
  );
}
