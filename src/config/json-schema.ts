import { z } from "zod";
import { configSchema } from "./config.ts";
import { ENV_VARIABLES } from "./env.ts";

/** The part of JSON Schema that zod makes of our configuration. */
export interface SchemaNode {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: SchemaNode | false;
  readonly items?: SchemaNode;
}

/** JSON Schema (draft 7, which editors read) of config.yaml. Says what may be written, not what it becomes. */
export function configJsonSchema(): Readonly<Record<string, unknown>> {
  const { $schema, ...schema } = z.toJSONSchema(configSchema, { io: "input", target: "draft-7" });
  return { $schema, title: "config.yaml of Sprite Orchestrator", ...schema };
}

/** The same schema as nodes that can be walked. */
export function schemaTree(): SchemaNode {
  return configJsonSchema();
}

/** Markdown table of every key: key, type, default, description. Generated; ends in a newline. */
export function configReference(): string {
  const tree = schemaTree();
  const rows = Object.entries(tree.properties ?? {}).flatMap(([key, node]) =>
    key === "defaults" ? [sharedRow(key, node)] : rowsOf(key, node, false),
  );
  return table(["key", "type", "default", "description"], rows);
}

/** Markdown table of the environment variables. Generated; ends in a newline. */
export function environmentReference(): string {
  return table(
    ["variable", "meaning"],
    ENV_VARIABLES.map(({ name, meaning }) => [`\`${name}\``, meaning]),
  );
}

function sharedRow(key: string, node: SchemaNode): string[] {
  return [`\`${key}.*\``, "the keys of a repo, except `url`", "–", node.description ?? ""];
}

function rowsOf(path: string, node: SchemaNode, required: boolean): string[][] {
  if (node.properties) {
    return Object.entries(node.properties).flatMap(([key, child]) =>
      rowsOf(`${path}.${key}`, child, node.required?.includes(key) ?? false),
    );
  }
  if (node.additionalProperties && node.additionalProperties.properties) {
    return rowsOf(`${path}.<name>`, node.additionalProperties, false);
  }
  if (node.items?.properties) return rowsOf(`${path}[]`, node.items, false);
  const value = node.default === undefined ? "–" : `\`${JSON.stringify(node.default)}\``;
  return [[`\`${path}\``, typeOf(node), required ? "required" : value, node.description ?? ""]];
}

function typeOf(node: SchemaNode): string {
  if (node.enum) return node.enum.map((value) => `\`${value}\``).join(", ");
  if (node.items) return `list of ${typeOf(node.items)}s`;
  if (node.additionalProperties) return `map of ${typeOf(node.additionalProperties)}s`;
  if (node.minimum !== undefined && node.maximum !== undefined) {
    return `${node.type} ${node.minimum}–${node.maximum}`;
  }
  return node.type ?? "any";
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, head.map(() => "---"), ...rows];
  return lines.map((row) => `| ${row.join(" | ")} |\n`).join("");
}
