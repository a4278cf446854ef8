import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { OrchestratorError } from "../domain/errors.ts";
import { runGit, tryGit } from "./git.ts";
import { groupSnapshots, snapshotPrefix, type Snapshot } from "./snapshots.ts";

/*
 * The controller's bare mirror of a repo: where snapshots of workers are kept, so that work outlives its worker. Refs below
 * `refs/orchestrator/<run>/<epoch>/<n>/` are created once and never moved.
 */

export class Mirror {
  readonly path: string;

  constructor(mirrors: string, repo: string) {
    this.path = join(mirrors, `${repo}.git`);
  }

  /** Makes the bare repository when it is not there. Several at once make one: it is renamed into place whole, and only one can be. */
  async ensure(): Promise<void> {
    if (await isThere(join(this.path, "HEAD"))) return;
    await mkdir(dirname(this.path), { recursive: true, mode: 0o700 });
    const own = await mkdtemp(`${this.path}.new-`);
    try {
      await runGit({ gitDir: own }, ["init", "--bare", "--quiet", own]);
      await rename(own, this.path);
    } catch (error) {
      await rm(own, { recursive: true, force: true });
      if (!(await isThere(join(this.path, "HEAD")))) throw error;
    }
  }

  /** Commits at the tips of what the mirror has, at most 200: what a bundle may leave out. */
  async tips(): Promise<string[]> {
    const stdout = await this.#git([
      "for-each-ref",
      "--sort=-committerdate",
      "--count=200",
      "--format=%(objectname)",
    ]);
    return stdout.split("\n").filter((line) => line !== "");
  }

  /** Takes every ref of a bundle read from `bundle`; refs that exist keep their value. */
  async takeBundle(bundle: AsyncIterable<Uint8Array>, file: string): Promise<void> {
    try {
      await pipeline(bundle, createWriteStream(file, { mode: 0o600 }));
      if ((await stat(file)).size === 0) return;
      await this.#git([
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-write-fetch-head",
        file,
        "refs/orchestrator/*:refs/orchestrator/*",
      ]);
    } finally {
      await rm(file, { force: true });
    }
  }

  /** Whether every one of these commits is here. (`git fetch` took nothing whose objects were not all in the bundle.) */
  async has(commits: readonly string[]): Promise<boolean> {
    if (commits.length === 0) return true;
    const result = await tryGit({ gitDir: this.path }, [
      "rev-list",
      "--quiet",
      "--no-walk=unsorted",
      ...commits,
    ]);
    return result.exitCode === 0;
  }

  /** Snapshots of a run, or of all, oldest first; none when there is no mirror. */
  async snapshots(run?: string): Promise<Snapshot[]> {
    if (!(await isThere(join(this.path, "HEAD")))) return [];
    const below = run === undefined ? "refs/orchestrator" : `refs/orchestrator/${run}`;
    const stdout = await this.#git(["for-each-ref", "--format=%(objectname) %(refname)", below]);
    return groupSnapshots(stdout.split("\n"));
  }

  /** Forgets these snapshots, all or none; git throws their objects away later, where nothing else needs them. */
  async forget(snapshots: readonly Snapshot[]): Promise<void> {
    const lines = snapshots.flatMap(({ run, epoch, number, refs }) =>
      refs.map(({ name, sha }) => `delete ${snapshotPrefix(run, epoch, number)}/${name} ${sha}\n`),
    );
    await this.#git(["update-ref", "--stdin"], lines.join(""));
    await this.#git(["gc", "--auto", "--quiet"]);
  }

  /** Makes the branch at that commit. False when there is one of that name: it stays as it is. */
  async makeBranch(branch: string, commit: string): Promise<boolean> {
    const ref = `refs/heads/${branch}`;
    const there = await tryGit({ gitDir: this.path }, ["show-ref", "--verify", "--quiet", ref]);
    if (there.exitCode === 0) return false;
    await this.#git(["update-ref", "--stdin"], `create ${ref} ${commit}\n`);
    return true;
  }

  /** The patch from one commit to another; `limitBytes` cuts it with a note. */
  async diff(from: string, to: string, limitBytes = 8 * 1024 * 1024): Promise<string> {
    const result = await tryGit({ gitDir: this.path }, [
      "diff",
      "--no-color",
      "--no-ext-diff",
      "--no-textconv",
      from,
      to,
      "--",
    ]);
    if (result.exitCode !== 0) {
      throw new OrchestratorError(
        "not_found",
        `the mirror does not hold ${from.slice(0, 12)}..${to.slice(0, 12)}`,
      );
    }
    return result.stdout.length > limitBytes
      ? `${result.stdout.slice(0, limitBytes)}\n[cut after ${limitBytes} bytes]\n`
      : result.stdout;
  }

  /** `{files, insertions, deletions}` between two commits. */
  async stat(
    from: string,
    to: string,
  ): Promise<{ files: number; insertions: number; deletions: number }> {
    const stdout = await this.#git([
      "diff",
      "--numstat",
      "--no-ext-diff",
      "--no-textconv",
      from,
      to,
      "--",
    ]);
    const lines = stdout.split("\n").filter((line) => line !== "");
    let insertions = 0;
    let deletions = 0;
    for (const line of lines) {
      const [added = "0", removed = "0"] = line.split("\t");
      insertions += Number(added) || 0;
      deletions += Number(removed) || 0;
    }
    return { files: lines.length, insertions, deletions };
  }

  #git(args: readonly string[], input?: string): Promise<string> {
    return runGit({ gitDir: this.path, ...(input === undefined ? {} : { input }) }, args);
  }
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
