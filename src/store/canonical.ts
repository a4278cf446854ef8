import { hash } from "node:crypto";
import { OrchestratorError } from "../domain/errors.ts";

/**
 * JSON with sorted keys and no white space: equal values give equal text, whatever the order of their keys. Follows
 * JSON.stringify for `undefined` and `toJSON`, and refuses what that would lose without a word: NaN, infinities,
 * functions, symbols, bigints (`invalid_input`).
 */
export function canonicalJson(value: unknown): string {
  return write(value, "") ?? "null";
}

/** SHA-256 of the canonical JSON, in hex. */
export function canonicalHash(value: unknown): string {
  return hash("sha256", canonicalJson(value), "hex");
}

function write(value: unknown, key: string): string | undefined {
  switch (typeof value) {
    case "string":
    case "boolean":
      return JSON.stringify(value);
    case "number":
      if (!Number.isFinite(value)) throw refused(key, String(value));
      return JSON.stringify(value);
    case "undefined":
      return undefined;
    case "object":
      return value === null ? "null" : writeObject(value, key);
    default:
      throw refused(key, typeof value);
  }
}

function writeObject(value: object, key: string): string | undefined {
  if (Array.isArray(value)) {
    return `[${value.map((item: unknown, index) => write(item, String(index)) ?? "null").join(",")}]`;
  }
  if ("toJSON" in value && typeof value.toJSON === "function") return write(value.toJSON(key), key);
  const members: string[] = [];
  for (const [name, member] of Object.entries(value).sort(byName)) {
    const text = write(member, name);
    if (text !== undefined) members.push(`${JSON.stringify(name)}:${text}`);
  }
  return `{${members.join(",")}}`;
}

/** By UTF-16 code units, so that the order depends on no locale. */
function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : Number(a > b);
}

function refused(key: string, what: string): OrchestratorError {
  return new OrchestratorError("invalid_input", `'${key}' is ${what}, which JSON cannot carry`);
}
