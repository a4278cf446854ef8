import assert from "node:assert/strict";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { withFileLock } from "../../src/config/file-lock.ts";
import { effects, errorOf, runChild, temporaryFolder } from "./support.ts";

test("of many that want the lock one has it at a time, and all get it", async (t) => {
  const path = join(await temporaryFolder(t), "file");
  let inside = 0;
  let most = 0;
  const turn = () =>
    withFileLock(path, effects, async () => {
      inside += 1;
      most = Math.max(most, inside);
      await writeFile(path, "x");
      inside -= 1;
    });
  await Promise.all(Array.from({ length: 30 }, turn));
  assert.equal(most, 1);
  assert.deepEqual(await readdir(`${path}.lock`), []);
});

test("the lock is free after an action that fails", async (t) => {
  const path = join(await temporaryFolder(t), "file");
  const failing = withFileLock(path, effects, () => Promise.reject(new Error("no")));
  await assert.rejects(failing, /^Error: no$/);
  assert.equal(await withFileLock(path, effects, async () => 7), 7);
});

test("a living holder is waited for until the deadline, a killed one is passed over", async (t) => {
  const path = join(await temporaryFolder(t), "file");
  const held = Promise.withResolvers<number>();
  const child = runChild("hold-lock-child.ts", [path], (_, pid) => held.resolve(pid));
  t.after(() => {
    if (child.pid > 0) process.kill(child.pid, "SIGKILL");
  });
  const pid = await held.promise;
  const error = await errorOf(() => withFileLock(path, effects, async () => {}, 50));
  assert.equal(error.message, `${path} is being changed by process ${pid}`);
  assert.equal(error.retryable, true);
  process.kill(pid, "SIGKILL");
  assert.equal(await child.ended, "SIGKILL");
  Object.assign(child, { pid: 0 });
  assert.equal(await withFileLock(path, effects, async () => "got it", 5_000), "got it");
});

test("a claim of a process id that was given to another process is dead", async (t) => {
  const path = join(await temporaryFolder(t), "file");
  let own = "";
  await withFileLock(path, effects, async () => {
    own = (await readdir(`${path}.lock`))[0] ?? "";
  });
  const [at, scope, pid, start] = own.split("-");
  assert.equal(pid, String(process.pid));
  const other = [`${"0".repeat(14)}1`, scope, pid, Number(start) + 1, "ab"].join("-");
  await writeFile(join(`${path}.lock`, other), "");
  assert.equal(await withFileLock(path, effects, async () => 7, 1_000), 7);
  const foreign = [at, "00000000", pid, start, "ab"].join("-");
  await writeFile(join(`${path}.lock`, foreign), "");
  await errorOf(() => withFileLock(path, effects, async () => 7, 50));
  const later = {
    ...effects,
    clock: { ...effects.clock, now: () => effects.clock.now() + 61_000 },
  };
  assert.equal(await withFileLock(path, later, async () => 7, 1_000), 7);
});
