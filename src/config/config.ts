import { z } from "zod";
import { ALERT_KINDS } from "../domain/alert.ts";
import { MAX_NAME_LENGTH, splitWorkerName } from "../domain/names.ts";
import { providersSchema } from "./providers.ts";

/*
 * `~/.sprite-orchestrator/config.yaml`. Every field is described where it is declared; the JSON Schema and the
 * reference page are generated from here. Unknown keys are errors with their path. `ORCHESTRATOR_*` variables override single fields (config/env.ts).
 *
 * The file holds no secret: credentials are named by reference, and a URL that carries one is refused. Messages given
 * with a pattern read after the field's name, as in "repos.kite.url must ...".
 */

const name = z
  .string()
  .max(MAX_NAME_LENGTH)
  .regex(
    /^[a-z0-9][a-z0-9-]*$/,
    "must be lower-case letters, digits and dashes, starting with a letter or digit",
  );

const secretReference = z
  .string()
  .regex(
    /^(env:[A-Za-z_][A-Za-z0-9_]*|file:(\/|~\/).+|cmd:.*[^\s].*)$/,
    "must be env:NAME, file:PATH (absolute or ~/...) or cmd:COMMAND; never the secret itself",
  )
  .describe("Where a secret is read from: env:NAME, file:PATH or cmd:COMMAND");

/** git treats a leading dash as an option and `ext::` as a command; user information in http(s) is a credential. */
const gitUrl = z
  .string()
  .min(1)
  .regex(/^(?!-)(?![eE][xX][tT]::)[^\p{Cc}]*$/u, "must be a Git URL or a path")
  .regex(
    /^(?![hH][tT][tT][pP][sS]?:\/\/[^/]*@)(?![A-Za-z0-9+.-]+:\/\/[^/]*:[^/]*@)/,
    "must not hold a credential; use git.deployKey, or a credential helper on the workers",
  );

const line = z.string().regex(/^[^\p{Cc}]*$/u, "must be one line without control characters");

const auth = z
  .strictObject({
    kind: z
      .enum(["api-key", "auth-token", "oauth-token"])
      .describe("What kind of credential it is"),
    secret: secretReference,
    baseUrl: z
      .url({ protocol: /^https?$/, error: "must be an http or https URL" })
      .regex(/^[^@]*$/, "must not hold a credential")
      .optional()
      .describe("Base URL of the agent's API, when not the vendor's"),
  })
  .describe(
    "How the agent logs in; the credential is written 0600 on the worker and checked before allocation",
  );

const git = z
  .strictObject({
    name: line
      .min(1)
      .optional()
      .describe("Author of the agent's commits; default: Sprite Orchestrator agent"),
    email: line.min(1).optional().describe("Author's e-mail; default: agent@orchestrator.invalid"),
    deployKey: secretReference
      .optional()
      .describe(
        "SSH private key that workers clone and push with: env:NAME, file:PATH or cmd:COMMAND",
      ),
  })
  .describe("How workers act in Git");

const snapshotFields = {
  everyMinutes: z
    .number()
    .min(0)
    .max(1_440)
    .describe(
      "How often the work is saved while the agent works, when it changed; 0: only at the end",
    ),
  push: z
    .enum(["none", "remote"])
    .describe(
      "remote: snapshots are also pushed to the repository's remote, below refs/orchestrator; none: they stay in the mirror",
    ),
  keepDays: z
    .number()
    .min(0)
    .max(36_500)
    .describe(
      "How long the mirror keeps snapshots; the last one of work that is nowhere else stays",
    ),
  keepCount: z
    .int()
    .min(1)
    .max(100_000)
    .describe("Most snapshots the mirror keeps of one run; the oldest go first"),
} as const;

const snapshots = z
  .strictObject(snapshotFields)
  .partial()
  .describe("Snapshots of the work, files not committed included");

const repoSnapshots = z.strictObject({
  everyMinutes: snapshotFields.everyMinutes.default(5),
  push: snapshotFields.push.default("none"),
  keepDays: snapshotFields.keepDays.default(30),
  keepCount: snapshotFields.keepCount.default(200),
});

const commitRuleFields = {
  minutes: z
    .number()
    .min(0)
    .max(1_440)
    .describe("How long work may stay without a commit before it is overdue; 0: no rule"),
  nudge: z
    .boolean()
    .describe("Whether an agent whose turn ends with overdue work is asked once to commit it"),
} as const;

