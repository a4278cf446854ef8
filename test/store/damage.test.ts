import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test, type TestContext } from "node:test";
import { randomIds } from "../../src/platform/ids.ts";
import { markPath, readMark } from "../../src/store/mark.ts";
import { verifyChain } from "../../src/store/chain.ts";
import { addTask, failure, open, tempFolder } from "./rig.ts";

const EVENTS = 30;

/** A closed store of 30 events: one database file and its mark. */
async function closedStore(t: TestContext): Promise<string> {
  const path = join(tempFolder(t), "coordination.db");
  const store = await open(path);
  for (let n = 0; n < EVENTS; n += 1) await addTask(store, `t-${n}`);
  await store.close();
  return path;
}

/** The files as a power cut leaves them: half of the events in the database, half in the write-ahead log. */
async function crashImage(t: TestContext): Promise<string> {
  const path = await closedStore(t);
  const image = join(tempFolder(t), "coordination.db");
  const store = await open(path);
  for (let n = 0; n < EVENTS; n += 1) await addTask(store, `u-${n}`);
  // By another process: to close these files in this one would drop its own locks on them.
  for (const end of ["", "-wal", ".hwm"]) execFileSync("cp", [`${path}${end}`, `${image}${end}`]);
  await store.close();
  return image;
}

function contents(path: string): Record<string, string> {
  const folder = join(path, "..");
  const names = readdirSync(folder).filter(
    (name) => !name.endsWith("-shm") && !name.endsWith("-wal"),
  );
  const hashOf = (name: string) =>
    createHash("sha256")
      .update(readFileSync(join(folder, name)))
      .digest("hex");
  return Object.fromEntries(names.map((name) => [name, hashOf(name)]));
}

/** Refused by name, twice alike, with nothing changed and no destructive word. */
async function assertRefused(path: string, message: RegExp): Promise<void> {
  const before = contents(path);
  for (const attempt of [1, 2]) {
    await assert.rejects(open(path), (error) => {
      assert.ok(failure("unhealthy", message)(error), `attempt ${attempt}: ${String(error)}`);
      assert.doesNotMatch(String((error as { hint?: string }).hint), /delete|remove|rm /i);
      return true;
    });
  }
  assert.deepEqual(contents(path), before);
}

test("a missing database is not made anew", async (t) => {
  const path = await closedStore(t);
  renameSync(path, `${path}.backup-v1-17`);
  await assertRefused(path, /is missing, and had 30 events/);
  assert.equal(existsSync(path), false);
  renameSync(`${path}.backup-v1-17`, path);
  await (await open(path)).close();
});

test("a missing database is not made anew while its write-ahead log is there", async (t) => {
  const path = await crashImage(t);
  rmSync(path);
  rmSync(markPath(path));
  await assertRefused(path, /write-ahead log is still there/);
});

test("an emptied database is refused", async (t) => {
  const path = await closedStore(t);
  truncateSync(path, 0);
  await assertRefused(path, /is empty, and had 30 events/);
});

test("a database without tables is refused", async (t) => {
  const path = await closedStore(t);
  rmSync(path);
  const database = new DatabaseSync(path);
  database.exec("pragma user_version = 1; vacuum");
  database.close();
  await assertRefused(path, /has no tables, and had 30 events/);
});

test("a cut database and a file of garbage are refused", async (t) => {
  const path = await closedStore(t);
  truncateSync(path, 8_192);
  await assertRefused(path, /damaged/);
  writeFileSync(path, "x".repeat(20_000));
  await assertRefused(path, /is not a SQLite database/);
});

test("a database of another program is refused and left alone", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  const database = new DatabaseSync(path);
  database.exec("create table notes (text text)");
  database.close();
  await assertRefused(path, /database of another program/);
});

test("another store in its place is refused", async (t) => {
  const [path, other] = [await closedStore(t), await closedStore(t)];
  copyFileSync(other, path);
  await assertRefused(path, /belongs to fleet/);
});

test("an older copy in its place is refused, and says which events are lost", async (t) => {
  const path = await closedStore(t);
  copyFileSync(path, `${path}.backup-v1-5`);
  const store = await open(path);
  for (let n = 0; n < 3; n += 1) await addTask(store, `v-${n}`);
  await store.close();
  copyFileSync(`${path}.backup-v1-5`, path);
  await assertRefused(path, /lost its events 31 to 33/);
  await assert.rejects(open(path), (error) =>
    /backup-v1-5/.test(String((error as { hint?: string }).hint)),
  );
});

test("a copy that went its own way is refused", async (t) => {
  const path = await closedStore(t);
  copyFileSync(path, `${path}.twin`);
  let store = await open(path);
  await addTask(store, "mine");
  await store.close();
  copyFileSync(markPath(path), `${path}.mark`);
  copyFileSync(`${path}.twin`, path);
  rmSync(markPath(path));
  store = await open(path);
  await addTask(store, "other");
  await addTask(store, "another");
  await store.close();
  copyFileSync(`${path}.mark`, markPath(path));
  rmSync(`${path}.mark`);
  await assertRefused(path, /event 31 of the store .* is not the one that was there/);
});

test("events cut off or altered within the file are refused", async (t) => {
  const alter = async (statement: string, message: RegExp) => {
    const path = await closedStore(t);
    const database = new DatabaseSync(path);
    database.exec(statement);
    database.close();
    await assertRefused(path, message);
  };
  await alter("delete from events where seq > 27", /lost its events 28 to 30/);
  await alter("delete from events", /lost its events 1 to 30/);
  await alter("delete from events where seq = 12", /events 12 to 12 are missing/);
  await alter("update events set kind = 'task.closed' where seq = 12", /event 12 was altered/);
  await alter("update events set payload = '{}' where seq = 30", /event 30 was altered/);
});

