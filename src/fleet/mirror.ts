import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { execa } from "execa";
import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";

/*
 * The controller's bare mirror of a repo: where snapshots of workers are kept, so that work outlives its worker. Refs below
 * `refs/orchestrator/<run>/<epoch>/<n>/` are created once and never moved.
 */

const QUIET = {
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_TERMINAL_PROMPT: "0",
  LC_ALL: "C",
} as const;

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
      await this.#git(["init", "--bare", "--quiet", own], own);
      await rename(own, this.path);
    } catch (error) {
      await rm(own, { recursive: true, force: true });
      if (!(await isThere(join(this.path, "HEAD")))) throw error;
    }
  }

  /** Commits at the tips of what the mirror has, at most 200: what a bundle may leave out. */
  async tips(): Promise<string[]> {
    const { stdout } = await this.#git([
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
    const result = await this.#run(["rev-list", "--quiet", "--no-walk=unsorted", ...commits]);
    return result.exitCode === 0;
  }

  /** The patch from one commit to another; `limitBytes` cuts it with a note. */
  async diff(from: string, to: string, limitBytes = 8 * 1024 * 1024): Promise<string> {
    const result = await this.#run([
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
    const { stdout } = await this.#git([
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

  async #git(args: readonly string[], gitDir = this.path) {
    const result = await this.#run(args, gitDir);
    if (result.exitCode === 0) return result;
    const why = cleanText(result.stderr.trim().split("\n").at(-1) ?? "", 200);
    throw new OrchestratorError(
      "internal",
      `git ${args[0] ?? ""} failed in the mirror ${this.path}${why === "" ? "" : `: ${why}`}`,
      { details: { exit_code: result.exitCode } },
    );
  }

  async #run(args: readonly string[], gitDir = this.path) {
    const result = await execa(
      "git",
      ["-c", "core.hooksPath=/dev/null", "--git-dir", gitDir, ...args],
      {
        env: QUIET,
        reject: false,
        stdin: "ignore",
        stripFinalNewline: false,
        maxBuffer: 64 * 1024 * 1024,
        timeout: 120_000,
      },
    );
    return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr };
  }
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
