import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { verifyChain } from "../../src/store/chain.ts";
import { readMark } from "../../src/store/mark.ts";
import { failure, open } from "./rig.ts";
import { taskRow } from "./rows.ts";

test("a full disk loses nothing acknowledged, serves reads, and heals when there is room", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "store-"));
  t.after(() => {
    spawnSync("umount", ["-l", folder]);
    rmSync(folder, { recursive: true });
  });
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], {
    encoding: "utf8",
  });
  if (mounted.status !== 0) {
    t.skip(
      `no small disk can be mounted here: ${(mounted.stderr || String(mounted.error)).trim()}`,
    );
    return;
  }
  const path = join(folder, "coordination.db");
  const store = await open(path);
  const add = (id: string, bytes: number) =>
    store.mutate(async (tx) => {
      await tx.db
        .insertInto("tasks")
        .values(taskRow(id, { body: "x".repeat(bytes) }))
        .execute();
      tx.event({ kind: "task.opened", payload: { id } });
    });
  const acknowledged = new Set<string>();
  const ballast = join(folder, "ballast");
  writeFileSync(ballast, Buffer.alloc(600_000));
  const stored = async () => {
    const rows = await store.db.selectFrom("tasks").select("task_id").execute();
    return new Set<string>(rows.map(({ task_id }) => task_id));
  };

  /** Adds tasks with bodies of these sizes, all in one turn; counts the failures and checks their name. */
  const attempt = async (sizes: Readonly<Record<string, number>>) => {
    const asked = Object.entries(sizes);
    const outcomes = await Promise.allSettled(asked.map(([id, bytes]) => add(id, bytes)));
    let failures = 0;
    for (const [index, outcome] of outcomes.entries()) {
      if (outcome.status === "fulfilled") acknowledged.add(asked[index]?.[0] ?? "");
      else {
        failures += 1;
        const named = failure("unhealthy", /no room left|input or output/);
        assert.ok(named(outcome.reason), String(outcome.reason));
        assert.equal(outcome.reason.retryable, true);
      }
    }
    return failures;
  };

  let failures = 0;
  for (let n = 0; failures < 3; n += 1) {
    failures += await attempt({ [`a-${n}`]: 500, [`b-${n}`]: 60_000, [`c-${n}`]: 500 });
  }
  assert.ok(acknowledged.size > 5);
  assert.deepEqual(await stored(), acknowledged);
  assert.equal((await verifyChain(store.db)).kind, "whole");

  rmSync(ballast);
  await attempt({ healed: 1_000 });
  assert.ok(acknowledged.has("healed"));
  // More than SQLite keeps in memory, so that the disk is met in the middle of the shared transaction.
  await attempt({ early: 500, huge: 4_000_000, late: 500 });
  assert.equal(acknowledged.has("huge"), false);
  await attempt({ healed_again: 1_000 });
  assert.ok(acknowledged.has("healed_again"));
  assert.deepEqual(await stored(), acknowledged);
  await store.close();

  const again = await open(path);
  t.after(() => again.close());
  assert.equal(await again.lastSeq(), acknowledged.size);
  assert.equal(await again.revision(), acknowledged.size);
  assert.equal(readMark(path)?.seq, acknowledged.size);
  assert.equal((await verifyChain(again.db)).kind, "whole");
});
