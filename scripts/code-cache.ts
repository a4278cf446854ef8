import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/*
 * The compiled form of the fast file, as V8 keeps it: a start need not compile it again. It holds the functions that a
 * read command used. Another version of Node than the one that built it takes no notice of it.
 */

/** dist/orchestrator.cjs: runs the fast file beside it, with its compiled form if that fits. */
export const LAUNCHER = `#!/usr/bin/env node
"use strict";
const fs = require("node:fs");
const vm = require("node:vm");
const filename = __dirname + "/fast.js";
let cachedData;
try {
  cachedData = fs.readFileSync(__dirname + "/fast.cache");
} catch {}
const script = new vm.Script(fs.readFileSync(filename, "utf8"), { filename, cachedData });
script.runInThisContext()(require, module, exports, __dirname);
`;

/** The fast file becomes one function expression of what a CommonJS module is given. */
export const asFunction = (code: string): string =>
  `(function (require, module, exports, __dirname) {${code.replace(/^#!.*/, "")}\n})`;

/** Runs in a process of its own: the launcher's work, and at the end the compiled form is kept. */
const MAKER = `
const fs = require("node:fs");
const [, folder, ...words] = process.argv;
process.argv = [process.argv[0], folder + "/orchestrator.cjs", ...words];
const filename = folder + "/fast.js";
const script = new (require("node:vm").Script)(fs.readFileSync(filename, "utf8"), { filename });
process.on("exit", () => fs.writeFileSync(folder + "/fast.cache", script.createCachedData()));
script.runInThisContext()(require, module, exports, folder);
`;

/** An answer to `status`: of each view what its table shows. */
const STATUS = {
  workers: [
    {
      worker: "kite-1",
      allocation: "claimed",
      provider_state: "running",
      provider_state_age_ms: 1,
      status: null,
    },
  ],
  runs: [
    {
      run_id: "run-1",
      state: "blocked",
      state_reason: "dialog",
      status: { status: "blocked", age_ms: 1 },
      created_at: 0,
      task: "é",
    },
  ],
  limits: [],
  paused: [],
};

/** Makes `fast.cache` in `folder` by running one read command against an answer of our own. */
export async function makeCodeCache(folder: string): Promise<void> {
  const home = await mkdtemp(join(tmpdir(), "oc-build-"));
  const own = join(home, "o");
  await mkdir(own);
  const server = createServer((socket) => {
    socket.on("data", () => socket.write(`${JSON.stringify({ id: 1, value: STATUS })}\n`));
    socket.on("error", () => {});
  });
  try {
    await new Promise<void>((resolve) => {
      server.listen(join(own, "controller.sock"), resolve);
    });
    const child = spawn(process.execPath, ["-e", MAKER, "--", folder, "status"], {
      env: { PATH: process.env["PATH"], HOME: home, ORCHESTRATOR_HOME: own },
      stdio: ["ignore", "ignore", "inherit"],
    });
    const code = await new Promise((resolve) => child.once("close", resolve));
    if (code !== 0) throw new Error(`the built program failed with ${String(code)}`);
  } finally {
    server.close();
    await rm(home, { recursive: true, force: true });
  }
}
