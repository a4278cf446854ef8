import { createHash } from "node:crypto";
import { OrchestratorError } from "../domain/errors.ts";
import type { RepoConfig } from "../config/config.ts";
import type { JobLine, JobResult, StepName } from "../provisioner/provisioner.ts";
import type { Runtime } from "../runtimes/runtime.ts";
import type { Transport } from "../transport/transport.ts";
import { repoConfig, sessionName, type FleetContext, type ResolvedAuth } from "./context.ts";
import type { Worker } from "./workers.ts";

/** What a worker is made ready for. */
export interface PreparePurpose {
  /** Names the job: the same name re-attaches, never runs a step twice. */
  readonly job: string;
  readonly epoch: number;
  readonly runtime: Runtime;
  readonly mode: string;
  /** Branch to work on; empty: stay on the base. */
  readonly runBranch: string;
  /**
   * `fresh`: nothing of worth is in the clone (a new worker). `reuse`: reset it, if it is as it was when proven saved.
   * `continue`: leave it as it is (a follow-up). `untouched`: leave all as it is, whoever uses it (a run's further launch).
   */
  readonly clone: "fresh" | "reuse" | "continue" | "untouched";
  /** The launch whose agent must be over before the clone is touched. */
  readonly former: { readonly run: string; readonly launch: number } | null;
  /** How long it may take beside the set-up script. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface Prepared {
  readonly home: string;
  readonly uid: number;
  readonly bootId: string;
  readonly path: string;
  readonly base: string | null;
  readonly branch: string | null;
}

export type PrepareOutcome =
  | { readonly kind: "ready"; readonly prepared: Prepared }
  | {
      readonly kind: "failed";
      readonly step: StepName;
      readonly code: number;
      readonly tail: readonly string[];
      readonly fact: string | null;
    }
  | { readonly kind: "lost" };

/** The steps, in order, for each purpose (provision/README.md). */
export function stepsFor(purpose: PreparePurpose): readonly StepName[] {
  const arrive: StepName[] = ["owner", "keys"];
  const vacate: StepName[] = purpose.former === null ? ["idle"] : ["idle", "over"];
  switch (purpose.clone) {
    case "fresh":
      // A clone that a former attempt left is reset only when it is proven saved, like any other.
      return [...arrive, "saved", "clone", "branch", "setup", "agent", "session"];
    case "reuse":
      return [...arrive, ...vacate, "saved", "clone", "branch", "setup", "agent", "session"];
    case "continue":
      return [...arrive, ...vacate, "agent", "session"];
    case "untouched":
      return [...arrive, "agent", "session"];
  }
}

/** Applies the steps to a worker as one job and seeds the agent's home; progress goes to `onLine`. */
export async function prepare(
  context: FleetContext,
  seeds: Seeds,
  worker: Worker,
  purpose: PreparePurpose,
  transport: Transport,
  onLine: (line: JobLine) => void,
): Promise<PrepareOutcome> {
  const repo = repoConfig(context, worker.repo);
  const auth = await context.resolveAuth(repo, purpose.runtime);
  const result = await context.provisioner.runJob(
    transport,
    {
      job: purpose.job,
      epoch: purpose.epoch,
      steps: stepsFor(purpose),
      params: params(context, worker, repo, purpose, auth),
      // The set-up's own limit is kept on the worker; here only what hangs beside it is given up.
      timeoutMs: purpose.timeoutMs + repo.setupMinutes * 60_000,
      signal: purpose.signal,
    },
    onLine,
  );
  if (result.code === "lost") return { kind: "lost" };
  if (result.failed !== null) {
    const { step, code, tail } = result.failed;
    return { kind: "failed", step, code, tail, fact: result.facts["idle.busy"] ?? null };
  }
  const prepared = toPrepared(worker, result);
  await seeds.apply(context, worker, purpose, auth, prepared, transport);
  return { kind: "ready", prepared };
}

function params(
  context: FleetContext,
  worker: Worker,
  repo: RepoConfig,
  purpose: PreparePurpose,
  auth: ResolvedAuth,
): Record<string, string> {
  const { program } = purpose.runtime;
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  return {
    FLEET_ID: context.store.fleetId,
    AUTHORIZED_KEY: context.keys.publicKey.trim(),
    GIT_NAME: repo.git?.name ?? "Sprite Orchestrator agent",
    GIT_EMAIL: repo.git?.email ?? "agent@orchestrator.invalid",
    DEPLOY_KEY_B64: auth.deployKey === null ? "" : base64(auth.deployKey),
    REPO: worker.repo,
    REPO_URL: repo.url,
    BRANCH: repo.branch ?? "",
    RUN_BRANCH: purpose.runBranch,
    SETUP: repo.setup,
    SETUP_S: String(Math.max(1, Math.ceil(repo.setupMinutes * 60))),
    ENV_B64: base64(
      Object.entries(repo.env)
        .map(([name, value]) => `${name}=${value}`)
        .join("\n"),
    ),
    SESSION: sessionName(worker.repo),
    SAVED_FINGERPRINT: worker.saved_fingerprint ?? "",
    COMMAND: program.command,
    INSTALL_B64: program.install === null ? "" : base64(program.install),
    AUTH_B64: base64(auth.lines.join("\n")),
    FORMER_RUN: purpose.former?.run ?? "",
    FORMER_LAUNCH: purpose.former === null ? "" : String(purpose.former.launch),
  };
}

function toPrepared(worker: Worker, result: JobResult): Prepared {
  const fact = (name: string): string | null => result.facts[name] || null;
  return {
    home: result.home,
    uid: result.uid,
    bootId: result.bootId,
    path: fact("clone.path") ?? `${result.home}/${worker.repo}`,
    base: fact("clone.base"),
    branch: fact("branch.branch"),
  };
}

/**
 * Remembers which workers' agent homes this controller has seeded, so that a warm dispatch costs no extra round trip. Forgotten with
 * the process: seeding again changes nothing.
 */
export class Seeds {
  readonly #done = new Set<string>();

  async apply(
    context: FleetContext,
    worker: Worker,
    purpose: PreparePurpose,
    auth: ResolvedAuth,
    prepared: Prepared,
    transport: Transport,
  ): Promise<void> {
    const input = { cwd: prepared.path, mode: purpose.mode, auth: auth.seed };
    const key = createHash("sha256")
      .update(JSON.stringify([worker.worker_id, prepared.bootId, purpose.runtime.id, input]))
      .digest("hex");
    if (this.#done.has(key)) return;
    for (const file of purpose.runtime.seed(input)) {
      await writeMerged(context, transport, worker.name, file.path, (current) =>
        file.merge(current),
      );
    }
    this.#done.add(key);
  }
}

async function writeMerged(
  context: FleetContext,
  transport: Transport,
  worker: string,
  path: string,
  merge: (current: unknown) => unknown,
): Promise<void> {
  for (let attempt = 0; attempt < 5; attempt += 1) {
    const current = await context.provisioner.readJson(transport, path);
    const merged = merge(current?.value ?? null);
    if (current !== null && JSON.stringify(merged) === JSON.stringify(current.value)) return;
    if (await context.provisioner.writeJson(transport, path, merged, current?.hash ?? null)) return;
  }
  throw new OrchestratorError(
    "internal",
    `${path} on ${worker} kept changing while it was being seeded`,
    { retryable: true },
  );
}
