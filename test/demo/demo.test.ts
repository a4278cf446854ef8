import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

/** Without credentials in the environment the demo runs the shell runtime: the same path for everybody. */
test("the demo does the main job twice and takes everything down again", async () => {
  const child = spawn(process.execPath, [join(import.meta.dirname, "demo.ts")], {
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"] },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise((resolve) => child.once("close", resolve));
  assert.equal(code, 0, said);
  assert.match(said, /creating greeter-1/);
  assert.match(said, /delivered accepted, \d+ bytes exact/);
  assert.match(said, /^\+echo "Hello, \$\{1:-world\}!"$/m);
  assert.match(said, /orchestrator attach greeter-1/);
  assert.match(said, /greeter-1 is the only idle worker/);
  assert.match(said, /times as fast on the warm worker/);
  const place = /(\/\S*orchestrator-demo-[^/\s]+)\//.exec(said)?.[1];
  assert.ok(place !== undefined && !existsSync(place), `left behind: ${place}`);
});
