import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { RecoveredView } from "../../src/operations/views.ts";
import { installation, type Installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

/*
 * What an agent can leave behind, all of it at once, and then the next task on the same worker: the reset may lose nothing of it, and nothing
 * that is secret may leave the worker.
 */

const GIT =
  "git -c user.name=A -c user.email=a@b -c protocol.file.allow=always -c advice.detachedHead=false";

/** What is in progress in the clone: each conflicts. */
const IN_PROGRESS: Readonly<Record<string, string>> = {
  merge: `${GIT} merge theirs && exit 9 || :`,
  rebase: `${GIT} rebase theirs && exit 9 || :`,
  "cherry-pick": `${GIT} cherry-pick theirs && exit 9 || :`,
  "stash pop": `echo third > README.md; ${GIT} stash push -q; echo fourth > README.md; ${GIT} commit -qam Fourth; ${GIT} stash pop && exit 9 || :`,
};

/** sh text that leaves all of that, with a submodule from `library`. */
const mess = (inProgress: string, library: string) => `set -e
echo ours > README.md; ${GIT} commit -qam Ours
${GIT} checkout -q -b theirs HEAD~1; echo theirs > README.md; ${GIT} commit -qam Theirs
echo lost > lost.txt; ${GIT} add lost.txt; ${GIT} commit -qm Unmerged; ${GIT} branch unmerged; ${GIT} reset -q --hard HEAD~1
${GIT} checkout -q -
echo stashed > stashed.txt; echo h1dden > .npmrc; ${GIT} stash push -q --include-untracked
mkdir -p deep/er; printf 'a\\r\\nb' > 'deep/er/wei rd"\\name'; printf '\\000\\377' > deep/er/bin; chmod 755 deep/er/bin
ln -s ../outside link; ln -s deep/er folder
${GIT} submodule --quiet add ${library} sub; echo dirty > sub/dirty; echo s3cret-sub > sub/.env
mkdir -p vendor/lib; (cd vendor/lib; ${GIT} init -q; echo n > n; ${GIT} add n; ${GIT} commit -qm N; echo m > m)
${GIT} worktree add -q -b elsewhere ../tree; echo w > ../tree/w; echo s3cret-tree > ../tree/id_rsa
echo s3cret-env > .env; echo s3cret-key > deep/er/server.pem; mkdir -p private; echo s3cret-ignored > .setup-ran
truncate -s 52428801 large.bin
${inProgress}
echo staged > staged.txt; ${GIT} add staged.txt; echo more > staged.txt
`;

/** Every file but git's own and what a snapshot leaves out by rule. */
function contents(folder: string): string[] {
  const list = execFileSync(
    "sh",
    [
      "-c",
      'cd "$1" && find . \\( -name .git -o -name .env -o -name "*.pem" -o -name large.bin -o -name .setup-ran -o -name private \\) -prune -o -type f -printf "%m %p " -exec sha256sum -b {} \\; -o -type l -printf "%p -> %l\\n"',
      "sh",
      folder,
    ],
    { encoding: "utf8" },
  );
  return list.split("\n").sort();
}

const git = (folder: string, ...args: string[]) =>
  execFileSync("git", args, { cwd: folder, encoding: "utf8", env: { PATH: process.env["PATH"] } });

/** All objects of a repository, in one text. */
const objectsOf = (gitDir: string) =>
  execFileSync("git", ["--git-dir", gitDir, "cat-file", "--batch-all-objects", "--batch"], {
    encoding: "latin1",
    maxBuffer: 1 << 28,
  });

function makeLibrary(installed: Installation): string {
  const library = join(installed.home, "library");
  execFileSync("sh", [
    "-ec",
    `${GIT} init -q "$1"; cd "$1"; echo l > l; ${GIT} add l; ${GIT} commit -qm L`,
    "sh",
    library,
  ]);
  return library;
}

describe("what an agent leaves survives the reuse of its worker", { concurrency: 2 }, () => {
  for (const [name, inProgress] of Object.entries(IN_PROGRESS)) {
    test(`with a ${name} in progress`, async () => {
      await using installed = installation({
        repo: { maxWorkers: 1, snapshots: { everyMinutes: 1 / 60, push: "remote" } },
      });
      const go = join(installed.home, "go");
      const task = mess(inProgress, makeLibrary(installed));
      const run = await installed.dispatch(`${task}\nuntil [ -e ${go} ]; do sleep 0.05; done`);
      await installed.wait(run.run_id, "delivered");
      const clone = join(installed.homeOf("kite-1"), "kite");
      await until(
        () =>
          existsSync(join(clone, "staged.txt")) &&
          readFileSync(join(clone, "staged.txt"), "utf8") === "more\n",
        {
          what: "the mess",
          timeoutMs: 180_000,
        },
      );
      const before = join(installed.home, "before");
      cpSync(clone, before, { recursive: true, verbatimSymlinks: true });
      const taken = await until(
        async () => {
          const all = await installed.events(run.run_id);
          const kept = all.filter(({ kind, payload }) => kind === "run.snapshot_kept" && payload);
          const last = all.findLast(({ kind }) => kind === "run.snapshot_taken");
          const isKept = kept.some(({ payload }) => payload["number"] === last?.payload["number"]);
          const age = Date.now() - (last?.at ?? Date.now());
          return isKept && last?.payload["moved"] === false && age > 2_000
            ? last.payload
            : undefined;
        },
        { what: "a snapshot of all of it", timeoutMs: 180_000 },
      );
      assert.equal(taken["unsaved_total"], 0, JSON.stringify(taken));
      writeFileSync(go, "");
      const ended = await installed.wait(run.run_id);
      assert.deepEqual([ended.state, ended.unrescued], ["completed", false], JSON.stringify(ended));

      const next = await installed.wait(
        (await installed.dispatch("git status --porcelain")).run_id,
      );
      assert.deepEqual([next.state, next.worker], ["completed", "kite-1"]);
      assert.equal(git(clone, "log", "-1", "--format=%s", "HEAD").trim(), "Begin");

      for (const snapshot of [taken["number"], "latest"]) {
        const folder = join(installed.home, `back-${String(snapshot)}`);
        const back = await installed.call<RecoveredView>("run.recover", {
          run_id: run.run_id,
          snapshot,
          folder,
        });
        assert.deepEqual(contents(folder), contents(before));
        assert.deepEqual(back.nested.toSorted(), ["sub", "vendor/lib"]);
        assert.equal(git(folder, "show", "unmerged:lost.txt"), "lost\n");
        // A stash whose pop met a conflict stays, before the other.
        const stash = `stash@{${name === "stash pop" ? 1 : 0}}`;
        assert.equal(git(folder, "show", `${stash}^3:stashed.txt`), "stashed\n");
        assert.equal(git(folder, "show", "refs/recovered/worktree/0/work:w"), "w\n");
        assert.equal(
          git(folder, "diff", "--cached", "--name-only", "--", "staged.txt"),
          "staged.txt\n",
        );
      }

      // Secrets stay where they are, and are nowhere else.
      const home = installed.homeOf("kite-1");
      for (const [file, text] of [
        ["kite/.env", "s3cret-env"],
        ["kite/deep/er/server.pem", "s3cret-key"],
        ["tree/id_rsa", "s3cret-tree"],
        ["kite/.setup-ran", "s3cret-ignored"],
      ] as const)
        assert.equal(readFileSync(join(home, file), "utf8"), `${text}\n`, file);
      for (const place of [
        join(installed.paths.mirrors, "kite.git"),
        join(home, ".orchestrator/objects/kite.git"),
        installed.remote,
      ])
        assert.doesNotMatch(objectsOf(place), /s3cret/, place);
      // What the agent itself stashed is in the mirror, and never at the remote.
      assert.match(objectsOf(join(installed.paths.mirrors, "kite.git")), /h1dden/);
      assert.doesNotMatch(objectsOf(installed.remote), /h1dden/);
      assert.match(
        git(installed.remote, "for-each-ref", "refs/orchestrator"),
        new RegExp(`${run.run_id}/.*/work`),
        "the rest was pushed",
      );
    });
  }
});
