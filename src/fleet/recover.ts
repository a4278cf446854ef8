import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { OrchestratorError } from "../domain/errors.ts";
import { runGit, tryGit, type GitPlace } from "./git.ts";
import type { Mirror } from "./mirror.ts";
import { restoreFolder } from "./restore-folder.ts";
import { snapshotPrefix, type Snapshot } from "./snapshots.ts";

export interface RecoveredFolder {
  /** Nested repositories and submodules that are in their places again. */
  readonly nested: readonly string[];
  /** What has no place in the folder, and the ref of it in the folder's repository: other work trees. */
  readonly elsewhere: readonly string[];
}

/**
 * Brings a snapshot back as a clone in a new folder: branch, commits, stashes, staged and not committed files, as they were. Made beside its
 * name and renamed: the folder is whole or not there, and nothing that exists is ever written over. Names and contents come from a
 * worker and are not trusted.
 */
export async function recoverToFolder(
  mirror: Mirror,
  snapshot: Snapshot,
  folder: string,
): Promise<RecoveredFolder> {
  await refuseExisting(folder);
  const parent = dirname(folder);
  await mkdir(parent, { recursive: true });
  const own = await mkdtemp(join(parent, `.${basename(folder)}.recovering-`));
  try {
    const found: { nested: string[]; elsewhere: string[] } = { nested: [], elsewhere: [] };
    await recoverRepo(mirror, snapshot, "", own, own, found);
    for (const name of placesOf(snapshot, "", "worktree")) {
      const message = await messageOf(mirror, snapshot, name);
      found.elsewhere.push(`${message ?? "another work tree"}: refs/recovered/${name}`);
    }
    await refuseExisting(folder);
    await rename(own, folder);
    return found;
  } catch (error) {
    await rm(own, { recursive: true, force: true });
    throw error;
  }
}

async function refuseExisting(folder: string): Promise<void> {
  const entries = await readdir(folder).catch((error: unknown) => {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT") return [];
    if (code === "ENOTDIR") return ["a file"];
    throw error;
  });
  if (entries.length === 0) return;
  throw new OrchestratorError("invalid_input", `${folder} is there and not empty`, {
    hint: "give a folder that does not exist yet: nothing is ever written over",
  });
}

/** One repository of the snapshot: what lies below `place` (empty, or ending in a slash) goes to `folder`. */
async function recoverRepo(
  mirror: Mirror,
  snapshot: Snapshot,
  place: string,
  root: string,
  folder: string,
  found: { nested: string[]; elsewhere: string[] },
): Promise<void> {
  const git: GitPlace = { gitDir: join(folder, ".git"), workTree: folder };
  await runGit({ gitDir: git.gitDir }, ["init", "--quiet", "--template="]);
  await runGit({ gitDir: git.gitDir }, ["config", "core.bare", "false"]);
  const from = `${snapshotPrefix(snapshot.run, snapshot.epoch, snapshot.number)}/${place}`;
  await runGit(git, [
    "fetch",
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    mirror.path,
    `${from}*:refs/recovered/*`,
  ]);
  const refs = snapshot.refs
    .filter((ref) => ref.name.startsWith(place))
    .map((ref) => ({ ...ref, name: ref.name.slice(place.length) }));
  const sha = (name: string) => refs.find((ref) => ref.name === name)?.sha ?? null;
  await recoverRefs(git, snapshot.run, refs, sha("head"));
  await recoverFiles(git, {
    tree: sha("work") ?? sha("head"),
    staged: sha("index") ?? sha("head"),
  });
  await recoverStashes(git, refs);
  const links = await gitlinks(git, sha("work") ?? sha("head"));
  for (const name of placesOf(snapshot, place, "nested")) {
    const message = await messageOf(mirror, snapshot, `${place}${name}`);
    const path =
      message?.startsWith("/") === true ? null : (message ?? takeLink(links, place, name, sha));
    const target = path === null ? null : await restoreFolder(root, path);
    if (path === null || target === null) {
      found.elsewhere.push(`a repository inside: refs/recovered/${name}`);
      continue;
    }
    await recoverRepo(mirror, snapshot, `${place}${name}/`, root, target, found);
    found.nested.push(path);
  }
}

