import { OrchestratorError } from "../domain/errors.ts";
import { isName, MAX_NAME_LENGTH, parseName } from "../domain/names.ts";
import type { RepoDefaults, RepoInput } from "./config.ts";
import { checkConfig } from "./load.ts";

/*
 * What `orchestrator init` has to ask, and what the answers mean. Pure: facts and answers in, questions or the
 * configuration out; the caller asks, and applies the result with `addRepo`, `setDefaults` and `ensureKeys`.
 */

export interface InitFacts {
  readonly configExists: boolean;
  /** Configured repos: name -> url. */
  readonly repos: Readonly<Record<string, string>>;
  /** Every configured repo has a credential, of its own or by `defaults`. */
  readonly hasAuth: boolean;
  /** URL of `origin` in the current folder. */
  readonly gitRemote: string | null;
  /** The agent's program is in PATH on this machine. */
  readonly claudeFound: boolean;
  /** Which of `CREDENTIAL_VARIABLES` are set. */
  readonly credentials: readonly string[];
  readonly keyExists: boolean;
}

/** Given by flags or by people; each is asked for only when it is missing and needed. */
export interface InitAnswers {
  readonly url?: string | undefined;
  readonly repo?: string | undefined;
  /** `none`, or KIND=REFERENCE such as `api-key=env:ANTHROPIC_API_KEY`. */
  readonly credential?: string | undefined;
  readonly provider?: string | undefined;
  readonly runtime?: RepoInput["runtime"];
}

export interface Question {
  readonly id: "url" | "repo" | "credential";
  readonly text: string;
  /** What an empty answer means, and what a run without questions takes; null: there must be an answer. */
  readonly suggestion: string | null;
}

export interface InitResult {
  readonly repo: { readonly name: string; readonly value: RepoInput } | null;
  readonly defaults: RepoDefaults | null;
  readonly createsConfig: boolean;
  readonly createsKey: boolean;
}

export type InitPlan =
  | { readonly kind: "ask"; readonly questions: readonly Question[] }
  | { readonly kind: "ready"; readonly result: InitResult; readonly notes: readonly string[] };

/** Environment variables in which Claude Code finds a credential, and the kind of each. */
export const CREDENTIAL_VARIABLES = {
  CLAUDE_CODE_OAUTH_TOKEN: "oauth-token",
  ANTHROPIC_API_KEY: "api-key",
  ANTHROPIC_AUTH_TOKEN: "auth-token",
} as const;

/**
 * Questions for what is still missing, or the result. Call it again with each answer: the name of a repo is suggested
 * from its URL. Throws `invalid_input` or `invalid_config` for an answer that cannot be.
 */
export function planInit(facts: InitFacts, answers: InitAnswers): InitPlan {
  const questions = [...repoQuestions(facts, answers), ...credentialQuestions(facts, answers)];
  if (questions.length > 0) return { kind: "ask", questions };
  const result = resultOf(facts, answers);
  return { kind: "ready", result, notes: notesOf(facts, answers, result) };
}

/** The suggestions of all questions that have one, as answers. */
export function suggestedAnswers(questions: readonly Question[]): InitAnswers {
  return Object.fromEntries(
    questions.flatMap(({ id, suggestion }) => (suggestion === null ? [] : [[id, suggestion]])),
  );
}

/** A name for the repo behind `url` that is not taken; null when its last part gives none. */
export function suggestName(url: string, taken: Iterable<string>): string | null {
  const last = canonical(url).split("/").at(-1) ?? "";
  const name = last
    .replaceAll(/[^a-z0-9]+/g, "-")
    .slice(0, MAX_NAME_LENGTH)
    .replaceAll(/^-+|-+$/g, "");
  return isName(name) && !new Set(taken).has(name) ? name : null;
}

/** Without a credential that http(s) URLs may carry: remotes often do. */
function withoutCredential(url: string): string {
  return url.replace(/^(https?:\/\/)[^/]*@/i, "$1");
}

