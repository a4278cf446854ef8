import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { reserveWorker, noteWorker } from "../../src/fleet/workers.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { openStore } from "../../src/store/open.ts";

test("that a worker cannot be reached any more, or can be again, is an event each time it changes", async () => {
  const folder = await mkdtemp(join(tmpdir(), "nw-"));
  const ids = randomIds();
  const store = await openStore({ path: join(folder, "c.db"), clock: systemClock(), ids });
  try {
    const { value: worker } = await store.mutate((tx) =>
      reserveWorker(tx, ids, { repo: "kite", number: 1, provider: "local", runId: null }),
    );
    for (const state of [
      "running",
      "unreachable",
      "unreachable",
      "cold",
      "running",
      "gone",
    ] as const) {
      await store.mutate((tx) => noteWorker(tx, worker.worker_id, { provider_state: state }), {
        quiet: true,
      });
    }
    const events = await store.readEvents(0, { filter: { worker_id: worker.worker_id } });
    assert.deepEqual(
      events.map(({ kind, payload }) => [kind, payload["worker"]]),
      [
        ["worker.creating", "kite-1"],
        ["worker.unreachable", "kite-1"],
        ["worker.reachable", "kite-1"],
      ],
    );
  } finally {
    await store.close();
    await rm(folder, { recursive: true, force: true });
  }
});
