import { z } from "zod";
import { MAX_NAME_LENGTH } from "../domain/names.ts";

/*
 * `~/.sprite-orchestrator/config.yaml`. Every field is described where it is declared; the JSON Schema and the
 * reference page are generated from here. Unknown keys are errors with their path. `ORCHESTRATOR_*` variables override single fields (config/env.ts).
 */

const name = z
  .string()
  .max(MAX_NAME_LENGTH)
  .regex(
    /^[a-z0-9][a-z0-9-]*$/,
    "use lower-case letters, digits and dashes, starting with a letter or digit",
  );

const secretReference = z
  .string()
  .regex(
    /^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|cmd:.+)$/,
    "write env:NAME, file:PATH or cmd:COMMAND; never the secret itself",
  )
  .describe("Where a secret is read from: env:NAME, file:PATH or cmd:COMMAND");

const auth = z
  .strictObject({
    kind: z
      .enum(["api-key", "auth-token", "oauth-token"])
      .describe("What kind of credential it is"),
    secret: secretReference,
    baseUrl: z.url().optional().describe("Base URL of the agent's API, when not the vendor's"),
  })
  .describe(
    "How the agent logs in; the credential is written 0600 on the worker and checked before allocation",
  );

export const repoSchema = z
  .strictObject({
    url: z.string().min(1).describe("Git URL or path that workers clone from"),
    branch: z.string().min(1).optional().describe("Base branch; default: the remote's HEAD"),
    provider: name.default("local").describe("Which provider makes the workers of this pool"),
    runtime: z.enum(["claude", "shell"]).default("claude").describe("Which agent program runs"),
    flags: z.array(z.string()).default([]).describe("Extra flags for the agent program"),
    permissionMode: z
      .string()
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
    minIdle: z.int().min(0).max(1_000).default(0).describe("Idle workers kept ready"),
    verify: z
      .string()
      .optional()
      .describe("Command that must pass in the clone before a run counts as completed"),
    setup: z
      .string()
      .default("scripts/dev-setup.sh")
      .describe("Setup script, relative to the clone"),
    env: z
      .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string())
      .default({})
      .describe("Environment for setup and agent; no secrets here"),
    auth: auth.optional(),
    push: z
      .enum(["branch", "none"])
      .default("none")
      .describe("Whether the run's branch is pushed to the remote at the end"),
    runBranch: z
      .enum(["run", "none"])
      .default("run")
      .describe("run: work on orchestrator/<run>; none: stay on the base branch"),
    onLost: z
      .enum(["wait", "replace"])
      .default("wait")
      .describe("What happens to a run whose worker cannot be reached"),
  })
  .describe("One repository and its pool of workers");

export const configSchema = z
  .strictObject({
    repos: z.record(name, repoSchema).default({}),
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
      .prefault({}),
    delivery: z
      .strictObject({
        confirmSeconds: z
          .number()
          .min(1)
          .max(3_600)
          .default(30)
          .describe("How long to wait for proof that the agent has the message"),
      })
      .prefault({}),
  })
  .describe("Sprite Orchestrator configuration");

export type Config = z.output<typeof configSchema>;
export type RepoConfig = z.output<typeof repoSchema>;