/** Branches and tags under their own names; HEAD on the branch that was at its commit, the run's own before others. */
async function recoverRefs(
  git: GitPlace,
  run: string,
  refs: readonly { readonly name: string; readonly sha: string }[],
  head: string | null,
): Promise<void> {
  const named = refs.filter(({ name }) => /^(heads|tags)\//.test(name));
  const lines = named.map(({ name, sha }) => `create refs/${name} ${sha}\n`);
  const at = named.filter(({ name, sha }) => name.startsWith("heads/") && sha === head);
  const branch = at.find(({ name }) => name === `heads/orchestrator/${run}`) ?? at[0];
  await runGit({ ...git, input: lines.join("") }, ["update-ref", "--stdin"]);
  if (branch !== undefined) await runGit(git, ["symbolic-ref", "HEAD", `refs/${branch.name}`]);
  else if (head !== null) await runGit(git, ["update-ref", "--no-deref", "HEAD", head]);
}

/**
 * Files that are as in the index are checked out as git does it; what differs was saved byte for byte, and is written without any conversion
 * that attributes ask for. Then the index is as it was.
 */
async function recoverFiles(
  git: GitPlace,
  { tree, staged }: { tree: string | null; staged: string | null },
): Promise<void> {
  if (tree === null) return;
  const [work, index] = [await entriesOf(git, tree), await entriesOf(git, staged)];
  const [same, changed] = [new Array<string>(), new Array<string>()];
  for (const [path, entry] of work) (index.get(path) === entry ? same : changed).push(path);
  const info = join(git.gitDir, "info");
  await checkOut(git, staged, same);
  await mkdir(info, { recursive: true });
  await writeFile(join(info, "attributes"), "* -text -ident -filter -working-tree-encoding\n");
  await checkOut(git, tree, changed);
  await rm(join(info, "attributes"));
  if (staged === null) await runGit(git, ["read-tree", "--empty"]);
  else await runGit(git, ["read-tree", staged]);
  // Says with its exit code that something is changed, which it may well be.
  await tryGit(git, ["update-index", "-q", "--refresh"]);
}

/** Path, a character a byte -> mode and id. */
async function entriesOf(git: GitPlace, tree: string | null): Promise<Map<string, string>> {
  if (tree === null) return new Map();
  const listed = await runGit({ ...git, bytes: true }, [
    "ls-tree",
    "-r",
    "-z",
    "--full-tree",
    tree,
  ]);
  return new Map(
    listed.split("\0").flatMap((line): [string, string][] => {
      const tab = line.indexOf("\t");
      return tab < 0 ? [] : [[line.slice(tab + 1), line.slice(0, tab)]];
    }),
  );
}

async function checkOut(
  git: GitPlace,
  tree: string | null,
  paths: readonly string[],
): Promise<void> {
  if (tree === null || paths.length === 0) return;
  await runGit(git, ["read-tree", tree]);
  const input = paths.map((path) => `${path}\0`).join("");
  await runGit({ ...git, input, bytes: true }, ["checkout-index", "--quiet", "-z", "--stdin"]);
}

async function recoverStashes(
  git: GitPlace,
  refs: readonly { readonly name: string; readonly sha: string }[],
): Promise<void> {
  const stashes = refs
    .filter(({ name }) => /^stash\/\d+$/.test(name))
    .toSorted((a, b) => Number(b.name.slice(6)) - Number(a.name.slice(6)));
  for (const { name, sha } of stashes) {
    await runGit(git, ["stash", "store", "--message", `recovered ${name}`, sha]);
  }
}

/** `nested/0`, `nested/1` ... right below a place. */
function placesOf(snapshot: Snapshot, place: string, kind: "nested" | "worktree"): string[] {
  const found = new Set<string>();
  for (const { name } of snapshot.refs) {
    if (!name.startsWith(`${place}${kind}/`)) continue;
    const number = /^\d+/.exec(name.slice(place.length + kind.length + 1))?.[0];
    if (number !== undefined) found.add(`${kind}/${number}`);
  }
  return [...found];
}

/** The path that `save` wrote into the message of the work commit; null where all was committed. */
async function messageOf(
  mirror: Mirror,
  snapshot: Snapshot,
  place: string,
): Promise<string | null> {
  const work = snapshot.refs.find(({ name }) => name === `${place}/work`)?.sha;
  if (work === undefined) return null;
  const text = await runGit({ gitDir: mirror.path }, ["log", "-1", "--format=%s", work]);
  return /^work tree of (.+?)\/?\n$/.exec(text)?.[1] ?? null;
}

interface Gitlink {
  readonly path: string;
  readonly sha: string;
}

async function gitlinks(git: GitPlace, tree: string | null): Promise<Gitlink[]> {
  const entries = await entriesOf(git, tree);
  return [...entries].flatMap(([path, entry]) => {
    const sha = /^160000 commit ([0-9a-f]+)$/.exec(entry)?.[1];
    return sha === undefined ? [] : [{ sha, path: Buffer.from(path, "latin1").toString() }];
  });
}

/** A clean repository inside is known by the commit that its parent has in its place. */
function takeLink(
  links: Gitlink[],
  place: string,
  name: string,
  sha: (name: string) => string | null,
): string | null {
  const head = sha(`${name}/head`);
  const index = links.findIndex((link) => link.sha === head);
  const [link] = index < 0 ? [] : links.splice(index, 1);
  // Deeper down the path of the parent would be needed, too.
  return place === "" ? (link?.path ?? null) : null;
}
