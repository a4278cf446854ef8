import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OrchestratorError } from "../domain/errors.ts";
import { asRunId } from "../domain/ids.ts";
import { cleanText } from "../domain/text.ts";
import { repoConfig, runtimeOf } from "../fleet/context.ts";
import { tryGit } from "../fleet/git.ts";
import { Mirror } from "../fleet/mirror.ts";
import { recoverToFolder } from "../fleet/recover.ts";
import { commitOf, type Snapshot } from "../fleet/snapshots.ts";
import { quoteCommand } from "../transport/quote.ts";
import type { DispatchContext } from "./context.ts";
import { findRun } from "./runs.ts";

/** Snapshots of a run, from the mirror: they outlive its worker, and its row. */

export interface SnapshotInfo {
  readonly snapshot: number;
  readonly epoch: number;
  readonly taken_at: number;
  readonly commit: string | null;
  readonly refs: number;
  /** What was left out or could not be saved, where the guard said so. */
  readonly skipped: readonly string[];
  readonly unsaved: readonly string[];
}

export interface Recovered {
  readonly run_id: string;
  readonly snapshot: number;
  readonly taken_at: number;
  readonly commit: string | null;
  readonly folder: string | null;
  readonly branch: string | null;
  readonly pushed: boolean;
  /** Fetches the branch from the mirror into a clone of one's own. */
  readonly fetch: string | null;
  readonly nested: readonly string[];
  readonly elsewhere: readonly string[];
}

export interface RecoverTarget {
  /** Its number, or the latest. */
  readonly snapshot: "latest" | number;
  /** Absolute path of a folder that does not exist, or is empty. */
  readonly folder: string | undefined;
  readonly branch: string | undefined;
  readonly push: boolean;
}

export async function snapshotsOfRun(
  context: DispatchContext,
  wanted: string,
): Promise<SnapshotInfo[]> {
  const { runId, mirror } = await mirrorOf(context, wanted);
  const { store } = context.fleet;
  const events = await store.readEvents(0, {
    limit: 10_000,
    filter: { run_id: asRunId(runId), kinds: ["run.snapshot_taken"] },
  });
  const told = new Map(events.map(({ payload }) => [payload["number"], payload]));
  return (await mirror.snapshots(runId)).map((snapshot) => {
    const known = told.get(snapshot.number);
    const names = (key: string) => {
      const list: unknown = known?.[key];
      return Array.isArray(list) ? list.map((name) => cleanText(String(name), 200)) : [];
    };
    return {
      snapshot: snapshot.number,
      epoch: snapshot.epoch,
      taken_at: snapshot.number,
      commit: commitOf(snapshot),
      refs: snapshot.refs.length,
      skipped: names("skipped"),
      unsaved: names("unsaved"),
    };
  });
}

/** Brings a snapshot back into a new folder, or as a new branch of the mirror. Nothing that exists is changed. */
export async function recoverRun(
  context: DispatchContext,
  wanted: string,
  target: RecoverTarget,
): Promise<Recovered> {
  const { runId, repo, mirror } = await mirrorOf(context, wanted);
  const snapshot = choose(runId, await mirror.snapshots(runId), target.snapshot);
  const commit = commitOf(snapshot);
  const common = { run_id: runId, snapshot: snapshot.number, taken_at: snapshot.number, commit };
  if (target.folder !== undefined) {
    const { nested, elsewhere } = await recoverToFolder(mirror, snapshot, target.folder);
    const clean = (names: readonly string[]) => names.map((name) => cleanText(name, 300));
    return {
      ...common,
      folder: target.folder,
      branch: null,
      pushed: false,
      fetch: null,
      nested: clean(nested),
      elsewhere: clean(elsewhere),
    };
  }
  const { branch = "" } = target;
  if (commit === null) {
    throw new OrchestratorError(
      "not_found",
      `snapshot ${snapshot.number} of ${runId} has no commit`,
    );
  }
  if (!(await mirror.makeBranch(branch, commit))) {
    throw new OrchestratorError(
      "branch_changed",
      `the mirror of ${repo} has a branch ${branch} already: it stays as it is`,
      { hint: "give another name" },
    );
  }
  if (target.push) await pushBranch(context, repo, mirror, branch);
  return {
    ...common,
    folder: null,
    branch,
    pushed: target.push,
    fetch: quoteCommand(["git", "fetch", mirror.path, `${branch}:${branch}`]),
    nested: [],
    elsewhere: [],
  };
}

