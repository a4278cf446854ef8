import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { build } from "esbuild";
import { verifyChain } from "../../src/store/chain.ts";
import { readMark } from "../../src/store/mark.ts";
import type { Store } from "../../src/store/store.ts";
import { until } from "../support/wait.ts";
import { addTask, open, tempFolder } from "./rig.ts";

interface Writer {
  readonly process: ChildProcess;
  readonly name: string;
  readonly fleets: readonly string[];
  /** Acknowledged mutations per store, so far. */
  readonly acknowledged: number[];
  longestMs: number;
  /** Resolves when the process is gone and all it said was read. */
  readonly over: Promise<unknown>;
}

/** The writer in one file, because loading many modules is most of the life of a process that is soon killed. */
const bundleFolder = mkdtempSync(join(tmpdir(), "store-writer-"));
const bundle = join(bundleFolder, "writer.mjs");
before(() =>
  build({
    entryPoints: [join(import.meta.dirname, "children", "writer.ts")],
    outfile: bundle,
    bundle: true,
    platform: "node",
    format: "esm",
    logLevel: "error",
  }),
);
after(() => rmSync(bundleFolder, { recursive: true }));

/** Starts a writer and waits until it has its stores open; `go` lets it write. */
async function startWriter(
  t: TestContext,
  name: string,
  paths: readonly string[],
): Promise<Writer> {
  const child = spawn(process.execPath, [bundle, name, ...paths], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  child.stdin.on("error", () => {});
  const writer = {
    process: child,
    name,
    fleets: [] as string[],
    acknowledged: paths.map(() => 0),
    longestMs: 0,
    over: once(child, "close"),
  };
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [what = "", ...values] = line.split(" ");
      if (what === "ready") writer.fleets.push(...values);
      else if (what === "longest") writer.longestMs = Number(values[0]);
      else writer.acknowledged[Number(what)] = Number(values[0]) + 1;
    }
  });
  await until(() => writer.fleets.length > 0 || child.exitCode !== null, {
    what: `${name} to open`,
  });
  assert.equal(child.exitCode, null, `${name} ended early`);
  return writer;
}

const go = (writer: Writer) => writer.process.stdin?.write("go\n");
const end = (writer: Writer) => writer.process.stdin?.end();

/** Rows, events, revision and mark tell the same story, and every task of the log is there. */
async function assertConsistent(store: Store): Promise<Map<string, number>> {
  const report = await verifyChain(store.db);
  assert.equal(report.kind, "whole");
  const seq = await store.lastSeq();
  assert.equal(await store.revision(), seq);
  assert.equal(readMark(store.path)?.seq, seq);
  const tasks = await store.db.selectFrom("tasks").select("task_id").execute();
  const events = await store.readEvents(0, { limit: seq + 1 });
  assert.equal(events.length, tasks.length);
  const known = new Set<unknown>(tasks.map(({ task_id }) => task_id));
  assert.ok(events.every(({ task_id }) => known.has(task_id)));
  const perWriter = new Map<string, number>();
  for (const { payload } of events) {
    const [, writer = "", n] = /^(.*)-(\d+)$/.exec(String(payload["id"])) ?? [];
    const before = perWriter.get(writer) ?? 0;
    assert.equal(Number(n), before, `${writer} in its own order, without a gap`);
    perWriter.set(writer, before + 1);
  }
  return perWriter;
}

test("processes that make a store at once share one; none loses a write or starves", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  const names = ["a", "b", "c", "d"];
  const writers = await Promise.all(names.map((name) => startWriter(t, name, [path])));
  assert.equal(new Set(writers.flatMap(({ fleets }) => fleets)).size, 1);
  writers.forEach(go);
  await until(() => writers.every(({ acknowledged }) => (acknowledged[0] ?? 0) >= 100), {
    timeoutMs: 60_000,
    what: "each of four processes to commit 100 mutations",
  });
  writers.forEach(end);
  await Promise.all(writers.map(({ over }) => over));
  const counts = writers.map(({ acknowledged }) => acknowledged[0] ?? 0);
  const longest = Math.max(...writers.map(({ longestMs }) => longestMs));
  t.diagnostic(`${counts.join(", ")} mutations, longest wait ${longest} ms`);
  const store = await open(path);
  t.after(() => store.close());
  const stored = await assertConsistent(store);
  assert.deepEqual(
    names.map((name) => stored.get(name)),
    counts,
  );
  assert.ok(Math.min(...counts) * 10 > Math.max(...counts), `nobody starves: ${counts.join(", ")}`);
  assert.ok(longest < 5_000, `longest wait ${longest} ms`);
});

/** Every kill takes a process that writes to eight stores, each at another point of its commit. */
const STORES = 8;
const CRASH_POINTS = Number(process.env["STORE_CRASH_POINTS"] ?? 120);

test(`${CRASH_POINTS} kills in the middle of writing lose no acknowledged mutation`, async (t) => {
  const folder = tempFolder(t);
  const paths = Array.from({ length: STORES }, (_, index) => join(folder, `${index}.db`));
  const acknowledged = paths.map(() => new Map<string, number>());
  for (let round = 0; round * STORES < CRASH_POINTS; round += 1) {
    const writer = await startWriter(t, `round${round}`, paths);
    go(writer);
    await until(() => writer.acknowledged.every((count) => count > 0), { what: "first writes" });
    await delay(Math.random() * 25);
    writer.process.kill("SIGKILL");
    await writer.over;
    for (const [index, count] of writer.acknowledged.entries()) {
      acknowledged[index]?.set(writer.name, count);
    }
  }
  let total = 0;
  for (const [index, path] of paths.entries()) {
    const store = await open(path);
    const stored = await assertConsistent(store);
    for (const [name, count] of acknowledged[index] ?? []) {
      const found = stored.get(name) ?? 0;
      // One mutation may have been committed and not yet acknowledged.
      assert.ok(
        found === count || found === count + 1,
        `${name}: ${count} acknowledged, ${found} stored`,
      );
      total += count;
    }
    await addTask(store, "after-0");
    await store.close();
  }
  t.diagnostic(`${total} acknowledged mutations, all stored`);
});

test("a stopped process that holds the lock blocks writers, not readers nor the event loop", async (t) => {
  const path = join(tempFolder(t), "coordination.db");
  const store = await open(path);
  await addTask(store, "first-0");
  const script = `
    const { DatabaseSync } = require("node:sqlite");
    const database = new DatabaseSync(process.argv[1]);
    database.exec("begin immediate");
    process.stdout.write("locked\\n");
    process.stdin.on("data", () => { database.exec("rollback"); database.close(); process.exit(0); });`;
  const stdio = ["pipe", "pipe", "inherit"] as const;
  const holder = spawn(process.execPath, ["-e", script, path], { stdio: [...stdio] });
  t.after(async () => {
    holder.kill("SIGKILL");
    await store.close();
  });
  await once(holder.stdout, "data");
  let done = false;
  const waiting = addTask(store, "second-0").then(() => (done = true));
  const started = performance.now();
  for (let turn = 0; turn < 20; turn += 1) {
    assert.equal(await store.lastSeq(), 1);
    await delay(1);
  }
  const elapsed = performance.now() - started;
  assert.ok(elapsed < 5_000, `20 turns of the loop took ${Math.round(elapsed)} ms`);
  assert.equal(done, false);
  holder.stdin.write("go\n");
  await waiting;
  assert.equal(await store.lastSeq(), 2);
});
