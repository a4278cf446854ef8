import assert from "node:assert/strict";
import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { backupStore, restoreStore } from "../../src/store/backup.ts";
import { verifyChain } from "../../src/store/chain.ts";
import { readMark } from "../../src/store/mark.ts";
import { addTask, failure, open, tempFolder } from "./rig.ts";

const restore = (path: string, backup: string) =>
  restoreStore({ path, backup, clock: systemClock(), ids: randomIds() });

test("a backup of a store in use is restored after the store was lost, in the next generation", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  const store = await open(path);
  await addTask(store, "t-1");
  await addTask(store, "t-2");
  const backup = backupStore(path, systemClock());
  await addTask(store, "t-3");
  await store.close();
  truncateSync(path, 0);
  await assert.rejects(open(path), failure("unhealthy"));

  const restored = await restore(path, backup);
  t.after(() => restored.close());
  assert.equal(restored.fleetId, store.fleetId);
  assert.deepEqual(
    (await restored.readEvents(0)).map(({ kind }) => kind),
    ["task.opened", "task.opened", "store.restored"],
  );
  const [event] = await restored.readEvents(2);
  assert.equal(event?.payload["generation"], 2);
  const meta = await restored.db
    .selectFrom("meta")
    .selectAll()
    .where("key", "=", "generation")
    .execute();
  assert.equal(meta[0]?.value, "2");
  assert.equal((await verifyChain(restored.db)).kind, "whole");
  assert.equal(readMark(path)?.seq, 3);
  await addTask(restored, "t-4");
  const aside = readdirSync(dirname(path)).filter((name) => name.includes(".aside-"));
  assert.equal(aside.length, 2, "the damaged file and its mark are kept");
});

test("a process that still has the lost store open is refused after a restore", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  const old = await open(path);
  t.after(() => old.close());
  await addTask(old, "t-1");
  const restored = await restore(path, backupStore(path, systemClock()));
  t.after(() => restored.close());
  await assert.rejects(addTask(old, "t-2"), failure("unhealthy", /replaced/));
  await addTask(restored, "t-2");
  assert.equal(await restored.lastSeq(), 3);
});

test("a damaged or foreign backup is refused before anything is moved", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  const store = await open(path);
  for (let n = 0; n < 5; n += 1) await addTask(store, `t-${n}`);
  const backup = backupStore(path, systemClock());
  await store.close();
  const before = readFileSync(path);
  const altered = new DatabaseSync(backup);
  altered.exec("delete from events where seq = 3");
  altered.close();
  await assert.rejects(restore(path, backup), failure("unhealthy", /events 3 to 3 are missing/));
  writeFileSync(backup, "garbage".repeat(2_000));
  await assert.rejects(restore(path, backup), failure("unhealthy", /not a SQLite database/));
  renameSync(backup, `${backup}.gone`);
  await assert.rejects(restore(path, backup), failure("unhealthy", /could not be opened/));
  assert.deepEqual(readFileSync(path), before);
  assert.equal(existsSync(backup), false);
  await (await open(path)).close();
});
