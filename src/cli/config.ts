import { printJson } from "./io.ts";
import { isSet, json, type CommandSpec } from "./spec.ts";

export const commands: readonly CommandSpec[] = [
  {
    path: "config show",
    summary: "Show the configuration in force: file, defaults and environment; never a secret",
    options: [json],
    examples: ["orchestrator config show"],
    async run(context, given) {
      const config = await (await import("./config-files.ts")).shownConfig(context);
      if (isSet(given, "json")) printJson(context.io, config);
      else context.io.write(`# ${context.paths.config}\n${JSON.stringify(config, null, 2)}\n`);
      return 0;
    },
  },
  {
    path: "config schema",
    summary: "Print the JSON Schema of config.yaml, for editors",
    options: [json],
    examples: ["orchestrator config schema > config.schema.json"],
    async run(context, given) {
      const text = (await import("./config-files.ts")).schemaText();
      context.io.write(isSet(given, "json") ? `${JSON.stringify(JSON.parse(text))}\n` : text);
      return 0;
    },
  },
  {
    path: "config reference",
    summary: "Print every key of config.yaml and every environment variable, as Markdown",
    options: [json],
    examples: ["orchestrator config reference"],
    async run(context, given) {
      const text = (await import("./config-files.ts")).referenceText();
      if (isSet(given, "json")) printJson(context.io, { markdown: text });
      else context.io.write(text);
      return 0;
    },
  },
];
