import { OrchestratorError } from "../domain/errors.ts";
import { parseName } from "../domain/names.ts";
import type { Context } from "./context.ts";
import { printJson, printLine } from "./io.ts";
import { wholeNumber } from "./parse.ts";
import { argumentOf, isSet, json, listOf, textOf, type CommandSpec, type Given } from "./spec.ts";
import { table } from "./table.ts";

const nameArgument = { name: "name", help: "the repo's name; its workers are called after it" };

export const commands: readonly CommandSpec[] = [
  {
    path: "repo add",
    summary: "Add a repository, and so a pool of workers, to the configuration",
    notes:
      "What is not given takes the default: 'orchestrator config reference' describes every key.",
    arguments: [nameArgument],
    options: [
      { name: "url", value: "url", help: "Git URL or path that workers clone from (required)" },
      { name: "branch", value: "name", help: "base branch; default: the remote's HEAD" },
      { name: "provider", value: "name", help: "which provider makes the workers" },
      { name: "runtime", value: "name", help: "agent program", choices: ["claude", "shell"] },
      {
        name: "flag",
        value: "arg",
        help: "extra argument for the agent program (repeatable)",
        multiple: true,
      },
      { name: "permission-mode", value: "name", help: "permission mode of the agent program" },
      { name: "max-workers", value: "n", help: "most workers of this pool" },
      { name: "min-idle", value: "n", help: "idle workers kept ready" },
      { name: "verify", value: "command", help: "must pass before a run counts as completed" },
      { name: "verify-minutes", value: "n", help: "how long it may take" },
      { name: "setup", value: "path", help: "set-up script, relative to the clone" },
      { name: "setup-minutes", value: "n", help: "how long the setup script may take" },
      {
        name: "env",
        value: "name=value",
        help: "environment for set-up and agent (repeatable)",
        multiple: true,
      },
      {
        name: "credential",
        value: "kind=ref",
        help: "how the agent logs in, for example api-key=env:ANTHROPIC_API_KEY",
      },
      { name: "base-url", value: "url", help: "base URL of the agent's API" },
      { name: "git-name", value: "name", help: "author of the agent's commits" },
      { name: "git-email", value: "address", help: "author's e-mail" },
      {
        name: "deploy-key",
        value: "ref",
        help: "SSH key that workers clone and push with: env:NAME, file:PATH or cmd:COMMAND",
      },
      {
        name: "push",
        value: "what",
        help: "what is pushed at the end",
        choices: ["branch", "none"],
      },
      {
        name: "run-branch",
        value: "what",
        help: "a branch for each run, or the base branch",
        choices: ["run", "none"],
      },
      {
        name: "on-lost",
        value: "what",
        help: "when a worker cannot be reached",
        choices: ["wait"],
      },
      { name: "replace", help: "change a repo of this name that is there" },
      json,
    ],
    examples: ["orchestrator repo add kite --url git@github.com:team/kite.git --max-workers 4"],
    async run(context, given) {
      const name = parseName(argumentOf(given, 0), "repo name");
      if (textOf(given, "url") === undefined) {
        throw new OrchestratorError("invalid_input", "--url is missing", {
          hint: "for example: orchestrator repo add kite --url git@github.com:team/kite.git",
        });
      }
      const files = await import("./config-files.ts");
      const env = files.pairsOf(listOf(given, "env"), "env");
      const outcome = await files.addRepoTo(
        context,
        name,
        { ...repoOf(given), env },
        isSet(given, "replace"),
      );
      return showOutcome(context, given, name, outcome);
    },
  },
  {
    path: "repo list",
    summary: "List the configured repositories",
    options: [json],
    examples: ["orchestrator repo list"],
    async run(context, given) {
      const { repos } = await (await import("./config-files.ts")).shownConfig(context);
      const entries = Object.entries(repos);
      if (isSet(given, "json"))
        for (const [name, repo] of entries) printJson(context.io, { name, ...repo });
      else if (entries.length === 0)
        printLine(context.io, "no repos; 'orchestrator init' adds the first");
      else {
        const rows = entries.map(([name, repo]) => [
          name,
          repo.provider,
          repo.runtime,
          String(repo.maxWorkers ?? "unlimited"),
          repo.url,
        ]);
        for (const line of table(
          ["REPO", "PROVIDER", "RUNTIME", "WORKERS", "URL"],
          rows,
          context.io.columns,
        )) {
          printLine(context.io, line);
        }
      }
      return 0;
    },
  },
  {
    path: "repo remove",
    summary: "Remove a repository from the configuration; nothing is done to its workers",
    arguments: [nameArgument],
    options: [json],
    examples: ["orchestrator repo remove kite"],
    async run(context, given) {
      const name = parseName(argumentOf(given, 0), "repo name");
      const outcome = await (await import("./config-files.ts")).removeRepoFrom(context, name);
      return showOutcome(context, given, name, outcome);
    },
  },
];

/** Options as keys of the configuration; config/ checks their values. */
function repoOf(given: Given): Readonly<Record<string, unknown>> {
  const deployKey = textOf(given, "deploy-key");
  const git = { name: textOf(given, "git-name"), email: textOf(given, "git-email"), deployKey };
  const hasGit = Object.values(git).some((value) => value !== undefined);
  return {
    url: textOf(given, "url"),
    branch: textOf(given, "branch"),
    provider: textOf(given, "provider"),
    runtime: textOf(given, "runtime"),
    flags: listOf(given, "flag"),
    permissionMode: textOf(given, "permission-mode"),
    maxWorkers: wholeNumber(given, "max-workers", 1),
    minIdle: wholeNumber(given, "min-idle"),
    verify: textOf(given, "verify"),
    verifyMinutes: wholeNumber(given, "verify-minutes", 1),
    setup: textOf(given, "setup"),
    setupMinutes: wholeNumber(given, "setup-minutes", 1),
    auth: authOf(given),
    ...(hasGit ? { git } : {}),
    push: textOf(given, "push"),
    runBranch: textOf(given, "run-branch"),
    onLost: textOf(given, "on-lost"),
  };
}

function authOf(given: Given): object | undefined {
  const credential = textOf(given, "credential");
  const baseUrl = textOf(given, "base-url");
  if (credential === undefined && baseUrl === undefined) return undefined;
  const at = credential?.indexOf("=") ?? -1;
  if (credential !== undefined && at > 0) {
    return { kind: credential.slice(0, at), secret: credential.slice(at + 1), baseUrl };
  }
  throw new OrchestratorError("invalid_input", "--credential wants KIND=REFERENCE", {
    hint: "for example: --credential api-key=env:ANTHROPIC_API_KEY",
  });
}

function showOutcome(context: Context, given: Given, repo: string, outcome: string): number {
  if (isSet(given, "json")) printJson(context.io, { repo, outcome });
  else printLine(context.io, `${outcome} repo ${repo}`);
  return 0;
}
