import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { bundleRefs, fingerprint, push, report } from "../../src/provisioner/work.ts";
import { isOrchestratorError } from "../support/errors.ts";
import { bundle, makeWorker } from "../support/provision-rig.ts";
import { makeRemote } from "../support/repos.ts";

async function clonedWorker() {
  const worker = await makeWorker();
  const remote = await makeRemote(join(worker.folder, "r"), "kite");
  const result = await worker.job(["clone", "branch"], {
    params: { REPO_URL: remote.url, RUN_BRANCH: "orchestrator/run-1" },
  });
  assert.equal(result.code, 0, JSON.stringify(result));
  return {
    worker,
    remote,
    base: result.facts["clone.base"] ?? "",
    clone: join(worker.home, "kite"),
  };
}

test("a report names the commits and counts staged, unstaged and untracked changes", async () => {
  const { worker, base, clone } = await clonedWorker();
  await using _ = worker;
  assert.deepEqual(await report(worker.transport, bundle, "kite", base), {
    commits: [],
    files: 0,
    insertions: 0,
    deletions: 0,
  });
  await writeFile(join(clone, "README.md"), "one line\n");
  await worker.git("commit", "--quiet", "--all", "--message=Say \u001b[31mit\tshort");
  await writeFile(join(clone, "new"), "1\n2\n3\n");
  await writeFile(join(clone, "staged"), "1\n");
  await worker.git("add", "staged");
  const index = await worker.git("ls-files", "--stage");
  const said = await report(worker.transport, bundle, "kite", base);
  assert.deepEqual(said, {
    commits: [{ sha: await worker.git("rev-parse", "HEAD"), subject: "Say ?[31mit short" }],
    files: 3,
    insertions: 5,
    deletions: 3,
  });
  assert.equal(await worker.git("ls-files", "--stage"), index, "the agent's index is as it was");
  await assert.rejects(
    report(worker.transport, bundle, "kite", "0".repeat(40)),
    isOrchestratorError("not_found"),
  );
});

test("a push says what the remote has, never forces, runs no hook, shows no password", async () => {
  const { worker, remote, clone } = await clonedWorker();
  await using _ = worker;
  await writeFile(join(clone, ".git/hooks/pre-push"), '#!/bin/sh\ntouch "$HOME/canary"\n', {
    mode: 0o755,
  });
  const first = await push(worker.transport, bundle, "kite", "orchestrator/run-1");
  assert.deepEqual(first, { kind: "pushed", sha: await worker.git("rev-parse", "HEAD") });
  assert.equal(
    await remote.git("rev-parse", "orchestrator/run-1"),
    await worker.git("rev-parse", "HEAD"),
  );
  await assert.rejects(worker.read("canary"));

  const theirs = await remote
    .commit("Theirs", { "their.txt": "x" }, "orchestrator/run-1")
    .catch(() => null);
  assert.ok(theirs !== null);
  await worker.git("commit", "--quiet", "--allow-empty", "--message=Ours");
  const refused = await push(worker.transport, bundle, "kite", "orchestrator/run-1");
  assert.equal(refused.kind, "failed");
  assert.equal(await remote.git("rev-parse", "orchestrator/run-1"), theirs);

  await writeFile(
    join(remote.url, "hooks/pre-receive"),
    "#!/bin/sh\necho see https://user:pa55word@example.invalid\nexit 1\n",
    {
      mode: 0o755,
    },
  );
  await worker.git("fetch", "--quiet", "origin");
  await worker.git("reset", "--quiet", "--hard", theirs);
  await worker.git("commit", "--quiet", "--allow-empty", "--message=Again");
  const hooked = await push(worker.transport, bundle, "kite", "orchestrator/run-1");
  assert.match(JSON.stringify(hooked), /see https:\/\/example\.invalid/);

  assert.deepEqual(await push(worker.transport, bundle, "kite", "none"), {
    kind: "failed",
    why: "there is no branch none",
  });
  await worker.git("remote", "set-url", "origin", "https://user:pa55word@127.0.0.1:1/x.git");
  const closed = await push(worker.transport, bundle, "kite", "orchestrator/run-1");
  assert.equal(closed.kind, "failed");
  assert.ok(!JSON.stringify(closed).includes("pa55word"), JSON.stringify(closed));
});

test("without a clone there is no fingerprint, and without snapshots no bundle", async () => {
  await using worker = await makeWorker();
  assert.equal(await fingerprint(worker.transport, bundle, "kite"), null);
  const stream = await bundleRefs(worker.transport, bundle, {
    repo: "kite",
    prefix: "refs/orchestrator/run-1",
    have: [],
  });
  const chunks = await Array.fromAsync(stream.bytes);
  assert.deepEqual(chunks, []);
  assert.equal((await stream.result).code, 66);
});

test("a bundle that breaks off throws instead of ending", async () => {
  const { worker } = await clonedWorker();
  await using _ = worker;
  assert.equal((await worker.script("save", bundle.hash, "1", "run-1", "1", "kite")).code, 0);
  await worker.transport.exec(["sh", "-c", "rm -rf kite/.git/objects && mkdir kite/.git/objects"]);
  await assert.rejects(async () => {
    const stream = await bundleRefs(worker.transport, bundle, {
      repo: "kite",
      prefix: "refs/orchestrator/run-1",
      have: [],
    });
    await Array.fromAsync(stream.bytes);
  }, isOrchestratorError("internal"));
});
