import { existsSync } from "node:fs";
import { OrchestratorError } from "../domain/errors.ts";
import { bashScript, fishScript, zshScript } from "./completion-scripts.ts";
import type { Context } from "./context.ts";
import { printJson, printLine } from "./io.ts";
import { NOUNS } from "./nouns.ts";
import { connectTo } from "./session.ts";
import { argumentOf, isSet, json, type CommandSpec, type Given, type OptionSpec } from "./spec.ts";
import { asRuns, asStatus } from "./views.ts";

const SHELLS = { bash: bashScript, zsh: zshScript, fish: fishScript } as const;
/** Runs offered, the newest. */
const MOST_RUNS = 50;

export const commands: readonly CommandSpec[] = [
  {
    path: "completion",
    summary: "Print the completion script for a shell: bash, zsh or fish",
    notes: `bash:  orchestrator completion bash > ~/.local/share/bash-completion/completions/orchestrator
zsh:   orchestrator completion zsh > "\${fpath[1]}/_orchestrator"
fish:  orchestrator completion fish > ~/.config/fish/completions/orchestrator.fish
Names of repos, workers and runs come from the store, or from the controller that runs; none is started.`,
    arguments: [{ name: "shell", help: "bash, zsh or fish" }],
    options: [json],
    examples: ["orchestrator completion bash", 'eval "$(orchestrator completion bash)"'],
    async run(context, given) {
      const shell = argumentOf(given, 0);
      const make = Object.entries(SHELLS).find(([name]) => name === shell)?.[1];
      if (make === undefined) {
        throw new OrchestratorError(
          "invalid_input",
          `${JSON.stringify(shell.slice(0, 40))} is no shell that is known here`,
          {
            hint: "for example: orchestrator completion bash",
          },
        );
      }
      const script = make();
      if (isSet(given, "json")) printJson(context.io, { shell, script });
      else context.io.write(script);
      return 0;
    },
  },
  {
    path: "complete-words",
    summary: "What may come next on a command line, a line each; called by the completion scripts",
    arguments: [
      {
        name: "words",
        help: "the words after the program's name, the unfinished one last",
        optional: true,
        variadic: true,
      },
    ],
    examples: ["orchestrator complete-words -- run sh"],
    async run(context, given) {
      for (const word of await suggestions(context, given)) printLine(context.io, word);
      return 0;
    },
  },
];

/** Never throws: a completion that cannot be made is none. */
async function suggestions(context: Context, given: Given): Promise<readonly string[]> {
  try {
    const words = given.arguments;
    const unfinished = words.at(-1) ?? "";
    const found = await candidates(context, words.slice(0, -1), unfinished);
    // What a shell would act on is never offered; names of ours hold nothing of the kind.
    return found.filter((word) => word.startsWith(unfinished) && /^[\w@%+=:,./-]+$/.test(word));
  } catch {
    return [];
  }
}

async function candidates(
  context: Context,
  before: readonly string[],
  unfinished: string,
): Promise<readonly string[]> {
  const nouns = NOUNS.filter(({ hidden }) => hidden !== true).map(({ name }) => name);
  const [first] = before;
  if (first === undefined && !unfinished.startsWith("-")) return [...nouns, "help"];
  const words =
    first === undefined || first.startsWith("-")
      ? ["dispatch", ...before]
      : before[0] === "help"
        ? before.slice(1)
        : before;
  const noun = NOUNS.find(({ name }) => name === words[0]);
  if (noun === undefined) return words.length === 0 ? nouns : [];
  const specs = (await noun.load()).filter(({ path }) => path.split(" ")[0] === noun.name);
  const spec = specs.find(({ path }) =>
    path.split(" ").every((word, index) => words[index] === word),
  );
  if (spec === undefined)
    return words.length === 1 ? specs.map(({ path }) => path.split(" ")[1] ?? "") : [];
  const rest = words.slice(spec.path.split(" ").length);
  if (rest.includes("--")) return [];
  const asked = valueWanted(spec, rest);
  if (asked !== undefined) return valuesOf(context, asked);
  if (unfinished.startsWith("-"))
    return ["--help", ...(spec.options ?? []).map(({ name }) => `--${name}`)];
  return argumentsOf(context, spec, rest);
}

/** The option whose value comes next. */
function valueWanted(spec: CommandSpec, words: readonly string[]): OptionSpec | undefined {
  const last = words.at(-1) ?? "";
  return (spec.options ?? []).find(
    ({ name, value }) => value !== undefined && last === `--${name}`,
  );
}

async function valuesOf(context: Context, option: OptionSpec): Promise<readonly string[]> {
  if (option.choices !== undefined) return option.choices;
  switch (option.name) {
    case "repo":
      return repos(context);
    case "worker":
      return (await fleet(context)).workers;
    case "run":
      return (await fleet(context)).runs;
    default:
      return [];
  }
}

async function argumentsOf(
  context: Context,
  spec: CommandSpec,
  words: readonly string[],
): Promise<readonly string[]> {
  const given = words.filter((word, index) => {
    if (word.startsWith("-")) return false;
    return valueWanted(spec, words.slice(0, index)) === undefined;
  }).length;
  switch (spec.arguments?.[given]?.name) {
    case "worker":
      return (await fleet(context)).workers;
    case "run":
      return ["latest", ...(await fleet(context)).runs];
    case "target": {
      const { workers, runs } = await fleet(context);
      return spec.path === "status"
        ? [...(await repos(context)), ...workers, ...runs]
        : [...workers, ...runs];
    }
    case "name":
      return repos(context);
    case "shell":
      return Object.keys(SHELLS);
    case "answer":
      return ["allow", "deny"];
    default:
      return [];
  }
}

async function repos(context: Context): Promise<readonly string[]> {
  const { repoNames } = await import("./config-files.ts");
  return repoNames(context);
}

/** From the controller that runs, else from the store if there is one: nothing is made for a completion. */
async function fleet(context: Context): Promise<{ workers: string[]; runs: string[] }> {
  let client = await connectTo(context);
  if (client === undefined) {
    if (!existsSync(context.paths.database)) return { workers: [], runs: [] };
    client = await context.openInProcess();
  }
  try {
    const [status, runs] = await Promise.all([
      client.call("status", {}).then(asStatus),
      client.call("run.list", { limit: MOST_RUNS }).then(asRuns),
    ]);
    return {
      workers: status.workers.map(({ worker }) => worker),
      runs: runs.map(({ run_id: id }) => id),
    };
  } finally {
    await client.close();
  }
}
