import assert from "node:assert/strict";
import { test } from "node:test";
import {
  configJsonSchema,
  configReference,
  environmentReference,
  schemaTree,
  type SchemaNode,
} from "../../src/config/json-schema.ts";
import { ENV_VARIABLES } from "../../src/config/env.ts";

test("the schema is plain JSON of draft 7 that refuses unknown keys everywhere", () => {
  const schema = configJsonSchema();
  assert.equal(schema["$schema"], "http://json-schema.org/draft-07/schema#");
  assert.deepEqual(JSON.parse(JSON.stringify(schema)), schema);
  const walk = (node: SchemaNode, path: string): void => {
    if (node.properties) assert.equal(node.additionalProperties, false, path);
    for (const [key, child] of Object.entries(node.properties ?? {})) walk(child, `${path}.${key}`);
    if (node.additionalProperties) walk(node.additionalProperties, `${path}.*`);
    if (node.items) walk(node.items, `${path}[]`);
  };
  walk(schemaTree(), "config");
});

test("every key is described where it is declared", () => {
  const walk = (node: SchemaNode, path: string): string[] => [
    ...Object.entries(node.properties ?? {}).flatMap(([key, child]) => [
      ...(child.description === undefined ? [`${path}${key}`] : []),
      ...walk(child, `${path}${key}.`),
    ]),
    ...(node.additionalProperties ? walk(node.additionalProperties, `${path}<name>.`) : []),
    ...(node.items ? walk(node.items, `${path}[].`) : []),
  ];
  assert.deepEqual(walk(schemaTree(), ""), []);
});

test("the reference has a row for every key, with type, default and description", () => {
  const lines = configReference().trimEnd().split("\n");
  assert.equal(lines[0], "| key | type | default | description |");
  for (const row of [
    "| `repos.<name>.url` | string | required | Git URL or path that workers clone from |",
    '| `repos.<name>.push` | `branch`, `none` | `"none"` | Whether the run\'s branch is pushed to the remote at the end |',
    "| `repos.<name>.flags` | list of strings | `[]` | Extra flags for the agent program, one argument each |",
    "| `repos.<name>.auth.kind` | `api-key`, `auth-token`, `oauth-token` | required | What kind of credential it is |",
    "| `providers.ssh.hosts` | list of entries | `[]` | Machines that pools with provider ssh may take as workers, in this order |",
    "| `providers.ssh.hosts[].jump[].host` | string | required | Alias of ~/.ssh/config, host name or address |",
    "| `controller.parallel` | integer 1–1000 | `16` | Workers prepared at the same time |",
  ]) {
    assert.ok(lines.includes(row), row);
  }
  assert.ok(lines.some((line) => line.startsWith("| `defaults.*` |")));
  for (const line of lines) assert.equal(line.split("|").length, 6, line);
});

test("the reference of the environment has every variable", () => {
  const text = environmentReference();
  for (const { name } of ENV_VARIABLES) assert.ok(text.includes(`| \`${name}\` |`), name);
});