function choose(
  runId: string,
  snapshots: readonly Snapshot[],
  wanted: RecoverTarget["snapshot"],
): Snapshot {
  const found =
    wanted === "latest"
      ? snapshots.at(-1)
      : snapshots.findLast((snapshot) => snapshot.number === wanted);
  if (found !== undefined) return found;
  const which = wanted === "latest" ? "no snapshot" : `no snapshot ${wanted}`;
  throw new OrchestratorError("not_found", `the mirror has ${which} of ${runId}`, {
    hint: `'orchestrator run recover ${runId} --list' shows what there is`,
  });
}

/** Where a run's snapshots are. One that the store does not know, as after an older store was restored, is looked for in every mirror. */
async function mirrorOf(
  context: DispatchContext,
  wanted: string,
): Promise<{ runId: string; repo: string; mirror: Mirror }> {
  const { store, mirrors } = context.fleet;
  try {
    const run = await findRun(store.db, wanted);
    return { runId: run.run_id, repo: run.repo, mirror: new Mirror(mirrors, run.repo) };
  } catch (error) {
    if (!(error instanceof OrchestratorError) || error.code !== "not_found") throw error;
    for (const repo of await mirroredRepos(mirrors)) {
      const mirror = new Mirror(mirrors, repo);
      if ((await mirror.snapshots(wanted)).length > 0) return { runId: wanted, repo, mirror };
    }
    throw error;
  }
}

async function mirroredRepos(mirrors: string): Promise<string[]> {
  const names = await readdir(mirrors).catch(() => []);
  return names.flatMap((name) => /^([a-z0-9][a-z0-9-]*)\.git$/.exec(name)?.[1] ?? []);
}

/** With the operator's own git configuration, or the repo's deploy key where there is one; only when the remote has no such branch. */
async function pushBranch(
  context: DispatchContext,
  repo: string,
  mirror: Mirror,
  branch: string,
): Promise<void> {
  const { fleet } = context;
  const configured = repoConfig(fleet, repo);
  const { deployKey } = await fleet.resolveAuth(configured, runtimeOf(fleet, configured.runtime));
  const folder = await mkdtemp(join(fleet.mirrors, ".push-"));
  try {
    const ssh = "ssh -o BatchMode=yes -o ConnectTimeout=20";
    const key = join(folder, "key");
    if (deployKey !== null) await writeFile(key, deployKey, { mode: 0o600 });
    const command = deployKey === null ? ssh : `${ssh} -o IdentitiesOnly=yes -i '${key}'`;
    const ref = `refs/heads/${branch}`;
    const result = await tryGit(
      { gitDir: mirror.path, asPerson: true, env: { GIT_SSH_COMMAND: command } },
      [
        "push",
        "--no-verify",
        "--quiet",
        `--force-with-lease=${ref}:`,
        configured.url,
        `${ref}:${ref}`,
      ],
    );
    if (result.exitCode === 0) return;
    const why = cleanText(
      result.stderr
        .replaceAll(/:\/\/[^/@\s]*@/g, "://")
        .trim()
        .split("\n")
        .at(-1) ?? "",
      200,
    );
    throw new OrchestratorError(
      "unreachable",
      `branch ${branch} is in the mirror, but was not pushed: ${why}`,
      { hint: `it is in ${mirror.path}` },
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
