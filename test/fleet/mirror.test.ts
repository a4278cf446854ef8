import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Mirror } from "../../src/fleet/mirror.ts";

test("many that need a mirror at once get one, whole", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "mirror-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (let round = 0; round < 5; round += 1) {
    const mirrors = join(folder, String(round), "mirrors");
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        const mirror = new Mirror(mirrors, "kite");
        await mirror.ensure();
        assert.deepEqual(await mirror.tips(), []);
      }),
    );
    assert.deepEqual(readdirSync(mirrors), ["kite.git"], "nothing half-made is left");
  }
});

test("a mirror that git cannot make says why, and leaves nothing", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "mirror-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, "kite.git"), "in the way");
  await assert.rejects(new Mirror(folder, "kite").ensure(), /ENOTDIR|not a directory/i);
  assert.deepEqual(readdirSync(folder), ["kite.git"]);
});
