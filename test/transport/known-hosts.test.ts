import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { knownKeys, knownLine, knownName } from "../../src/transport/known-hosts.ts";
import { generateClientKeys } from "../support/client-keys.ts";

const publicKey = () => generateClientKeys("x").publicKey.split(" ").slice(0, 2).join(" ");
const fingerprints = (text: string, name: string) => knownKeys(text, name).map((key) => key.type);

test("names, lists, patterns, negations, ports and hashes are understood", () => {
  const key = publicKey();
  const found = (line: string, name: string) => fingerprints(`# c\n\n${line}\n`, name).length === 1;
  assert.ok(found(`mini,10.0.0.5 ${key} comment`, "10.0.0.5"));
  assert.ok(!found(`mini ${key}`, "minimal"));
  assert.ok(found(`*.lan,!bad.lan ${key}`, "Good.LAN"));
  assert.ok(!found(`*.lan,!bad.lan ${key}`, "bad.lan"));
  assert.ok(found(`[mini]:2222 ${key}`, knownName("mini", 2222)));
  assert.ok(!found(`mini ${key}`, knownName("mini", 2222)));
  assert.ok(!found(`@cert-authority * ${key}`, "mini"));
  assert.ok(!found(`mini ${key}\n@revoked * ${key}`, "mini"));
  assert.ok(!found("mini ssh-ed25519 AAAA", "mini"));
});

test("what ssh-keygen hashes is found, and what we write is found by ssh-keygen", () => {
  const folder = mkdtempSync(join(tmpdir(), "known-"));
  try {
    const file = join(folder, "known_hosts");
    const [key] = knownKeys(`mini ${publicKey()}`, "mini");
    assert.ok(key !== undefined);
    writeFileSync(file, `${knownLine("mini", key.blob)}\n`);
    execFileSync("ssh-keygen", ["-F", "mini", "-f", file]);
    execFileSync("ssh-keygen", ["-q", "-H", "-f", file], { stdio: "ignore" });
    const hashed = readFileSync(file, "utf8");
    assert.doesNotMatch(hashed, /mini/);
    assert.deepEqual(knownKeys(hashed, "mini"), [key]);
    assert.deepEqual(knownKeys(hashed, "maxi"), []);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
