import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { systemClock } from "../../src/platform/clock.ts";
import { findProcesses } from "../../src/providers/local/processes.ts";
import { localWorkers } from "../support/local-workers.ts";

/** A controller that makes, dials and destroys one worker over and over, saying where it is. */
const controller = (root: string, publicKey: string) => `
  import { localWorkers } from ${JSON.stringify(join(import.meta.dirname, "../support/local-workers.ts"))};
  const { provider } = await localWorkers({ root: ${JSON.stringify(root)} });
  const authorizedKey = ${JSON.stringify(publicKey)};
  process.stdout.write("begun\\n");
  for (let round = 0; ; round += 1) {
    const made = await provider.create({ name: "kite-1", fleetId: "f", nonce: "n" + round, authorizedKey });
    process.stdout.write(made.id + "\\n");
    await provider.dial(made.id);
    await provider.destroy(made.id);
  }
`;

test("a controller killed at any moment leaves nothing, or what list shows and destroy removes", async () => {
  const clock = systemClock();
  for (let round = 0; round < 5; round += 1) {
    await using workers = await localWorkers();
    const program = controller(workers.root, workers.keys.publicKey);
    const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let printed = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (printed += text));
    await once(child.stdout, "data");
    // Where in its round the controller is hit differs from run to run; what is checked holds for every moment.
    await clock.sleep(round * 30);
    const over = once(child, "close");
    child.kill("SIGKILL");
    await over;

    const left = await workers.provider.list("");
    for (const worker of left) {
      assert.equal(worker.name, "kite-1");
      assert.ok(worker.nonce !== null && worker.state !== "unreachable", "it is whole");
      await workers.provider.dial(worker.id);
      await workers.provider.destroy(worker.id);
    }
    await workers.provider.destroy("never-was");
    assert.deepEqual(await readdir(workers.root), []);
    for (const id of printed.split("\n").filter((line) => line.startsWith("local-"))) {
      assert.deepEqual(await findProcesses(id, []), [], "no program is left");
    }
  }
});