const commitRule = z
  .strictObject(commitRuleFields)
  .partial()
  .describe("Agents are told to commit this often, and watched; not for the shell runtime");

const repoCommitRule = z.strictObject({
  minutes: commitRuleFields.minutes.default(30),
  nudge: commitRuleFields.nudge.default(true),
});

/** Fields of a repo that a file may also set for all repos at once, without their default values. */
const shared = {
  branch: z
    .string()
    .regex(/^(?!-)[^\p{Cc}\s~^:?*[\\]+$/u, "must be a branch name")
    .optional()
    .describe("Base branch; default: the remote's HEAD"),
  provider: name.describe("Which provider makes the workers of this pool"),
  runtime: z.enum(["claude", "shell"]).describe("Which agent program runs"),
  flags: z.array(line).describe("Extra flags for the agent program, one argument each"),
  permissionMode: line
    .min(1)
    .optional()
    .describe(
      "The runtime's permission mode; default: the one that asks on shared machines, unattended on VMs",
    ),
  maxWorkers: z
    .int()
    .min(1)
    .max(100_000)
    .optional()
    .describe("Most workers of this pool; default: unlimited"),
  minIdle: z.int().min(0).max(1_000).describe("Idle workers kept ready"),
  verify: z
    .string()
    .min(1)
    .optional()
    .describe("Command that must pass in the clone before a run counts as completed"),
  verifyMinutes: z
    .number()
    .min(0.01)
    .max(1_440)
    .describe("How long `verify` may take before it counts as failed"),
  verifyRounds: z
    .int()
    .min(0)
    .max(20)
    .describe("How often a failed `verify` goes back to the agent before the run fails"),
  setup: line
    .regex(/^(?!\/)(?!(.*\/)?\.\.(\/|$)).+$/, "must be a path inside the clone")
    .describe("Setup script, relative to the clone"),
  setupMinutes: z
    .number()
    .min(0.01)
    .max(1_440)
    .describe(
      "How long the setup script may take before it is ended, with all that it started, and has failed",
    ),
  env: z
    .record(
      z
        .string()
        .regex(
          /^(?!ORCHESTRATOR_)[A-Za-z_][A-Za-z0-9_]*$/,
          "must be letters, digits and underscores, and not begin with ORCHESTRATOR_",
        ),
      line,
    )
    .describe("Environment for setup and agent; no secrets here"),
  auth: auth.optional(),
  git: git.optional(),
  push: z
    .enum(["branch", "none"])
    .describe("Whether the run's branch is pushed to the remote at the end"),
  runBranch: z
    .enum(["run", "none"])
    .describe("run: work on orchestrator/<run>; none: stay on the base branch"),
  snapshots,
  commitRule,
  onLost: z
    .enum(["wait", "replace"])
    .describe(
      "A run whose worker cannot be reached: wait until it answers, blocked; or replace it by a new run on another worker",
    ),
  lostMinutes: z
    .number()
    .min(0.01)
    .max(10_080)
    .describe("How long a worker must be unreachable before onLost: replace acts"),
} as const;

const repoSchema = z
  .strictObject({
    url: gitUrl.describe("Git URL or path that workers clone from"),
    ...shared,
    provider: shared.provider.default("local"),
    runtime: shared.runtime.default("claude"),
    flags: shared.flags.default([]),
    minIdle: shared.minIdle.default(0),
    verifyMinutes: shared.verifyMinutes.default(30),
    verifyRounds: shared.verifyRounds.default(2),
    setup: shared.setup.default("scripts/dev-setup.sh"),
    setupMinutes: shared.setupMinutes.default(30),
    env: shared.env.default({}),
    push: shared.push.default("none"),
    runBranch: shared.runBranch.default("run"),
    snapshots: repoSnapshots.prefault({}).describe(snapshots.description ?? ""),
    commitRule: repoCommitRule.prefault({}).describe(commitRule.description ?? ""),
    onLost: shared.onLost.default("wait"),
    lostMinutes: shared.lostMinutes.default(10),
  })
  .refine((repo) => repo.maxWorkers === undefined || repo.minIdle <= repo.maxWorkers, {
    path: ["minIdle"],
    error: "must not be more than maxWorkers",
  })
  .describe("One repository and its pool of workers");

/** Values for every repo that does not set them itself; the mappings named here are merged key by key. Applied by `parseConfig`. */
const defaultsSchema = z
  .strictObject(shared)
  .partial()
  .describe(
    "Values for every repo that does not set them itself; env, snapshots and commitRule are merged key by key",
  );

const alert = z
  .strictObject({
    command: line
      .min(1)
      .optional()
      .describe(
        "Command (run by sh -c) that gets each message as one JSON object on standard input",
      ),
    webhook: z
      .string()
      .regex(
        /^(https?:\/\/[^\s@]+|env:[A-Za-z_][A-Za-z0-9_]*|file:(\/|~\/).+|cmd:.*[^\s].*)$/,
        "must be an http or https URL without a credential, or env:NAME, file:PATH or cmd:COMMAND that gives one",
      )
      .optional()
      .describe("URL to which each message is posted as JSON; by reference when it is a secret"),
    desktop: z
      .literal(true)
      .optional()
      .describe("true: shown on this machine's desktop by notify-send, where that is installed"),
    kinds: z
      .array(z.enum(ALERT_KINDS))
      .min(1)
      .optional()
      .describe("Only these kinds; default: all"),
  })
  .refine(
    ({ command, webhook, desktop }) =>
      [command, webhook, desktop].filter((way) => way !== undefined).length === 1,
    { error: "must have one of command, webhook and desktop" },
  )
  .describe("One way to tell the operator of an incident, once, when it begins");

/** `kite-2` beside `kite` could be meant as its second worker. */
function refuseWorkerNames(repos: Readonly<Record<string, unknown>>, context: z.RefinementCtx) {
  for (const repo of Object.keys(repos)) {
    const owner = splitWorkerName(repo)?.repo;
    if (owner === undefined || !Object.hasOwn(repos, owner)) continue;
    const message = `could be taken for a worker of repo ${owner}`;
    context.addIssue({ code: "custom", path: [repo], message });
  }
}

export const configSchema = z
  .strictObject({
    repos: z
      .record(name, repoSchema)
      .superRefine(refuseWorkerNames)
      .default({})
      .describe("The repositories, by the name of their pool"),
    defaults: defaultsSchema.optional(),
    providers: providersSchema,
    controller: z
      .strictObject({
        idleExitMinutes: z
          .number()
          .min(0.01)
          .max(10_080)
          .default(10)
          .describe("The controller exits after this time without a live run"),
        parallel: z
          .int()
          .min(1)
          .max(1_000)
          .default(16)
          .describe("Workers prepared at the same time"),
      })
      .prefault({})
      .describe("The process that drives workers"),
    limits: z
      .strictObject({
        retrySeconds: z
          .number()
          .min(1)
          .max(3_600)
          .default(60)
          .describe("First wait at a limit that names no time; each try that fails doubles it"),
      })
      .prefault({})
      .describe("Rate limits, overload and dead credentials of the agents' accounts"),
    delivery: z
      .strictObject({
        confirmSeconds: z
          .number()
          .min(1)
          .max(3_600)
          .default(30)
          .describe("How long to wait for proof that the agent has the message"),
      })
      .prefault({})
      .describe("How messages reach the agent"),
    alerts: z
      .array(alert)
      .max(20)
      .default([])
      .describe(
        "Who is told of blocked and failed runs, unreachable workers, credentials and limits",
      ),
    check: z
      .strictObject({
        log: line
          .regex(/^(\/|~\/)./, "must be an absolute path or ~/...")
          .default("/var/log/orchestrator-status.log")
          .describe(
            "Where the silent check writes; status.log in the orchestrator's folder when it cannot",
          ),
        parallel: z.int().min(1).max(1_000).default(32).describe("Workers looked at the same time"),
        workerSeconds: z
          .number()
          .min(0.1)
          .max(600)
          .default(15)
          .describe("How long one worker may take to answer before it counts as unreachable"),
        sweepSeconds: z
          .number()
          .min(0.1)
          .max(3_600)
          .default(120)
          .describe("How long a whole check may take; what is left by then is not looked at"),
      })
      .prefault({})
      .describe("The silent check of window names"),
  })
  .describe("Sprite Orchestrator configuration");

export type Config = z.output<typeof configSchema>;
export type AlertConfig = z.output<typeof alert>;
export type RepoConfig = z.output<typeof repoSchema>;
/** A repo as written in the file: what is left out takes its default. */
export type RepoInput = z.input<typeof repoSchema>;
export type RepoDefaults = z.input<typeof defaultsSchema>;
