import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";

import { whyNoNamespaces } from "../support/network.ts";

const CASES = join(import.meta.dirname, "ssh-hosts-child.ts");
const missing = whyNoNamespaces();

/** The cases run in a process in namespaces of its own: no other way leads out of it than to the machines of the test. */
test(
  "SSH hosts in networks of their own keep runs whole (test/e2e/ssh-hosts-child.ts)",
  { skip: missing ?? false },
  async (t) => {
    const child = spawn(
      "unshare",
      // With its first process all that the cases started ends; that one also takes up orphans.
      [
        ..."-n -m --pid --fork --mount-proc --kill-child --".split(" "),
        "sh",
        "-c",
        '"$@" & wait $!',
        "sh",
        process.execPath,
        "--test-reporter=spec",
        CASES,
      ],
      { env: { ...process.env, NODE_TEST_CONTEXT: "" }, stdio: ["ignore", "pipe", "pipe"] },
    );
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
    }
    t.after(() => child.kill("SIGKILL"));
    const [code] = await once(child, "close");
    for (const line of output.match(/^ *[✔✖].*$/gmu) ?? []) t.diagnostic(line);
    assert.equal(code, 0, output);
  },
);
