import assert from "node:assert/strict";
import { chmod, lstat, mkdir, readdir, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { readJson, readTail, writeJson } from "../../src/provisioner/files.ts";
import { isOrchestratorError } from "../support/errors.ts";
import { makeWorker } from "../support/provision-rig.ts";

test("a JSON file is written when absent, read, and replaced only by who knows its content", async () => {
  await using worker = await makeWorker();
  const { transport } = worker;
  assert.equal(await readJson(transport, ".agent/config.json"), null);
  assert.equal(await writeJson(transport, ".agent/config.json", { a: "ü" }, null), true);
  assert.equal(
    await writeJson(transport, ".agent/config.json", { b: 1 }, null),
    false,
    "it is not absent any more",
  );
  const read = await readJson(transport, ".agent/config.json");
  assert.deepEqual(read?.value, { a: "ü" });
  await writeFile(join(worker.home, ".agent/config.json"), '{"a": "changed by the agent"}');
  assert.equal(
    await writeJson(transport, ".agent/config.json", { b: 1 }, read?.hash ?? null),
    false,
  );
  const again = await readJson(transport, ".agent/config.json");
  assert.equal(
    await writeJson(transport, ".agent/config.json", { b: 1 }, again?.hash ?? null),
    true,
  );
  assert.deepEqual((await readJson(transport, ".agent/config.json"))?.value, { b: 1 });
  assert.deepEqual(await readdir(join(worker.home, ".agent")), ["config.json"]);
});

test("a new file is private; mode and link of one that exists stay", async () => {
  await using worker = await makeWorker();
  const { transport, home } = worker;
  await writeJson(transport, "new.json", {}, null);
  assert.equal((await stat(join(home, "new.json"))).mode & 0o777, 0o600);
  await mkdir(join(home, "real"));
  await writeFile(join(home, "real/it.json"), "{}");
  await chmod(join(home, "real/it.json"), 0o640);
  await symlink("real/it.json", join(home, "link.json"));
  const read = await readJson(transport, "link.json");
  assert.equal(await writeJson(transport, "link.json", { a: 1 }, read?.hash ?? null), true);
  assert.ok((await lstat(join(home, "link.json"))).isSymbolicLink());
  assert.equal(await worker.read("real/it.json"), '{\n  "a": 1\n}\n');
  assert.equal((await stat(join(home, "real/it.json"))).mode & 0o777, 0o640);
});

test("of many writers who know the same content, one wins", async () => {
  await using worker = await makeWorker();
  await writeJson(worker.transport, "a.json", { n: 0 }, null);
  const read = await readJson(worker.transport, "a.json");
  const wins = await Promise.all(
    Array.from({ length: 8 }, (_, n) =>
      writeJson(worker.transport, "a.json", { n: n + 1 }, read?.hash ?? null),
    ),
  );
  assert.equal(wins.filter(Boolean).length, 1);
});

test("what is no JSON, or no path below the home, is refused", async () => {
  await using worker = await makeWorker();
  await worker.write("broken.json", "{");
  await assert.rejects(
    readJson(worker.transport, "broken.json"),
    isOrchestratorError("invalid_input"),
  );
  for (const path of ["/etc/passwd", "../x", "a/../../x", "", "a//b"]) {
    await assert.rejects(
      readJson(worker.transport, path),
      isOrchestratorError("invalid_input"),
      path,
    );
    await assert.rejects(
      writeJson(worker.transport, path, {}, null),
      isOrchestratorError("invalid_input"),
      path,
    );
  }
});

test("the tail of a file is at most so many bytes, and null when there is none", async () => {
  await using worker = await makeWorker();
  await worker.write("log", `${"x".repeat(5_000)}end ü`);
  assert.equal(await readTail(worker.transport, join(worker.home, "log"), 6), "end ü");
  assert.equal(await readTail(worker.transport, join(worker.home, "log"), 1), "");
  assert.equal(
    (await readTail(worker.transport, join(worker.home, "log"), 100_000))?.length,
    5_005,
  );
  assert.equal(await readTail(worker.transport, join(worker.home, "none"), 6), null);
});
