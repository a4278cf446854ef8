import assert from "node:assert/strict";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { MIGRATIONS, type Migration } from "../../src/store/migrations/migrations.ts";
import { sql } from "../../src/store/sql.ts";
import { addTask, failure, open, tempFolder } from "./rig.ts";

const NEXT = MIGRATIONS.length + 1;
const second: Migration = {
  number: NEXT,
  name: "labels",
  sqlite: "alter table tasks add column label text",
};
const newer = [...MIGRATIONS, second];

test("numbers of migrations rise by one", () => {
  assert.deepEqual(
    MIGRATIONS.map(({ number }) => number),
    MIGRATIONS.map((_, index) => index + 1),
  );
});

test("an older store is backed up whole, then migrated; a second open does neither", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  const old = await open(path);
  for (let n = 0; n < 5; n += 1) await addTask(old, `t-${n}`);
  await old.close();
  for (const attempt of [1, 2]) {
    const store = await open(path, { migrations: newer });
    assert.equal(store.fleetId, old.fleetId);
    await sql`select label from tasks`.execute(store.db);
    await addTask(store, `u-${attempt}`);
    await store.close();
  }
  const backups = readdirSync(join(path, "..")).filter((name) => name.includes(".backup-"));
  assert.equal(backups.length, 1);
  assert.match(backups[0] ?? "", new RegExp(`^coordination\\.db\\.backup-v${NEXT - 1}-\\d+$`));
  const backup = join(path, "..", backups[0] ?? "");
  assert.equal(statSync(backup).mode & 0o777, 0o600);
  const restored = await open(backup);
  assert.equal(await restored.lastSeq(), 5);
  assert.equal(restored.fleetId, old.fleetId);
  await restored.close();
});

test("a new store is made without a backup", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  await (await open(path)).close();
  assert.deepEqual(readdirSync(join(path, "..")).sort(), [
    "coordination.db",
    "coordination.db.hwm",
  ]);
});

test("a newer store is refused by name and left as it is", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  await (await open(path, { migrations: newer })).close();
  await assert.rejects(
    open(path),
    failure("unhealthy", new RegExp(`has schema ${NEXT}.*up to ${NEXT - 1}`)),
  );
  const store = await open(path, { migrations: newer });
  await addTask(store, "t-1");
  await store.close();
});

test("a process that runs on takes no mutations once a newer one has migrated", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  const old = await open(path);
  t.after(() => old.close());
  await addTask(old, "t-1");
  const fresh = await open(path, { migrations: newer });
  t.after(() => fresh.close());
  await assert.rejects(addTask(old, "t-2"), failure("unhealthy", /has schema/));
  await addTask(fresh, "t-2");
  assert.equal(await old.lastSeq(), 2);
});

test("a migration that fails leaves the old schema, and the backup", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  const old = await open(path);
  await addTask(old, "t-1");
  await old.close();
  const failing = { ...second, sqlite: `${second.sqlite}; alter table nowhere add column x text` };
  await assert.rejects(open(path, { migrations: [...MIGRATIONS, failing] }), /nowhere/);
  const store = await open(path);
  assert.equal(await store.lastSeq(), 1);
  await assert.rejects(sql`select label from tasks`.execute(store.db), /label/);
  await store.close();
});

test("many that open an older store at once migrate it once", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  const old = await open(path);
  await addTask(old, "t-1");
  await old.close();
  const stores = await Promise.all(
    Array.from({ length: 5 }, () => open(path, { migrations: newer })),
  );
  await Promise.all(stores.map((store, index) => addTask(store, `u-${index}`)));
  await Promise.all(stores.map((store) => store.close()));
  const backups = readdirSync(join(path, "..")).filter((name) => name.includes(".backup-"));
  assert.equal(backups.length, 1);
});
