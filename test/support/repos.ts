import { execFile } from "node:child_process";
import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const FIXTURES = join(import.meta.dirname, "..", "fixtures", "repos");
const run = promisify(execFile);

/** In test/fixtures/repos. */
export type Fixture = "sonar" | "kite" | "no-script" | "not-executable" | "failing";

export interface Remote {
  /** Path of the bare repository: a URL for git. */
  readonly url: string;
  /** Writes the files (null removes one) and pushes a commit to `main`, or to another branch; gives its id. */
  commit(
    message: string,
    files: Readonly<Record<string, string | null>>,
    branch?: string,
  ): Promise<string>;
  git(...args: string[]): Promise<string>;
}

/** Runs git with a fixed identity and none of this machine's configuration; gives stdout without its last newline. */
export async function git(cwd: string, ...args: string[]): Promise<string> {
  const { stdout } = await run("git", args, {
    cwd,
    maxBuffer: 64 * 1024 * 1024,
    env: {
      PATH: process.env["PATH"],
      HOME: "/nonexistent",
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_AUTHOR_NAME: "Author",
      GIT_AUTHOR_EMAIL: "author@example.invalid",
      GIT_COMMITTER_NAME: "Author",
      GIT_COMMITTER_EMAIL: "author@example.invalid",
    },
  });
  return stdout.replace(/\n$/, "");
}

/** A bare remote `<folder>/<name>.git` with one commit of the fixture's files on `main`. */
export async function makeRemote(
  folder: string,
  fixture: Fixture,
  name: string = fixture,
): Promise<Remote> {
  const work = join(folder, `${name}.work`);
  const url = join(folder, `${name}.git`);
  await mkdir(folder, { recursive: true });
  await cp(join(FIXTURES, fixture), work, { recursive: true });
  await git(work, "init", "--quiet", "--initial-branch=main");
  await git(work, "add", "--all");
  await git(work, "commit", "--quiet", "--message=Begin");
  await git(folder, "clone", "--quiet", "--bare", work, url);
  await git(work, "remote", "add", "origin", url);
  return {
    url,
    git: (...args) => git(url, ...args),
    commit: async (message, files, branch = "main") => {
      await git(work, "checkout", "--quiet", "-B", branch);
      for (const [path, text] of Object.entries(files)) {
        await mkdir(dirname(join(work, path)), { recursive: true });
        if (text === null) await rm(join(work, path));
        else await writeFile(join(work, path), text);
      }
      await git(work, "add", "--all");
      await git(work, "commit", "--quiet", "--allow-empty", `--message=${message}`);
      await git(work, "push", "--quiet", "origin", branch);
      return git(work, "rev-parse", "HEAD");
    },
  };
}
