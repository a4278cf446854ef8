import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readFile, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { bundleRefs } from "../../src/provisioner/work.ts";
import { bundle, makeWorker, type TestWorker } from "../support/provision-rig.ts";
import { git, makeRemote, type Remote } from "../support/repos.ts";
import { until } from "../support/wait.ts";

const RUN = `run-${process.pid}`;

interface Line {
  readonly event: string;
  readonly payload: Readonly<Record<string, unknown>> & { readonly number?: number };
}

interface Rig extends AsyncDisposable {
  readonly worker: TestWorker;
  readonly remote: Remote;
  readonly clone: string;
  readonly mirror: string;
  /** As the controller leaves it for the guard. */
  watch(settings?: {
    epoch?: number;
    takeS?: number;
    commitS?: number;
    push?: "remote" | "none";
  }): Promise<void>;
  /** What the guard starts when a look is due. */
  look(how?: "take" | "look"): Promise<{ code: number | null; stdout: string; stderr: string }>;
  /** The lines that came of it. */
  lines(): Promise<Line[]>;
  /** Takes what lies below the prefix into the mirror, where it must be whole. */
  fetch(prefix: string): Promise<void>;
  restore(ref: string): Promise<string>;
}

async function rig(): Promise<Rig> {
  const worker = await makeWorker();
  const remote = await makeRemote(join(worker.folder, "r"), "kite");
  const result = await worker.job(["clone", "branch"], {
    params: { REPO_URL: remote.url, RUN_BRANCH: `orchestrator/${RUN}` },
  });
  assert.equal(result.code, 0, JSON.stringify(result));
  const runFolder = join(worker.home, ".orchestrator/runs", RUN);
  await mkdir(runFolder, { recursive: true });
  const mirror = join(worker.folder, "mirror.git");
  await git(worker.folder, "init", "--quiet", "--bare", mirror);
  let restored = 0;
  return {
    worker,
    remote,
    mirror,
    clone: join(worker.home, "kite"),
    watch: ({ epoch = 1, takeS = 300, commitS = 0, push = "none" } = {}) =>
      writeFile(join(runFolder, "watch"), `${epoch} kite ${takeS} ${commitS} ${push}\n`),
    look: (how = "take") => worker.script("snapshot", RUN, "1", how),
    lines: async () => {
      const file = join(runFolder, "events.jsonl");
      if (!existsSync(file)) return [];
      const text = await readFile(file, "utf8");
      return text
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Line);
    },
    fetch: async (prefix) => {
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

const prefixOf = (line: Line | undefined, epoch = 1) =>
  `refs/orchestrator/${RUN}/${epoch}/${line?.payload.number}`;

test("a snapshot is taken when something changed, told in one line, and numbered upwards", async () => {
  await using it = await rig();
  await it.watch();
  await it.look();
  assert.deepEqual(await it.lines(), [], "what the remote has needs none");
  await writeFile(join(it.clone, "work.txt"), "one\n");
  await it.look();
  await it.look();
  const [first, ...others] = await it.lines();
  assert.deepEqual(others, [], "nothing changed since the first");
  assert.equal(first?.event, "snapshot");
  const { number, ms, refs, ...rest } = first.payload;
  assert.ok(Number(number) > 1e12 && Number(ms) >= 0 && Number(refs) >= 4, JSON.stringify(first));
  assert.deepEqual(rest, {
    epoch: 1,
    moved: false,
    pushed: "no",
    skipped: [],
    skipped_total: 0,
    unsaved: [],
    unsaved_total: 0,
  });
  await writeFile(join(it.clone, "work.txt"), "two\n");
  await it.look();
  const second = (await it.lines())[1];
  assert.ok(Number(second?.payload.number) > Number(number));
  await it.fetch(prefixOf(first));
  await it.fetch(prefixOf(second));
  for (const [line, text] of [
    [first, "one"],
    [second, "two"],
  ] as const) {
    assert.equal(await git(it.mirror, "show", `${prefixOf(line)}/work:work.txt`), text);
  }
});

test("without word from the controller, and once another run has the worker, nothing is taken", async () => {
  await using it = await rig();
  await writeFile(join(it.clone, "work.txt"), "one\n");
  await it.look();
  assert.deepEqual(await it.lines(), []);
  await it.watch({ epoch: 3 });
  await it.worker.script("save", bundle.hash, "4", "run-other", "1", "kite");
  await it.look();
  assert.deepEqual(await it.lines(), []);
});

test("a secret that is not ignored and a large file are left out by name, in the line and in the store", async () => {
  await using it = await rig();
  await it.watch();
  for (const name of [
    ".env",
    "id_ed25519",
    'we"ird\\.pem',
    ".env.local",
    "a.key",
    "b.key",
    "c.key",
  ])
    await writeFile(join(it.clone, name), "s3cret-of-the-agent");
  await writeFile(join(it.clone, "large.bin"), "");
  await truncate(join(it.clone, "large.bin"), 52_428_801);
  await writeFile(join(it.clone, "fine.txt"), "fine");
  await it.look();
  const [line] = await it.lines();
  const skipped = line?.payload["skipped"] as string[];
  assert.equal(skipped.length, 5);
  assert.ok(
    skipped.includes("large large.bin") || skipped.includes("secret .env"),
    String(skipped),
  );
  assert.equal(line?.payload["skipped_total"], 8);
  assert.equal(line.payload["unsaved_total"], 0);
  await it.fetch(prefixOf(line));
  for (const folder of [it.mirror, join(it.worker.home, ".orchestrator/objects")]) {
    const all = await git(
      folder === it.mirror ? folder : join(folder, "kite.git"),
      "-c",
      "core.alternateRefsCommand=true",
      "cat-file",
      "--batch-all-objects",
      "--batch",
    );
    assert.ok(!all.includes("s3cret-of-the-agent"), folder);
    assert.ok(all.includes("fine"), folder);
  }
});

test("pushed to the remote: the work, but nothing with a secret's name, staged, stashed or committed", async () => {
  await using it = await rig();
  await it.watch({ push: "remote" });
  const { clone } = it;
  await writeFile(join(clone, "work.txt"), "public\n");
  await git(clone, "add", "work.txt");
  await git(clone, "commit", "--quiet", "--message=Work");
  await writeFile(join(clone, "more.txt"), "not committed\n");
  await it.look();
  const first = (await it.lines())[0];
  assert.equal(first?.payload["pushed"], "pushed");
  assert.equal(await it.remote.git("show", `${prefixOf(first)}/work:more.txt`), "not committed");

  await writeFile(join(clone, ".env"), "stashed-s3cret");
  await git(clone, "stash", "push", "--quiet", "--include-untracked");
  await writeFile(join(clone, "conf.pem"), "staged-s3cret");
  await git(clone, "add", "--force", "conf.pem");
  await git(clone, "checkout", "--quiet", "-b", "leak");
  await writeFile(join(clone, "id_rsa"), "committed-s3cret");
  await git(clone, "add", "--force", "id_rsa");
  await git(clone, "commit", "--quiet", "--message=Leak", "--", "id_rsa");
  await writeFile(join(clone, "other.txt"), "other\n");
  await it.look();
  const second = (await it.lines())[1];
  assert.match(String(second?.payload["pushed"]), /^withheld [1-9]$/);
  const all = await it.remote.git("cat-file", "--batch-all-objects", "--batch");
  assert.doesNotMatch(all, /s3cret/);
  // The private mirror has all of it: nothing is lost.
  await it.fetch(prefixOf(second));
  const kept = await git(it.mirror, "cat-file", "--batch-all-objects", "--batch");
  for (const text of ["stashed-s3cret", "staged-s3cret", "committed-s3cret"])
    assert.ok(kept.includes(text), text);
});

test("a remote that takes no push is told, and the snapshot stands", async () => {
  await using it = await rig();
  await it.watch({ push: "remote" });
  await writeFile(join(it.clone, "work.txt"), "one\n");
  await git(it.clone, "config", "remote.origin.pushurl", join(it.worker.folder, "nowhere.git"));
  await it.look();
  const [line] = await it.lines();
  assert.match(String(line?.payload["pushed"]), /^failed /);
  await it.fetch(prefixOf(line));
});

test("a broken repository, a full and a read-only disk are told once, and what heals is told by the next snapshot", async (t) => {
  await using it = await rig();
  await it.watch();
  await writeFile(join(it.clone, "work.txt"), "one\n");
  const head = join(it.clone, ".git/HEAD");
  const text = await readFile(head, "utf8");
  await writeFile(head, "nonsense\n");
  const looked = await it.look();
  assert.equal(looked.code, 0, looked.stderr);
  await it.look();
  assert.deepEqual(
    (await it.lines()).map(({ event, payload }) => [event, payload["reason"]]),
    [["snapshot_failed", "the clone cannot be read by git"]],
  );
  await writeFile(head, text);
  await it.look();
  assert.equal((await it.lines()).at(-1)?.event, "snapshot");

  const objects = join(it.worker.home, ".orchestrator/objects");
  const mount = (options: string) =>
    spawnSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", objects], { encoding: "utf8" });
  if (mount("size=1m,mode=700").status !== 0) return t.skip("no disk can be mounted here");
  try {
    await writeFile(join(it.clone, "work.txt"), Buffer.alloc(4_000_000, "x"));
    await writeFile(
      join(it.clone, "random.bin"),
      Buffer.from(crypto.getRandomValues(new Uint8Array(65_536)).buffer)
        .toString("hex")
        .repeat(40),
    );
    assert.equal((await it.look()).code, 0);
    assert.equal((await it.lines()).at(-1)?.event, "snapshot_failed");
    spawnSync("mount", ["-o", "remount,ro", objects]);
    assert.equal((await it.look()).code, 0);
  } finally {
    spawnSync("umount", ["-l", objects]);
  }
  await it.look();
  assert.equal((await it.lines()).at(-1)?.event, "snapshot");
  return undefined;
});

test("work without a commit is told when it is overdue, once, and that it was committed", async () => {
  await using it = await rig();
  const { clone } = it;
  const events = async () => (await it.lines()).map(({ event }) => event);
  await it.watch({ takeS: 0, commitS: 1 });
  const uncommitted = join(it.worker.home, ".orchestrator/runs", RUN, "uncommitted");
  /** As if the last look had been an hour ago. */
  const age = async () => {
    const [head = "", since = "", told = ""] = (await readFile(uncommitted, "utf8"))
      .trim()
      .split(" ");
    await writeFile(uncommitted, `${head} ${Math.max(0, Number(since) - 3_600_000)} ${told}\n`);
  };
  await it.look("look");
  await age();
  await it.look("look");
  assert.deepEqual(await events(), [], "a clean tree owes nothing");
  await writeFile(join(clone, "new.txt"), "new\n");
  await it.look("look");
  assert.deepEqual(await events(), [], "the work is young");
  await age();
  await it.look("look");
  await it.look("look");
  assert.deepEqual(await events(), ["commit_overdue"]);
  assert.ok(Number((await it.lines())[0]?.payload["uncommitted_ms"]) >= 1_000);
  await git(clone, "add", "new.txt");
  await git(clone, "commit", "--quiet", "--message=New");
  await writeFile(join(clone, "newer.txt"), "newer\n");
  await it.look("look");
  assert.deepEqual(await events(), ["commit_overdue", "committed"]);
  await age();
  await it.look("look");
  assert.deepEqual(
    (await events()).at(-1),
    "commit_overdue",
    "the next work is overdue in its turn",
  );
});

test("snapshots taken while the agent commits, stashes, rebases and collects garbage lose nothing and disturb nothing", async (t) => {
  await using it = await rig();
  await it.watch();
  const { clone, worker } = it;
  // A file that is never committed, and one that is in every commit; each round leaves marks to compare with.
  const agent = spawn(
    "sh",
    [
      "-c",
      `set -e
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@b HOME=/nonexistent
round=0
while [ ! -e ../stop ]; do
  round=$((round + 1))
  echo "$round" >loose.txt
  echo "$round" >kept.txt
  git add loose.txt kept.txt; git write-tree >/dev/null; git reset -q loose.txt
  git commit -qm "Round $round" -- kept.txt
  echo "$round" >>README.md; git stash push -q; git stash pop -q
  git branch -f moved HEAD~1; git rebase -q HEAD~1 2>/dev/null || git rebase --abort 2>/dev/null || :
  git checkout -q -- README.md
  git reflog expire --expire=now --all; git gc -q --prune=now
done
echo "$round" >../rounds`,
    ],
    { cwd: clone, stdio: ["ignore", "ignore", "pipe"] },
  );
  let said = "";
  agent.stderr.setEncoding("utf8").on("data", (chunk: string) => (said += chunk));
  const ended = once(agent, "exit");
  const taken = () => it.lines().then((lines) => lines.filter(({ event }) => event === "snapshot"));
  await until(
    async () => {
      const looked = await it.look();
      assert.equal(looked.code, 0, looked.stderr);
      return (await taken()).length >= 12;
    },
    { what: "twelve snapshots", timeoutMs: 120_000 },
  );
  await writeFile(join(worker.home, "stop"), "");
  assert.deepEqual(await ended, [0, null], said);
  await writeFile(join(clone, "last.txt"), "the end");
  await it.look();
  const snapshots = await taken();
  // One whose objects went away under it says so; every other one is whole, and stays so in the mirror.
  const whole = snapshots.filter(({ payload }) => payload["unsaved_total"] === 0);
  t.diagnostic(`${snapshots.length} snapshots, ${whole.length} whole`);
  assert.ok(whole.length >= 6, JSON.stringify(snapshots.map(({ payload }) => payload)));
  for (const line of whole) {
    await it.fetch(prefixOf(line));
    const loose = await git(it.mirror, "show", `${prefixOf(line)}/work:loose.txt`).catch(() => "");
    assert.match(loose, /^\d*$/);
  }
  const last = snapshots.at(-1);
  assert.equal(await git(it.mirror, "show", `${prefixOf(last)}/work:last.txt`), "the end");
  // The agent's repository is sound, and holds nothing of ours.
  await git(clone, "fsck", "--full", "--strict");
  assert.doesNotMatch(await git(clone, "for-each-ref"), /refs\/orchestrator/);
});

test("a snapshot writes nothing into the clone, and runs none of its hooks", async () => {
  await using it = await rig();
  await it.watch({ commitS: 60 });
  const { clone } = it;
  for (const hook of [
    "post-checkout",
    "pre-commit",
    "post-index-change",
    "reference-transaction",
  ]) {
    const file = join(clone, ".git/hooks", hook);
    await mkdir(join(clone, ".git/hooks"), { recursive: true });
    await writeFile(file, `#!/bin/sh\n: >${join(it.worker.folder, "hook-ran")}\n`, { mode: 0o755 });
  }
  await writeFile(join(clone, "work.txt"), "one\n");
  await utimes(join(clone, "README.md"), new Date(), new Date());
  const index = join(clone, ".git/index");
  const before = [await readFile(index), (await stat(index)).mtimeMs] as const;
  const objects = () => git(clone, "count-objects", "-v");
  const count = await objects();
  await it.look();
  assert.equal((await it.lines()).length, 1);
  assert.deepEqual([await readFile(index), (await stat(index)).mtimeMs], before);
  assert.equal(await objects(), count);
  assert.ok(!existsSync(join(it.worker.folder, "hook-ran")));
});
