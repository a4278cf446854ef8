import { OrchestratorError } from "../domain/errors.ts";
import type { InitAnswers, Question } from "./config-files.ts";
import type { Context } from "./context.ts";
import { cleanLine } from "./clean.ts";
import { printJson, printLine } from "./io.ts";
import { isSet, json, textOf, type CommandSpec, type Given } from "./spec.ts";

export const commands: readonly CommandSpec[] = [
  {
    path: "init",
    summary: "Write the configuration: a first repo, where its workers run, how the agent logs in",
    notes: `Asks on a terminal for what the options do not say; elsewhere, and with --yes, what this machine suggests is taken.
Safe to run again: it changes only what is missing.`,
    options: [
      {
        name: "url",
        value: "url",
        help: "Git URL of the repository; suggested: origin of this folder",
      },
      { name: "repo", value: "name", help: "its name; workers are called after it" },
      {
        name: "credential",
        value: "kind=ref",
        help: "how the agent logs in: api-key, auth-token or oauth-token = env:NAME, file:PATH or cmd:COMMAND; or none",
      },
      { name: "provider", value: "name", help: "which provider makes the workers" },
      { name: "runtime", value: "name", help: "agent program", choices: ["claude", "shell"] },
      { name: "yes", help: "take the suggestions, ask nothing" },
      json,
    ],
    examples: [
      "orchestrator init",
      "orchestrator init --repo kite --url git@github.com:team/kite.git --credential api-key=env:ANTHROPIC_API_KEY",
    ],
    run: runInit,
  },
];

async function runInit(context: Context, given: Given): Promise<number> {
  const files = await import("./config-files.ts");
  const facts = await files.initFacts(context);
  const asks =
    context.io.stdin.kind === "terminal" && context.io.isTerminal && !isSet(given, "yes");
  let answers: InitAnswers = answersOf(given);
  let plan = files.planInit(facts, answers);
  while (plan.kind === "ask") {
    const [question] = plan.questions;
    if (question === undefined) break;
    const answer = asks ? await ask(context, question) : question.suggestion;
    if (answer === null) throw unanswered(question);
    answers = { ...answers, [question.id]: answer };
    plan = files.planInit(facts, answers);
  }
  if (plan.kind === "ask") return 2;
  const applied = await files.applyInit(context, plan.result);
  const { io, paths } = context;
  if (isSet(given, "json")) {
    const { config, checkScript } = paths;
    printJson(io, { config, check_script: checkScript, ...applied, notes: plan.notes });
    return 0;
  }
  if (applied.keyCreated) printLine(io, `made the key ${paths.sshPublicKey}`);
  if (applied.credential) printLine(io, "set the agent's credential for all repos");
  if (applied.repo !== null) printLine(io, `${applied.repo.outcome} repo ${applied.repo.name}`);
  for (const note of plan.notes) printLine(io, `note: ${cleanLine(note)}`);
  printLine(io, `configuration: ${paths.config}`);
  printLine(
    io,
    `silent check: ${paths.checkScript}; every 30 minutes by 'orchestrator cron install'`,
  );
  const repo = applied.repo?.name ?? Object.keys(facts.repos)[0];
  if (repo !== undefined) printLine(io, `next: orchestrator --repo ${repo} --command "<task>"`);
  return 0;
}

function answersOf(given: Given): InitAnswers {
  const runtime = textOf(given, "runtime");
  return {
    url: textOf(given, "url"),
    repo: textOf(given, "repo"),
    credential: textOf(given, "credential"),
    provider: textOf(given, "provider"),
    ...(runtime === "claude" || runtime === "shell" ? { runtime } : {}),
  };
}

async function ask(context: Context, { text, suggestion }: Question): Promise<string | null> {
  const shown = suggestion === null ? "" : ` [${cleanLine(suggestion)}]`;
  for (;;) {
    const line = await context.io.stdin.ask(`${text}${shown}: `);
    if (line === undefined)
      throw new OrchestratorError("needs_person", "the questions were not answered");
    const answer = line.trim() === "" ? suggestion : line.trim();
    if (answer !== null) return answer;
  }
}

function unanswered({ id, text }: Question): OrchestratorError {
  return new OrchestratorError("invalid_input", `--${id} is missing: ${text}`, {
    hint: "for example: orchestrator init --repo kite --url git@github.com:team/kite.git --credential api-key=env:ANTHROPIC_API_KEY",
  });
}
