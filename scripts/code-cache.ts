import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/*
 * The compiled form of the fast file, as V8 keeps it: a start need not compile it again. It holds the functions that
 * the most frequent commands use. Another version of Node than the one that built it takes no notice of it.
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

/** The command lines that must start fast: what they run is kept compiled. */
const COMMANDS = [
  ["status"],
  ["run", "list"],
  ["--repo", "kite", "--command", "x"],
  ["--repo", "kite", "--command", "x", "--json"],
] as const;

/**
 * Runs in a process of its own: the launcher's work, once for each command line, and at the end the compiled form is kept. The program
 * ends its process when it is done; here that begins the next command.
 */
const MAKER = `
const fs = require("node:fs");
const [, folder, lines] = process.argv;
const commands = JSON.parse(lines);
const filename = folder + "/fast.js";
const script = new (require("node:vm").Script)(fs.readFileSync(filename, "utf8"), { filename });
const program = script.runInThisContext();
const exit = process.exit;
process.exit = (code) => {
  if (code !== 0) exit(code);
  const words = commands.shift();
  if (words === undefined) {
    fs.writeFileSync(folder + "/fast.cache", script.createCachedData());
    exit(0);
  }
  process.argv = [process.argv[0], folder + "/orchestrator.cjs", ...words];
  program(require, module, exports, folder);
};
process.exit(0);
`;

const RUN = {
  run_id: "run-1",
  state: "blocked",
  state_reason: "dialog",
  worker: "kite-1",
  reason: "kite-1 is the only idle worker",
  receipt: "accepted",
  status: { status: "blocked", age_ms: 1 },
  attach: "orchestrator attach kite-1",
  created_at: 0,
  task: "é",
  unrescued: false,
  messages: [{ bytes: 1 }],
};

const WORKER = {
  worker: "kite-1",
  allocation: "claimed",
  provider_state: "running",
  provider_state_age_ms: 1,
  status: null,
};

const EVENTS = [
  ["run.queued", { worker: null }],
  ["run.assigned", { worker: "kite-1", reason: "idle", created: false, epoch: 1 }],
  ["run.step", { step: "clone", state: "running", ms: null, detail: null }],
  ["run.step", { step: "clone", state: "done", ms: 1, detail: null }],
  ["run.launched", { launch: 1 }],
  ["run.delivered", { receipt: "accepted", seq: 1, form: "exact", bytes: 1, launch: 1, ms: 1 }],
].map(([kind, payload], index) => ({ seq: index + 1, at: 0, kind, payload, run_id: "run-1" }));

/** What the program is answered: of each view what its table shows. */
const ANSWERS: Readonly<Record<string, readonly object[]>> = {
  status: [{ value: { workers: [WORKER], runs: [RUN] } }],
  "run.list": [{ value: [RUN] }],
  dispatch: [{ value: { run: { ...RUN, state: "driving" }, replayed: false } }],
  "events.follow": EVENTS.map((item) => ({ item })),
  "run.show": [{ value: { ...RUN, state: "active", steps: [] } }],
};

/** Makes `fast.cache` in `folder` by running commands against answers of our own. */
export async function makeCodeCache(folder: string): Promise<void> {
  const home = await mkdtemp(join(tmpdir(), "oc-build-"));
  const own = join(home, "o");
  await mkdir(own);
  const server = createServer((socket) => {
    const lines = createInterface({ input: socket });
    lines.on("line", (line) => {
      const { id, op } = JSON.parse(line) as { id: number; op?: string };
      const answers = op === undefined ? [{ end: true }] : (ANSWERS[op] ?? []);
      for (const answer of answers) socket.write(`${JSON.stringify({ id, ...answer })}\n`);
    });
    // The program hangs up when it knows enough.
    for (const end of [socket, lines]) end.on("error", () => {});
  });
  try {
    await new Promise<void>((resolve) => {
      server.listen(join(own, "controller.sock"), resolve);
    });
    const child = spawn(process.execPath, ["-e", MAKER, "--", folder, JSON.stringify(COMMANDS)], {
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