/** Host and path alone, so that the ssh and https forms of one repository are equal. */
function canonical(url: string): string {
  return url
    .trim()
    .toLowerCase()
    .replace(/^[a-z+]+:\/\//, "")
    .replace(/^[^/@]*@/, "")
    .replace(/^([^/:]+):(?:\d+\/)?/, "$1/")
    .replace(/\/+$/, "")
    .replace(/\.git$/, "");
}

const wantsRepo = (facts: InitFacts, answers: InitAnswers) =>
  answers.url !== undefined || answers.repo !== undefined || Object.keys(facts.repos).length === 0;

function repoQuestions(facts: InitFacts, answers: InitAnswers): Question[] {
  if (!wantsRepo(facts, answers)) return [];
  const remote = facts.gitRemote === null ? null : withoutCredential(facts.gitRemote);
  const url = answers.url ?? remote;
  const questions: Question[] = [];
  if (answers.url === undefined) {
    questions.push({ id: "url", text: "Git URL of the repository", suggestion: remote });
  }
  if (answers.repo === undefined) {
    const same = Object.entries(facts.repos).find(
      ([, known]) => url !== null && canonical(known) === canonical(url),
    );
    const suggestion = url === null ? null : suggestName(url, Object.keys(facts.repos));
    const text = "Name of the repo; its workers are called after it";
    questions.push({ id: "repo", text, suggestion: same?.[0] ?? suggestion });
  }
  return questions;
}

function credentialQuestions(facts: InitFacts, answers: InitAnswers): Question[] {
  const runtime = answers.runtime ?? "claude";
  if (answers.credential !== undefined || facts.hasAuth || runtime !== "claude") return [];
  const found = Object.entries(CREDENTIAL_VARIABLES).find(([variable]) =>
    facts.credentials.includes(variable),
  );
  return [
    {
      id: "credential",
      text: "Credential of the agent: KIND=REFERENCE, where KIND is api-key, auth-token or oauth-token and REFERENCE env:NAME, file:PATH or cmd:COMMAND; or none",
      suggestion: found ? `${found[1]}=env:${found[0]}` : null,
    },
  ];
}

function resultOf(facts: InitFacts, answers: InitAnswers): InitResult {
  const auth = parseCredential(answers.credential);
  const defaults = auth === undefined ? null : { auth };
  const { url, repo: name } = answers;
  const repo =
    url === undefined || name === undefined
      ? null
      : { name: parseName(name, "repo name"), value: repoOf(url, answers) };
  const repos = repo === null ? {} : { [repo.name]: repo.value };
  checkConfig({ defaults, repos }, "answers");
  return { repo, defaults, createsConfig: !facts.configExists, createsKey: !facts.keyExists };
}

function repoOf(url: string, { provider, runtime }: InitAnswers): RepoInput {
  return {
    url,
    ...(provider === undefined ? {} : { provider }),
    ...(runtime === undefined ? {} : { runtime }),
  };
}

function parseCredential(answer: string | undefined): RepoDefaults["auth"] {
  if (answer === undefined || answer === "none") return undefined;
  const kinds = Object.values(CREDENTIAL_VARIABLES);
  const [given] = answer.split("=", 1);
  const kind = kinds.find((known) => known === given);
  if (kind !== undefined && answer.length > kind.length) {
    return { kind, secret: answer.slice(kind.length + 1) };
  }
  throw new OrchestratorError("invalid_input", "the credential is not KIND=REFERENCE", {
    hint: "for example api-key=env:ANTHROPIC_API_KEY, or none",
  });
}

function notesOf(facts: InitFacts, answers: InitAnswers, { repo }: InitResult): string[] {
  const notes: string[] = [];
  const { gitRemote } = facts;
  const known = gitRemote === null ? [] : Object.values(facts.repos).map(canonical);
  if (repo === null && gitRemote !== null && !known.includes(canonical(gitRemote))) {
    notes.push("the repository of this folder is not configured: `orchestrator repo add` adds it");
  }
  if (!facts.claudeFound && (answers.runtime ?? "claude") === "claude") {
    notes.push("claude is not in PATH here; workers install it themselves");
  }
  if (answers.credential?.includes("=env:")) {
    notes.push("the controller reads the variable where it was started: cron may not have it");
  }
  return notes;
}
