import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { OrchestratorError } from "../../src/domain/errors.ts";
import { openStore, type OpenOptions } from "../../src/store/open.ts";
import type { Store } from "../../src/store/store.ts";
import { taskRow } from "./rows.ts";

/** A folder of this test's own, gone when it ends. */
export function tempFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "store-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function open(path: string, over: Partial<OpenOptions> = {}): Promise<Store> {
  return openStore({ path, clock: systemClock(), ids: randomIds(), ...over });
}

/** Adds a task and its event: what a mutation of the product looks like. */
export function addTask(store: Store, id: string): Promise<unknown> {
  const row = taskRow(id);
  return store.mutate(async (tx) => {
    await tx.db.insertInto("tasks").values(row).execute();
    tx.event({ kind: "task.opened", repo: "kite", task_id: row.task_id, payload: { id } });
  });
}

/** For assert.rejects: an OrchestratorError of this code whose message matches. */
export function failure(code: string, message: RegExp = /./): (error: unknown) => boolean {
  return (error) =>
    error instanceof OrchestratorError && error.code === code && message.test(error.message);
}
