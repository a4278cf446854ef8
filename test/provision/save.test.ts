import assert from "node:assert/strict";
import { chmod, cp, mkdir, readFile, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { execFile, spawnSync } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { test } from "node:test";

import { bundleRefs, fingerprint, save } from "../../src/provisioner/work.ts";
import { bundle, makeWorker, type TestWorker } from "../support/provision-rig.ts";
import { git, makeRemote } from "../support/repos.ts";

const run = promisify(execFile);

/** Names and bytes that have broken tools. */
const HOSTILE: Readonly<Record<string, string>> = {
  "new\nline": "a\nb",
  "tab\there": "\t",
  "$(touch canary)": "`touch canary`",
  "-dash": "--",
  "--force": "x",
  ":(exclude)magic": "x",
  "*": "star",
  "quote\"'\\": "q",
  " leading and trailing ": "s",
  "ümläut-日本": "ü",
  "crlf.txt": "a\r\nb\r\n",
  "no-newline": "x",
  empty: "",
  "#{pane_id}": "tmux",
};

interface Rig extends AsyncDisposable {
  readonly worker: TestWorker;
  readonly mirror: string;
  readonly clone: string;
  snapshot(number: number, epoch?: number): ReturnType<typeof save>;
  /** Bundles what lies below the run's prefix into the mirror. */
  fetch(prefix?: string): Promise<void>;
  /** Writes the tree of a snapshot's ref from the mirror to a folder, and gives the folder. */
  restore(ref: string): Promise<string>;
}

async function rig(): Promise<Rig> {
  const worker = await makeWorker();
  const remote = await makeRemote(join(worker.folder, "r"), "kite");
  await remote.commit("Attributes", {
    ".gitattributes": "*.txt text eol=lf\n*.id ident\n",
    "a.txt": "a\n",
  });
  const result = await worker.job(["clone", "branch"], {
    params: { REPO_URL: remote.url, RUN_BRANCH: "orchestrator/run-1" },
  });
  assert.equal(result.code, 0, JSON.stringify(result));
  const mirror = join(worker.folder, "mirror.git");
  await git(worker.folder, "init", "--quiet", "--bare", mirror);
  let restored = 0;
  return {
    worker,
    mirror,
    clone: join(worker.home, "kite"),
    snapshot: (number, epoch = 1) =>
      save(worker.transport, bundle, { epoch, run: "run-1", number, repo: "kite" }),
    fetch: async (prefix = "refs/orchestrator/run-1") => {
      const have = (await git(mirror, "for-each-ref", "--format=%(objectname)"))
        .split("\n")
        .filter(Boolean);
      const stream = await bundleRefs(worker.transport, bundle, { repo: "kite", prefix, have });
      const file = join(worker.folder, "b.bundle");
      await writeFile(file, stream.bytes);
      await git(mirror, "fetch", "--quiet", file, "refs/orchestrator/*:refs/orchestrator/*");
      await git(mirror, "fsck", "--full", "--strict");
    },
    restore: async (ref) => {
      restored += 1;
      const folder = join(worker.folder, `restored-${restored}`);
      await mkdir(folder);
      await git(mirror, "--work-tree", folder, "read-tree", ref);
      await git(mirror, "--work-tree", folder, "checkout-index", "--all");
      await rm(join(mirror, "index"));
      return folder;
    },
    [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose](),
  };
}

/** Compares names, contents, modes and link targets. */
async function sameTree(left: string, right: string, ...exclude: string[]): Promise<void> {
  const list = async (folder: string) => {
    const { stdout } = await run(
      "sh",
      [
        "-c",
        'cd "$1" && shift && find . "$@" -prune -o \\( -type f -exec sha256sum -z {} + -o -type l -printf "%p -> %l\\0" \\) ; find . "$@" -prune -o -type f -printf "%m %p\\0"',
        "sh",
        folder,
        "(",
        "-name",
        ".git",
        ...exclude.flatMap((name) => ["-o", "-path", `./${name}`]),
        ")",
      ],
      { maxBuffer: 64 * 1024 * 1024 },
    );
    return stdout.split("\0").sort();
  };
  assert.deepEqual(await list(right), await list(left));
}

const names = (saved: Awaited<ReturnType<typeof save>>) =>
  saved.refs.map((ref) => ref.name.replace(/^refs\/orchestrator\/run-1\/\d+\/\d+\//, ""));

test("a dirty tree comes out of the mirror byte for byte, and the clone was not touched", async () => {
  await using it = await rig();
  const { worker, clone } = it;
  for (const [name, text] of Object.entries(HOSTILE)) await writeFile(join(clone, name), text);
  await mkdir(join(clone, "deep/er"), { recursive: true });
  await writeFile(join(clone, "deep/er/bin"), Buffer.from([0, 255, 10, 13, 0]));
  await chmod(join(clone, "deep/er/bin"), 0o755);
  await symlink("../outside", join(clone, "link"));
  await writeFile(join(clone, "README.md"), "changed\r\n");
  await rm(join(clone, "mix.exs"));
  await writeFile(join(clone, "staged"), "staged");
  await git(clone, "add", "staged", "README.md");
  await writeFile(join(clone, "staged"), "and changed again");
  await mkdir(join(clone, "deps"));
  await writeFile(join(clone, "deps/ignored"), "x");
  const before = join(worker.folder, "before");
  await cp(join(clone, ".git"), before, { recursive: true, preserveTimestamps: true });

  const saved = await it.snapshot(1);
  assert.deepEqual(
    { complete: saved.complete, unsaved: saved.unsaved, skipped: saved.skipped },
    { complete: true, unsaved: [], skipped: [] },
  );
  assert.equal(saved.branch, "orchestrator/run-1");
  assert.equal(saved.head, await git(clone, "rev-parse", "HEAD"));
  await sameTree(before, join(clone, ".git"));
  await it.fetch();
  await sameTree(clone, await it.restore("refs/orchestrator/run-1/1/1/work"), "deps");
  const index = await it.restore("refs/orchestrator/run-1/1/1/index");
  assert.equal(await readFile(join(index, "staged"), "utf8"), "staged");
});

test("a clean clone needs no commit of its own, and a second snapshot costs no object", async () => {
  await using it = await rig();
  const saved = await it.snapshot(1);
  assert.equal(saved.complete, true);
  assert.deepEqual(names(saved).sort(), ["head", "heads/main", "heads/orchestrator/run-1"]);
  const objects = async () =>
    (
      await it.worker.transport.exec([
        "find",
        ".orchestrator/objects/kite.git/objects",
        "-type",
        "f",
      ])
    ).stdout;
  const first = await objects();
  assert.equal((await it.snapshot(2)).complete, true);
  assert.equal(await objects(), first);
  await it.fetch();
  await it.fetch("refs/orchestrator/run-1/1/2");
  assert.equal(await git(it.mirror, "rev-parse", "refs/orchestrator/run-1/1/2/head"), saved.head);
});

test("branches, tags, stashes, other work trees, nested repositories and submodules are all saved", async () => {
  await using it = await rig();
  const { worker, clone } = it;
  const inside = async (folder: string, ...args: string[]) => git(folder, ...args);
  await inside(clone, "branch", "unmerged");
  await inside(clone, "checkout", "--quiet", "unmerged");
  await writeFile(join(clone, "u"), "u");
  await inside(clone, "add", "u");
  await inside(clone, "commit", "--quiet", "--message=Unmerged");
  await inside(clone, "tag", "--annotate", "--message=Note", "mine");
  await inside(clone, "checkout", "--quiet", "--detach");
  await writeFile(join(clone, "d"), "d");
  await inside(clone, "add", "d");
  await inside(clone, "commit", "--quiet", "--message=Detached");
  for (const text of ["one", "two"]) {
    await writeFile(join(clone, "README.md"), text);
    await writeFile(join(clone, `untracked-${text}`), text);
    await inside(clone, "stash", "push", "--quiet", "--include-untracked");
  }
  const tree = join(worker.folder, "tree");
  await inside(clone, "worktree", "add", "--quiet", "-b", "elsewhere", tree);
  await writeFile(join(tree, "w"), "w");
  const nested = join(clone, "vendor/nes ted");
  await mkdir(nested, { recursive: true });
  await inside(nested, "init", "--quiet");
  await writeFile(join(nested, "n"), "n");
  await inside(nested, "add", "n");
  await inside(nested, "commit", "--quiet", "--message=Nested");
  await writeFile(join(nested, "m"), "m");
  const library = await makeRemote(join(worker.folder, "r"), "no-script", "library");
  await inside(
    clone,
    "-c",
    "protocol.file.allow=always",
    "submodule",
    "--quiet",
    "add",
    library.url,
    "sub",
  );
  await writeFile(join(clone, "sub/dirty"), "dirty");

  const saved = await it.snapshot(1);
  assert.deepEqual(
    { complete: saved.complete, unsaved: saved.unsaved },
    { complete: true, unsaved: [] },
  );
  assert.equal(saved.branch, null);
  const all = names(saved);
  for (const name of [
    "heads/unmerged",
    "heads/elsewhere",
    "tags/mine",
    "stash/0",
    "stash/1",
    "head",
    "work",
    "worktree/0/work",
    "nested/0/work",
    "nested/1/work",
  ]) {
    assert.ok(all.includes(name), `${name} in ${all.join(" ")}`);
  }
  // Nothing of it may depend on the worker.
  await it.fetch();
  const at = (name: string) => `refs/orchestrator/run-1/1/1/${name}`;
  const text = (name: string) => git(it.mirror, "show", name);
  assert.equal(await text(`${at("stash/0")}:README.md`), "two");
  assert.equal(await text(`${at("stash/1")}^3:untracked-one`), "one");
  assert.equal(await text(`${at("head")}:d`), "d");
  assert.equal(await text(`${at("worktree/0/work")}:w`), "w");
  const messages = await git(
    it.mirror,
    "log",
    "--no-walk",
    "--format=%s",
    at("nested/0/work"),
    at("nested/1/work"),
  );
  assert.deepEqual(messages.split("\n").sort(), [
    "work tree of sub/",
    "work tree of vendor/nes ted/",
  ]);
  const which = (await git(it.mirror, "log", "-1", "--format=%s", at("nested/0/work"))).includes(
    "sub",
  );
  assert.equal(await text(`${at(which ? "nested/0/work" : "nested/1/work")}:dirty`), "dirty");
  assert.equal(await text(`${at(which ? "nested/1/work" : "nested/0/work")}:m`), "m");
  assert.match(await git(it.mirror, "cat-file", "-t", at("tags/mine")), /tag/);
});

test("a rebase with a conflict in progress is saved with all it needs", async () => {
  await using it = await rig();
  const { clone } = it;
  await writeFile(join(clone, "README.md"), "ours\n");
  await git(clone, "commit", "--quiet", "--all", "--message=Ours");
  const ours = await git(clone, "rev-parse", "HEAD");
  await git(clone, "checkout", "--quiet", "-b", "theirs", "HEAD~1");
  await writeFile(join(clone, "README.md"), "theirs\n");
  await git(clone, "commit", "--quiet", "--all", "--message=Theirs");
  await git(clone, "checkout", "--quiet", "orchestrator/run-1");
  await writeFile(join(clone, "untracked"), "u");
  await assert.rejects(git(clone, "rebase", "theirs"));
  const saved = await it.snapshot(1);
  assert.deepEqual(
    { complete: saved.complete, unsaved: saved.unsaved },
    { complete: true, unsaved: [] },
  );
  assert.ok(
    saved.refs.some((ref) => ref.name.includes("/state/") && ref.sha === ours),
    "the commit that is being rebased",
  );
  await it.fetch();
  await sameTree(clone, await it.restore("refs/orchestrator/run-1/1/1/work"));
});

test("secrets and large files are left out and named; tracked ones that changed are not taken for saved", async () => {
  await using it = await rig();
  const { clone } = it;
  await mkdir(join(clone, "conf"));
  for (const name of [
    ".env",
    ".env.local",
    "conf/id_rsa",
    "conf/server.pem",
    ".npmrc",
    "credentials.json",
  ]) {
    await writeFile(join(clone, name), "s3cret");
  }
  await writeFile(join(clone, ".gitignore"), "!.env\n!*.pem\n");
  await writeFile(join(clone, "sound.key.md"), "no secret");
  await run("truncate", ["-s", "52428801", join(clone, "large.bin")]);
  const saved = await it.snapshot(1);
  assert.deepEqual(saved.skipped.map(({ why, path }) => `${why} ${path}`).sort(), [
    "large large.bin",
    "secret .env",
    "secret .env.local",
    "secret .npmrc",
    "secret conf/id_rsa",
    "secret conf/server.pem",
    "secret credentials.json",
  ]);
  assert.equal(saved.complete, true, JSON.stringify(saved));
  await it.fetch();
  const listed = await git(
    it.mirror,
    "ls-tree",
    "-r",
    "--name-only",
    "refs/orchestrator/run-1/1/1/work",
  );
  assert.doesNotMatch(listed, /\.env|pem|npmrc|large|id_rsa|credentials/);
  assert.match(listed, /sound\.key\.md/);
  const found = await it.worker.transport.exec(["grep", "-rl", "s3cret", ".orchestrator"]);
  assert.equal(found.stdout, "");

  // What a snapshot leaves out, the reset of the next run leaves in its place.
  const url = await git(clone, "config", "remote.origin.url");
  const reset = await it.worker.job(["saved", "clone"], {
    params: { REPO_URL: url, SAVED_FINGERPRINT: saved.fingerprint ?? "" },
  });
  assert.equal(reset.code, 0, JSON.stringify(reset));
  assert.equal((await stat(join(clone, "large.bin"))).size, 52428801);
  assert.equal(await readFile(join(clone, "conf/id_rsa"), "utf8"), "s3cret");
  await rm(join(clone, "sound.key.md"), { force: true });

  await git(clone, "add", "--force", "large.bin");
  await writeFile(join(clone, "large.bin"), "B", { flag: "a" });
  const second = await it.snapshot(2);
  assert.deepEqual(
    { complete: second.complete, unsaved: second.unsaved },
    { complete: false, unsaved: [{ why: "large", path: "large.bin" }] },
  );
});

test("what cannot be read is unsaved", async (context) => {
  await using it = await rig();
  const { worker, clone } = it;
  await writeFile(join(clone, "locked"), "x");
  await chmod(join(clone, "locked"), 0);
  if (process.getuid?.() === 0) {
    // Root reads all, unless it gives that right up.
    const able = await worker.transport.exec([
      "setpriv",
      "--bounding-set=-dac_override,-dac_read_search",
      "--inh-caps=-dac_override,-dac_read_search",
      "cat",
      "kite/locked",
    ]);
    if (able.code === 0 || !able.stderr.includes("ermission"))
      return context.skip("this root cannot give up its rights");
    const result = await worker.transport.exec([
      "setpriv",
      "--bounding-set=-dac_override,-dac_read_search",
      "--inh-caps=-dac_override,-dac_read_search",
      ".orchestrator/bin/save",
      bundle.hash,
      "1",
      "run-1",
      "1",
      "kite",
    ]);
    assert.equal(result.code, 32, result.stderr);
    assert.match(result.stdout, /^unsaved\tunreadable\tlocked$/m);
    return undefined;
  }
  const saved = await it.snapshot(1);
  assert.deepEqual(
    { complete: saved.complete, unsaved: saved.unsaved },
    { complete: false, unsaved: [{ why: "unreadable", path: "locked" }] },
  );
  return undefined;
});

test("files that git was told not to look at are looked at", async () => {
  await using it = await rig();
  const { clone } = it;
  await git(clone, "update-index", "--assume-unchanged", "README.md");
  await git(clone, "update-index", "--skip-worktree", "mix.exs");
  const before = await fingerprint(it.worker.transport, bundle, "kite");
  await writeFile(join(clone, "README.md"), "hidden change");
  await writeFile(join(clone, "mix.exs"), "hidden change");
  assert.notEqual(await fingerprint(it.worker.transport, bundle, "kite"), before);
  const saved = await it.snapshot(1);
  assert.equal(saved.complete, true);
  await it.fetch();
  for (const name of ["README.md", "mix.exs"]) {
    assert.equal(
      await git(it.mirror, "show", `refs/orchestrator/run-1/1/1/work:${name}`),
      "hidden change",
    );
  }
});

test("a snapshot outlives whatever the agent does to its repository", async () => {
  await using it = await rig();
  const { clone } = it;
  await git(clone, "checkout", "--quiet", "-b", "doomed");
  await writeFile(join(clone, "x"), "precious");
  await git(clone, "add", "x");
  await git(clone, "commit", "--quiet", "--message=Doomed");
  await writeFile(join(clone, "y"), "also");
  await writeFile(join(clone, "z"), "staged");
  await git(clone, "add", "z");
  const saved = await it.snapshot(1);
  assert.equal(saved.complete, true);
  await rm(join(clone, "y"));
  await git(clone, "rm", "--quiet", "--force", "z");
  await git(clone, "checkout", "--quiet", "main");
  await git(clone, "branch", "--quiet", "-D", "doomed");
  await git(clone, "reflog", "expire", "--expire=now", "--all");
  await git(clone, "gc", "--quiet", "--prune=now");
  await assert.rejects(
    git(clone, "cat-file", "-e", saved.head ?? ""),
    "the agent's repository has forgotten it",
  );
  await it.fetch();
  assert.equal(await git(it.mirror, "show", "refs/orchestrator/run-1/1/1/head:x"), "precious");
  assert.equal(await git(it.mirror, "show", "refs/orchestrator/run-1/1/1/work:y"), "also");
  assert.equal(await git(it.mirror, "show", "refs/orchestrator/run-1/1/1/work:z"), "staged");
});

test("a snapshot's number is taken once, and a stale epoch is refused", async () => {
  await using it = await rig();
  assert.equal((await it.snapshot(1)).complete, true);
  await assert.rejects(it.snapshot(1), /there already/);
  await it.snapshot(1, 5);
  await assert.rejects(it.snapshot(2, 4), /a higher epoch was seen/);
});

test("the fingerprint changes with everything a snapshot would hold, and with nothing else", async () => {
  await using it = await rig();
  const { worker, clone } = it;
  await writeFile(join(clone, "untracked"), "1234");
  let last = await fingerprint(worker.transport, bundle, "kite");
  const changes = async (what: string, expected: boolean, act: () => Promise<unknown>) => {
    await act();
    const now = await fingerprint(worker.transport, bundle, "kite");
    assert.equal(now !== last, expected, what);
    last = now;
  };
  const file = (name: string, text: string) => writeFile(join(clone, name), text);
  await changes("reading it", false, async () => {});
  await changes("reading the tree", false, () => git(clone, "status"));
  await changes("an ignored file", false, () =>
    mkdir(join(clone, "deps")).then(() => file("deps/x", "x")),
  );
  await changes("fetching", false, () => git(clone, "fetch", "origin"));
  await changes("a tracked file", true, () => file("README.md", "changed"));
  await changes("the same file again", true, () => file("README.md", "CHANGED"));
  await changes("an untracked file", true, () => file("untracked", "4321"));
  await changes("the same size and time", true, async () => {
    const { atime, mtime } = await stat(join(clone, "untracked"));
    await file("untracked", "9999");
    await utimes(join(clone, "untracked"), atime, mtime);
  });
  await changes("a mode", true, () => chmod(join(clone, "untracked"), 0o755));
  await changes("a hostile name", true, () => file("new\nline", "x"));
  await changes("staging", true, () => git(clone, "add", "README.md"));
  await changes("a stash", true, () => git(clone, "stash", "push", "--quiet"));
  await changes("a dropped stash", true, () => git(clone, "stash", "drop", "--quiet"));
  await changes("a branch", true, () => git(clone, "branch", "other"));
  await changes("another branch checked out", true, () =>
    git(clone, "checkout", "--quiet", "other"),
  );
  await changes("a tag", true, () => git(clone, "tag", "t"));
  await changes("a detached HEAD", true, () => git(clone, "checkout", "--quiet", "--detach"));
  await changes("a work tree", true, () =>
    git(clone, "worktree", "add", "--quiet", join(worker.folder, "tree")),
  );
  await changes("a file in it", true, () => writeFile(join(worker.folder, "tree/w"), "w"));
  const nested = join(clone, "nested");
  await changes("a nested repository", true, async () => {
    await mkdir(nested);
    await git(nested, "init", "--quiet");
    await writeFile(join(nested, "n"), "n");
  });
  await changes("a commit in it", true, async () => {
    await git(nested, "add", "n");
    await git(nested, "commit", "--quiet", "--message=N");
  });
  await changes("a change in it", true, () => writeFile(join(nested, "n"), "N"));
});

test("five thousand files are saved without a process for each", async () => {
  await using it = await rig();
  const { clone } = it;
  for (let folder = 0; folder < 50; folder += 1) {
    await mkdir(join(clone, `d${folder}`));
    await Promise.all(
      Array.from({ length: 100 }, (_, file) =>
        writeFile(join(clone, `d${folder}/f${file}`), `${folder} ${file}\n`),
      ),
    );
  }
  const began = performance.now();
  const saved = await it.snapshot(1);
  const tookMs = performance.now() - began;
  assert.equal(saved.complete, true, JSON.stringify(saved.unsaved));
  // Measured against what starting a program costs now: a quarter of one a file would be far too many.
  const programsBegan = performance.now();
  for (let count = 0; count < 100; count += 1) spawnSync("true");
  const programMs = (performance.now() - programsBegan) / 100;
  assert.ok(tookMs < 2_500 * programMs, `${tookMs} ms, a program costs ${programMs} ms`);
  await it.fetch();
  const listed = await git(
    it.mirror,
    "ls-tree",
    "-r",
    "--name-only",
    "refs/orchestrator/run-1/1/1/work",
  );
  assert.ok(listed.split("\n").length > 5_000);
});

test("what the agent once staged, and its gc then throws away, is in the snapshot all the same", async () => {
  await using it = await rig();
  const { clone } = it;
  // Its objects lie in the agent's repository, where nothing refers to them: a file and the folder around it.
  await mkdir(join(clone, "lib/once"));
  await writeFile(join(clone, "lib/once/staged.txt"), "staged once\n");
  await writeFile(join(clone, "top.txt"), "staged at the top\n");
  await git(clone, "add", "lib", "top.txt");
  await git(clone, "write-tree");
  await git(clone, "reset", "--quiet");
  const saved = await it.snapshot(1);
  assert.equal(saved.complete, true, JSON.stringify(saved.unsaved));
  await git(clone, "reflog", "expire", "--expire=now", "--all");
  await git(clone, "gc", "--quiet", "--prune=now");
  await it.fetch();
  await sameTree(clone, await it.restore("refs/orchestrator/run-1/1/1/work"));
});
