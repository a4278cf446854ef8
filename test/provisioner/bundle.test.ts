import assert from "node:assert/strict";
import { mkdir, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import {
  execWorker,
  installBundle,
  loadBundle,
  needsInstall,
} from "../../src/provisioner/bundle.ts";
import { isOrchestratorError } from "../support/errors.ts";
import { bundle, makeWorker, type TestWorker } from "../support/provision-rig.ts";

async function otherBundle(worker: TestWorker, text: string) {
  const folder = join(worker.folder, `scripts-${text}`);
  await mkdir(folder);
  await writeFile(join(folder, "say"), `#!/bin/sh\necho ${text}\n`);
  await writeFile(join(folder, ".hidden"), "no script");
  return loadBundle(folder);
}

const bundles = async (worker: TestWorker) =>
  (await readdir(join(worker.home, ".orchestrator/bundles")))
    .filter((name) => name !== ".lock")
    .sort();

test("the same scripts give the same hash, and any change another one", async () => {
  await using worker = await makeWorker();
  const one = await otherBundle(worker, "one");
  assert.equal(loadBundle(join(worker.folder, "scripts-one")).hash, one.hash);
  await writeFile(join(worker.folder, "scripts-one/say"), "#!/bin/sh\necho One\n");
  assert.notEqual(loadBundle(join(worker.folder, "scripts-one")).hash, one.hash);
});

test("an installed bundle is whole, private, and what `bin` points to", async () => {
  await using worker = await makeWorker();
  const home = join(worker.home, ".orchestrator");
  assert.equal(await readlink(join(home, "bin")), `bundles/${bundle.hash}`);
  assert.equal(await worker.read(".orchestrator/bin/VERSION"), `${bundle.hash}\n`);
  const modes = await worker.transport.exec([
    "stat",
    "-c",
    "%a",
    ".orchestrator",
    ".orchestrator/bundles",
  ]);
  assert.equal(modes.stdout, "700\n700\n");
  const source = await readFile(join(import.meta.dirname, "../../provision/worker/job"), "utf8");
  assert.equal(await worker.read(".orchestrator/bin/job"), source);
});

test("a script is installed where it is missing, and where another bundle stands in its place", async () => {
  await using worker = await makeWorker();
  await rm(join(worker.home, ".orchestrator"), { recursive: true });
  const absent = await execWorker(worker.transport, bundle, "fingerprint", ["kite"]);
  assert.equal(absent.code, 66);
  await installBundle(worker.transport, await otherBundle(worker, "two"));
  const result = await worker.job(["owner"]);
  assert.equal(result.code, 0);
  assert.equal(await worker.read(".orchestrator/bin/VERSION"), `${bundle.hash}\n`);
});

test("many installs at once leave one whole bundle", async () => {
  await using worker = await makeWorker();
  const other = await otherBundle(worker, "three");
  await rm(join(worker.home, ".orchestrator"), { recursive: true });
  await Promise.all(
    Array.from({ length: 8 }, (_, index) =>
      installBundle(worker.connect(), index % 2 === 0 ? bundle : other),
    ),
  );
  assert.deepEqual(await bundles(worker), [bundle.hash, other.hash].sort());
  await installBundle(worker.transport, bundle);
  assert.equal((await worker.job(["owner"])).code, 0);
});

test("a bundle that a crash left damaged is replaced, an archive that was cut is not installed", async () => {
  await using worker = await makeWorker();
  await worker.write(".orchestrator/bin/job", "");
  await installBundle(worker.transport, bundle);
  assert.equal((await worker.job(["owner"])).code, 0);
  const other = await otherBundle(worker, "four");
  for (const length of [0, 700, other.archive.length - 2_000]) {
    const cut = { hash: other.hash, archive: other.archive.slice(0, length) };
    await assert.rejects(installBundle(worker.transport, cut), isOrchestratorError("internal"));
  }
  assert.equal(await readlink(join(worker.home, ".orchestrator/bin")), `bundles/${bundle.hash}`);
  assert.ok(!(await bundles(worker)).includes(other.hash));
});

test("only the codes for an absent or another bundle ask for an install", () => {
  assert.deepEqual([0, 1, 64, 66, 70, 75, 78, 126, 127, null].filter(needsInstall), [78, 127]);
});
