import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { OrchestratorError } from "../../src/domain/errors.ts";
import { Mirror } from "../../src/fleet/mirror.ts";
import { recoverToFolder } from "../../src/fleet/recover.ts";
import { restoreFolder } from "../../src/fleet/restore-folder.ts";
import type { Snapshot } from "../../src/fleet/snapshots.ts";
import { bundleRefs, save } from "../../src/provisioner/work.ts";
import { bundle, makeWorker } from "../support/provision-rig.ts";
import { git, makeRemote } from "../support/repos.ts";

/** Every file but git's own: kind, mode, content. */
function contents(folder: string): string[] {
  const list = execFileSync(
    "sh",
    [
      "-c",
      'cd "$1" && find . -name .git -prune -o -type f -printf "%m %p " -exec sha256sum -b {} \\; -o -type l -printf "%p -> %l\\n"',
      "sh",
      folder,
    ],
    { encoding: "utf8" },
  );
  return list.split("\n").sort();
}

/** What a person sees with git: branch, status, stashes. */
const seen = async (folder: string) => ({
  branch: await git(folder, "branch", "--show-current"),
  head: await git(folder, "rev-parse", "HEAD"),
  status: await git(folder, "status", "--porcelain", "--untracked-files=all"),
  branches: await git(folder, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads"),
  stashes: await git(folder, "stash", "list", "--format=%H"),
  staged: await git(folder, "diff", "--cached"),
});

interface Rig extends AsyncDisposable {
  readonly clone: string;
  readonly folder: string;
  readonly mirror: Mirror;
  readonly remote: string;
  snapshot(): Promise<Snapshot>;
}

async function rig(): Promise<Rig> {
  const worker = await makeWorker();
  const remote = await makeRemote(join(worker.folder, "r"), "kite");
  await remote.commit("Attributes", { ".gitattributes": "*.txt text eol=crlf\n*.id ident\n" });
  const result = await worker.job(["clone", "branch"], {
    params: { REPO_URL: remote.url, RUN_BRANCH: "orchestrator/run-1" },
  });
  assert.equal(result.code, 0, JSON.stringify(result));
  const mirror = new Mirror(join(worker.folder, "mirrors"), "kite");
  await mirror.ensure();
  let number = 0;
  return {
    clone: join(worker.home, "kite"),
    folder: worker.folder,
    mirror,
    remote: remote.url,
    snapshot: async () => {
      number += 1;
      const saved = await save(worker.transport, bundle, {
        epoch: 1,
        run: "run-1",
        number,
        repo: "kite",
      });
      assert.equal(saved.complete, true, JSON.stringify(saved.unsaved));
      const prefix = `refs/orchestrator/run-1/1/${number}`;
      const have = await mirror.tips();
      const stream = await bundleRefs(worker.transport, bundle, { repo: "kite", prefix, have });
      await mirror.takeBundle(stream.bytes, join(worker.folder, "b.bundle"));
      const found = (await mirror.snapshots("run-1")).at(-1);
      assert.ok(found);
      return found;
    },
    [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose](),
  };
}

test("a folder comes back byte for byte, with branch, staged changes, stashes, nested repositories and submodules", async () => {
  await using it = await rig();
  const { clone } = it;
  await writeFile(join(clone, "kept.txt"), "a\r\nb\r\n");
  await writeFile(join(clone, "x.id"), "$Id$\n");
  await git(clone, "add", "kept.txt");
  await git(clone, "commit", "--quiet", "--message=Work");
  for (const text of ["one", "two"]) {
    await writeFile(join(clone, "README.md"), text);
    await git(clone, "stash", "push", "--quiet", "--include-untracked");
  }
  await writeFile(join(clone, "new\nline.txt"), "\r\n");
  await writeFile(Buffer.from(`${clone}/caf\xe9`, "latin1"), "not UTF-8");
  await mkdir(join(clone, "deep/er"), { recursive: true });
  await writeFile(join(clone, "deep/er/tool"), Buffer.from([0, 255, 13, 10]));
  await chmod(join(clone, "deep/er/tool"), 0o755);
  await symlink("../outside", join(clone, "link"));
  await writeFile(join(clone, "staged.txt"), "staged\n");
  await git(clone, "add", "staged.txt");
  await writeFile(join(clone, "staged.txt"), "and changed\n");
  await rm(join(clone, "mix.exs"));
  const library = await makeRemote(join(it.folder, "r"), "no-script", "library");
  for (const name of ["sub", "clean-sub"]) {
    const from = ["submodule", "--quiet", "add", library.url, name];
    await git(clone, "-c", "protocol.file.allow=always", ...from);
  }
  await writeFile(join(clone, "sub/dirty"), "dirty");
  const nested = join(clone, "vendor/nes ted");
  await mkdir(nested, { recursive: true });
  await git(nested, "init", "--quiet", "--initial-branch=main");
  await writeFile(join(nested, "n"), "n");
  await git(nested, "add", "n");
  await git(nested, "commit", "--quiet", "--message=Nested");
  await writeFile(join(nested, "m"), "m");
  const tree = join(it.folder, "tree");
  await git(clone, "worktree", "add", "--quiet", "-b", "elsewhere", tree);
  await writeFile(join(tree, "w"), "w");

  const target = join(it.folder, "back/again");
  const recovered = await recoverToFolder(it.mirror, await it.snapshot(), target);
  assert.deepEqual(contents(target), contents(clone));
  assert.deepEqual(await seen(target), await seen(clone));
  assert.deepEqual(recovered.nested.toSorted(), ["clean-sub", "sub", "vendor/nes ted"]);
  assert.equal(await git(join(target, "vendor/nes ted"), "log", "-1", "--format=%s"), "Nested");
  assert.deepEqual(recovered.elsewhere, [`${tree}: refs/recovered/worktree/0`]);
  assert.equal(await git(target, "show", "refs/recovered/worktree/0/work:w"), "w");
  await git(target, "fsck", "--full", "--strict");
  assert.deepEqual(await readdir(join(it.folder, "back")), ["again"], "nothing half-made is left");
});

test("a detached head and a rebase in progress come back as files and commits", async () => {
  await using it = await rig();
  const { clone } = it;
  await git(clone, "checkout", "--quiet", "--detach");
  await writeFile(join(clone, "README.md"), "ours\n");
  await git(clone, "commit", "--quiet", "--all", "--message=Ours");
  const ours = await git(clone, "rev-parse", "HEAD");
  await git(clone, "checkout", "--quiet", "-b", "theirs", "HEAD~1");
  await writeFile(join(clone, "README.md"), "theirs\n");
  await git(clone, "commit", "--quiet", "--all", "--message=Theirs");
  await git(clone, "checkout", "--quiet", ours);
  await assert.rejects(git(clone, "rebase", "theirs"));
  const target = join(it.folder, "back");
  await recoverToFolder(it.mirror, await it.snapshot(), target);
  assert.deepEqual(contents(target), contents(clone));
  assert.equal(await git(target, "show", `${ours}:README.md`), "ours");
  assert.equal(await git(target, "rev-parse", "HEAD"), await git(clone, "rev-parse", "HEAD"));

  await git(clone, "rebase", "--abort");
  await git(clone, "checkout", "--quiet", "--detach", ours);
  const detached = join(it.folder, "detached");
  await recoverToFolder(it.mirror, await it.snapshot(), detached);
  assert.deepEqual(await seen(detached), await seen(clone));
});

test("what exists is never written over", async () => {
  await using it = await rig();
  await writeFile(join(it.clone, "work"), "work");
  const snapshot = await it.snapshot();
  const target = join(it.folder, "there");
  await mkdir(target);
  await writeFile(join(target, "mine"), "mine");
  const refused = (error: unknown) =>
    error instanceof OrchestratorError && error.code === "invalid_input";
  await assert.rejects(recoverToFolder(it.mirror, snapshot, target), refused);
  await assert.rejects(recoverToFolder(it.mirror, snapshot, join(target, "mine")), refused);
  assert.deepEqual(await readdir(target), ["mine"]);
  assert.equal(await readFile(join(target, "mine"), "utf8"), "mine");
  await rm(join(target, "mine"));
  await recoverToFolder(it.mirror, snapshot, target);
  assert.equal(await readFile(join(target, "work"), "utf8"), "work");
  assert.equal(await it.mirror.makeBranch("back", snapshot.refs[0]?.sha ?? ""), true);
  assert.equal(await it.mirror.makeBranch("back", snapshot.refs[1]?.sha ?? ""), false);
});

test("a worker's word for a path leads nowhere but into the folder", async () => {
  const root = await mkdtemp(join(tmpdir(), "rf-"));
  try {
    const outside = join(root, "outside");
    const inside = join(root, "inside");
    await mkdir(outside);
    await mkdir(join(inside, "full"), { recursive: true });
    await writeFile(join(inside, "full/x"), "x");
    await symlink(outside, join(inside, "link"));
    const hostile = [
      "../outside/a",
      "/etc/a",
      "a/../../b",
      ".git",
      "a/.GIT/hooks",
      "git~1",
      "",
      "a//b",
    ];
    for (const path of [
      ...hostile,
      "link/a",
      "link",
      "full",
      "full/x",
      "full/x/y",
      "./a",
      ".git .",
    ])
      assert.equal(await restoreFolder(inside, path), null, path);
    assert.equal(await restoreFolder(inside, "a/b c"), join(inside, "a/b c"));
    assert.deepEqual(await readdir(outside), []);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
