import type { z } from "zod";
import { OrchestratorError } from "../domain/errors.ts";
import { type SchemaNode, schemaTree } from "./json-schema.ts";
import { nearest } from "./nearest.ts";

/*
 * What is wrong with a configuration, in sentences that name the key. No value is ever shown: a secret may have been
 * pasted where its reference belongs.
 */

export interface Problem {
  /** `repos.kite.maxWorker`, or the name of an environment variable; empty for the whole file. */
  readonly path: string;
  readonly line?: number;
  readonly column?: number;
  /** Reads after the path. */
  readonly what: string;
  readonly hint?: string | undefined;
}

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];
export type Located = Problem & { readonly keys: Path };

const MAX_PROBLEMS = 20;

/** One problem per key, at most 20, in the order in which zod found them. `value` is what was parsed. */
export function problemsOf(issues: readonly Issue[], value: unknown): Located[] {
  const tree = schemaTree();
  const found = new Map<string, Located>();
  for (const issue of issues) {
    const paths =
      issue.code === "unrecognized_keys"
        ? issue.keys.slice(0, MAX_PROBLEMS).map((key) => [...issue.path, key])
        : [issue.path];
    for (const keys of paths) {
      const path = formatPath(keys);
      if (found.size >= MAX_PROBLEMS || found.has(path)) continue;
      const hint = hintFor(issue, keys, value, tree);
      found.set(path, { path, keys, what: describe(issue, value), hint });
    }
  }
  return [...found.values()];
}

/** One error for all problems, in the order of the file: the first in the message, every one in the details. */
export function invalidConfig(file: string, unsorted: readonly Problem[]): OrchestratorError {
  const problems = unsorted.toSorted(
    (a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0),
  );
  const [first, ...rest] = problems;
  const more = rest.length === 0 ? "" : `; and ${rest.length} more`;
  return new OrchestratorError("invalid_config", `${first ? sentence(file, first) : file}${more}`, {
    hint: first?.hint,
    details: {
      file,
      problems: problems.map((problem) => ({
        path: problem.path,
        message: sentence(file, problem),
        ...(problem.line === undefined ? {} : { line: problem.line, column: problem.column }),
        ...(problem.hint === undefined ? {} : { hint: problem.hint }),
      })),
    },
  });
}

function sentence(file: string, { path, line, column, what }: Problem): string {
  const place = line === undefined ? file : `${file}:${line}:${column}`;
  return `${place}: ${path === "" ? "" : `${path} `}${what}`;
}

/** `repos.kite.flags[0]`; keys of other characters are quoted and cut. */
function formatPath(path: Path): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === "number") return `${text}[${step}]`;
    const key = String(step);
    const shown = /^[\w-]{1,60}$/.test(key) ? key : JSON.stringify(key.slice(0, 60));
    return text === "" ? shown : `${text}.${shown}`;
  }, "");
}

function describe(issue: Issue, root: unknown): string {
  switch (issue.code) {
    case "unrecognized_keys":
      return "is not a known key";
    case "invalid_key": {
      const inner = issue.issues[0];
      return inner ? `is no valid name: it ${describe(inner, root)}` : "is no valid name";
    }
    case "invalid_type": {
      const found = valueAt(root, issue.path);
      return found === undefined
        ? "is required"
        : `must be ${kindName(issue.expected)}, not ${kindOf(found)}`;
    }
    case "invalid_value":
      return `must be one of ${issue.values.map((value) => JSON.stringify(value)).join(", ")}`;
    case "too_small":
      if (issue.origin === "string") return "must not be empty";
      return `must be at least ${issue.minimum}`;
    case "too_big":
      if (issue.origin === "string") return `must be at most ${issue.maximum} characters long`;
      return `must be at most ${issue.maximum}`;
    case "invalid_format":
    case "custom":
      return issue.message;
    default:
      return "is not valid";
  }
}

function kindName(expected: string): string {
  switch (expected) {
    case "string":
      return "text";
    case "int":
      return "a whole number";
    case "number":
      return "a number";
    case "boolean":
      return "true or false";
    case "array":
      return "a list";
    default:
      return "a mapping";
  }
}

function kindOf(value: unknown): string {
  if (value === null) return "empty";
  if (Array.isArray(value)) return "a list";
  switch (typeof value) {
    case "string":
      return "text";
    case "number":
      if (!Number.isFinite(value)) return ".inf or .nan";
      return Number.isInteger(value) ? "a number" : "a fraction";
    case "boolean":
      return "true or false";
    default:
      return "a mapping";
  }
}

function hintFor(issue: Issue, keys: Path, root: unknown, tree: SchemaNode): string | undefined {
  if (issue.code === "unrecognized_keys") {
    const key = String(keys.at(-1));
    const known = Object.keys(nodeAt(tree, issue.path)?.properties ?? {});
    const near = nearest(key, known);
    if (near !== undefined) return `did you mean ${near}?`;
    const home = homeOf(key, tree);
    if (home !== undefined) return `${key} belongs below ${home}`;
    return known.length > 0 ? `known keys are ${known.join(", ")}` : undefined;
  }
  if (issue.code === "invalid_value") {
    const value = valueAt(root, issue.path);
    const near = typeof value === "string" ? nearest(value, issue.values.map(String)) : undefined;
    return near === undefined ? undefined : `did you mean ${near}?`;
  }
  if (issue.code === "invalid_type" && valueAt(root, issue.path) === null) {
    return "give it a value or remove the line";
  }
  return undefined;
}

/** The section that has a key of exactly this name. */
function homeOf(key: string, tree: SchemaNode): string | undefined {
  const sections: readonly Path[] = [["repos", "<name>"], ["controller"], ["delivery"], []];
  const home = sections.find((section) =>
    Object.hasOwn(nodeAt(tree, section)?.properties ?? {}, key),
  );
  return home === undefined ? undefined : home.map(String).join(".") || "the top level";
}

function nodeAt(tree: SchemaNode, path: Path): SchemaNode | undefined {
  return path.reduce<SchemaNode | undefined>((node, step) => {
    const properties = node?.properties;
    if (properties && Object.hasOwn(properties, step)) return properties[String(step)];
    return node?.additionalProperties || node?.items || undefined;
  }, tree);
}

export function valueAt(root: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, step) =>
      typeof value === "object" && value !== null && Object.hasOwn(value, step)
        ? Reflect.get(value, step)
        : undefined,
    root,
  );
}