test("an altered event beyond the tail is found by the full check", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  let store = await open(path);
  await store.mutate(async (tx) => {
    for (let n = 0; n < 2_500; n += 1) tx.event({ kind: "load.made", payload: { n } });
  });
  await store.close();
  const database = new DatabaseSync(path);
  database.exec("update events set payload = '{\"n\":8}' where seq = 1007");
  database.close();
  store = await open(path);
  const report = await verifyChain(store.db);
  assert.deepEqual(report, { kind: "broken", seq: 1007, reason: "event 1007 was altered" });
  await store.close();
});

test("a power cut loses nothing", async (t) => {
  const path = await crashImage(t);
  const store = await open(path);
  assert.equal(await store.lastSeq(), 2 * EVENTS);
  await store.close();
});

test("a lost, zeroed or foreign write-ahead log is refused", async (t) => {
  const image = await crashImage(t);
  const damaged = async (damage: (log: string) => void) => {
    const path = join(tempFolder(t), "coordination.db");
    for (const end of ["", "-wal", ".hwm"]) copyFileSync(`${image}${end}`, `${path}${end}`);
    damage(`${path}-wal`);
    await assertRefused(path, /lost its events \d+ to 60/);
  };
  await damaged((log) => rmSync(log));
  await damaged((log) => truncateSync(log, 0));
  await damaged((log) => writeFileSync(log, Buffer.alloc(readFileSync(log).length)));
  await damaged((log) => writeFileSync(log, randomBytesLike(readFileSync(log))));
});

function randomBytesLike(content: Buffer): Buffer {
  return Buffer.from(Array.from(content, (_, index) => (index * 7_919) & 0xff));
}

test("whatever is cut or flipped, a store that opens has all its events", async (t) => {
  const image = await crashImage(t);
  const fraction = randomIds().fraction;
  const upTo = (limit: number) => Math.floor(fraction() * limit);
  const outcomes = { refused: 0, whole: 0 };
  const folder = tempFolder(t);
  for (let round = 0; round < 120; round += 1) {
    const path = join(folder, String(round), "coordination.db");
    mkdirSync(join(path, ".."));
    for (const end of ["", "-wal", ".hwm"]) copyFileSync(`${image}${end}`, `${path}${end}`);
    const target = `${path}${["", "-wal", ".hwm"][round % 3]}`;
    const content = readFileSync(target);
    const what = round % 2 ? `cut to ${upTo(content.length)}` : "flipped";
    if (round % 2) truncateSync(target, Number(what.split(" ")[2]));
    else {
      const start = upTo(content.length - 50);
      for (let index = start; index < start + 50; index += 1)
        content[index] = (content[index] ?? 0) ^ 0xff;
      writeFileSync(target, content);
    }
    const store = await open(path).catch((error: unknown) => {
      assert.ok(failure("unhealthy")(error), `${target} ${what}: ${String(error)}`);
    });
    outcomes[store ? "whole" : "refused"] += 1;
    if (store === undefined) continue;
    // Flipped bytes that no check reads at open (an index, a free page) are found when they are read: never silently fewer events.
    const seen = await verifyChain(store.db).catch(() => "an error");
    if (typeof seen === "object" && seen.kind === "whole") {
      assert.equal(seen.end.seq, 2 * EVENTS, `${target} ${what}`);
    }
    await store.close().catch(() => {});
  }
  t.diagnostic(`${outcomes.refused} refused, ${outcomes.whole} opened whole`);
  assert.ok(outcomes.refused > 10 && outcomes.whole > 10);
});

test("a damaged mark is refused; a missing one is made again and said", async (t) => {
  const path = await closedStore(t);
  const mark = readFileSync(markPath(path));
  writeFileSync(markPath(path), "");
  await assertRefused(path, /high-water mark .* is damaged/);
  rmSync(markPath(path));
  const warnings: string[] = [];
  const logger = { info() {}, warn: (event: string) => void warnings.push(event), error() {} };
  await (await open(path, { logger })).close();
  assert.deepEqual(warnings, ["store mark was missing"]);
  assert.equal(readMark(path)?.seq, EVENTS);
  // One torn or altered slot leaves the other.
  const slots = [mark.subarray(0, 512), mark.subarray(512)].map((slot) => slot.toString());
  const [older, newer] = slots.sort((x, y) => seqIn(x) - seqIn(y));
  const forged = newer?.replace(`"seq":${EVENTS},`, `"seq":${EVENTS + 9},`);
  for (const bad of [forged, newer?.slice(0, 100).padEnd(512), ""]) {
    writeFileSync(markPath(path), `${bad}${older}`);
    assert.equal(readMark(path)?.seq, EVENTS - 1);
  }
});

function seqIn(slot: string): number {
  return Number(/"seq":(\d+)/.exec(slot)?.[1]);
}

test("a store that is removed or replaced while open takes no more mutations", async (t) => {
  const path = await closedStore(t);
  const store = await open(path);
  t.after(() => store.close());
  renameSync(path, `${path}.aside`);
  await assert.rejects(addTask(store, "t-x"), failure("unhealthy", /removed or replaced/));
  copyFileSync(`${path}.aside`, path);
  await assert.rejects(addTask(store, "t-x"), failure("unhealthy", /removed or replaced/));
  rmSync(path);
  renameSync(`${path}.aside`, path);
  await addTask(store, "t-x");
});
