import assert from "node:assert/strict";
import { chmod, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { execa } from "execa";
import { ensureKeys } from "../../src/config/keys.ts";
import { homePaths } from "../../src/config/paths.ts";
import { effects, errorOf, runChild, temporaryFolder } from "./support.ts";

test("the key pair is what OpenSSH would have made, and private", async (t) => {
  const paths = homePaths(await temporaryFolder(t));
  const { publicLine, created } = await ensureKeys(paths, effects.ids);
  assert.equal(created, true);
  assert.match(publicLine, /^ssh-ed25519 [A-Za-z0-9+/]{68} sprite-orchestrator$/);
  assert.equal((await stat(paths.sshKey)).mode & 0o777, 0o600);
  assert.equal(await readFile(paths.sshPublicKey, "utf8"), `${publicLine}\n`);
  assert.equal((await execa("ssh-keygen", ["-y", "-f", paths.sshKey])).stdout, publicLine);
  // A signature is made with the private half and verified with the public one.
  const message = join(paths.home, "message");
  await writeFile(message, "hello");
  await execa("ssh-keygen", ["-Y", "sign", "-f", paths.sshKey, "-n", "test", message]);
  await writeFile(join(paths.home, "signers"), `me ${publicLine}\n`);
  const check = ["-Y", "verify", "-f", join(paths.home, "signers"), "-I", "me", "-n", "test"];
  await execa("ssh-keygen", [...check, "-s", `${message}.sig`], { inputFile: message });
});

test("a key that exists is kept, and its public file is made again when it is gone", async (t) => {
  const paths = homePaths(await temporaryFolder(t));
  const first = await ensureKeys(paths, effects.ids);
  const key = await readFile(paths.sshKey, "utf8");
  await rm(paths.sshPublicKey);
  assert.deepEqual(await ensureKeys(paths, effects.ids), { ...first, created: false });
  assert.equal(await readFile(paths.sshKey, "utf8"), key);
  assert.equal(await readFile(paths.sshPublicKey, "utf8"), `${first.publicLine}\n`);
});

test("a person's own key of another kind is taken as it is", async (t) => {
  const paths = homePaths(await temporaryFolder(t));
  await execa("ssh-keygen", ["-q", "-t", "ecdsa", "-N", "", "-C", "mine", "-f", paths.sshKey]);
  const line = (await execa("ssh-keygen", ["-y", "-f", paths.sshKey])).stdout;
  const { publicLine } = await ensureKeys(paths, effects.ids);
  assert.deepEqual(publicLine.split(" ").slice(0, 2), line.split(" ").slice(0, 2));
});

test("a key with a passphrase, of another format, or readable by others is refused and kept", async (t) => {
  const folder = await temporaryFolder(t);
  const locked = join(folder, "locked");
  await execa("ssh-keygen", ["-q", "-t", "ed25519", "-N", "secret", "-f", locked]);
  const text = await readFile(locked, "utf8");
  const wrong = "is not an OpenSSH private key without passphrase";
  for (const [content, mode, what] of [
    [text, 0o600, wrong],
    ["", 0o600, wrong],
    [
      "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n",
      0o600,
      wrong,
    ],
    [text, 0o644, "may be read by other users"],
  ] as const) {
    const paths = homePaths(await temporaryFolder(t));
    await writeFile(paths.sshKey, content);
    await chmod(paths.sshKey, mode);
    const error = await errorOf(() => ensureKeys(paths, effects.ids));
    assert.equal(error.code, "invalid_config");
    assert.equal(error.message, `key ${paths.sshKey} ${what}`);
    assert.equal(await readFile(paths.sshKey, "utf8"), content);
  }
});

test("processes that race for the first key end with the same one", async (t) => {
  const paths = homePaths(await temporaryFolder(t));
  const here = Array.from({ length: 20 }, () => ensureKeys(paths, effects.ids));
  const children = [1, 2, 3].map(() => runChild("ensure-keys-child.ts", [paths.home]));
  const keys = await Promise.all(here);
  await Promise.all(children.map((child) => child.ended));
  const lines = new Set([
    ...keys.map((key) => key.publicLine),
    ...children.flatMap((c) => c.lines),
  ]);
  assert.equal(lines.size, 1);
  assert.ok(keys.filter((key) => key.created).length <= 1);
  assert.equal(`${[...lines][0]}\n`, await readFile(paths.sshPublicKey, "utf8"));
  assert.deepEqual((await readdir(paths.home)).sort(), ["id_ed25519", "id_ed25519.pub"]);
});
