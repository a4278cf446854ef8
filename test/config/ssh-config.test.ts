import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { readIdentity } from "../../src/config/identity.ts";
import { readSshConfig } from "../../src/config/ssh-config.ts";
import { OrchestratorError } from "../../src/domain/errors.ts";

interface Person extends Disposable {
  readonly home: string;
  readonly config: string;
  write(path: string, text: string, mode?: number): string;
}

function person(files: Readonly<Record<string, string>> = {}): Person {
  const home = mkdtempSync(join(tmpdir(), "person-"));
  const write = (path: string, text: string, mode = 0o600) => {
    mkdirSync(dirname(join(home, path)), { recursive: true });
    writeFileSync(join(home, path), text, { mode });
    return join(home, path);
  };
  for (const [path, text] of Object.entries(files)) write(path, text);
  return {
    home,
    config: join(home, ".ssh/config"),
    write,
    [Symbol.dispose]: () => rmSync(home, { recursive: true, force: true }),
  };
}

const refusedAs = (what: RegExp) => (error: unknown) =>
  error instanceof OrchestratorError &&
  error.code === "invalid_config" &&
  what.test(`${error.message} ${error.hint ?? ""}`);

test("what an alias means is read as OpenSSH reads it: first value wins, patterns, negation, tokens", async () => {
  using someone = person({
    ".ssh/config": `
User everybody
Host build-? !build-9
  HostName %h.lan
  Port = 2222
  IdentityFile "~/.ssh/id for %n"
host BUILD-1 lonely
  user late
Host *
  IdentityFile ~/.ssh/id_all
  ProxyJump ops@gate:2200,inner
`,
  });
  const { lookUp } = await readSshConfig(someone.config, someone.home);
  assert.deepEqual(lookUp("build-1"), {
    host: "build-1.lan",
    user: "everybody",
    port: 2222,
    identityFiles: [join(someone.home, ".ssh/id for build-1"), join(someone.home, ".ssh/id_all")],
    proxyJump: "ops@gate:2200,inner",
    proxyCommand: undefined,
  });
  assert.deepEqual([lookUp("build-9").host, lookUp("build-9").port], [undefined, undefined]);
});

test("files are included where the line stands, by pattern, also in a section that matches", async () => {
  using someone = person({
    ".ssh/config":
      "Include conf.d/*\nInclude ~/more\nHost in-*\n  Include inner\nHost *\n  User last\n",
    ".ssh/conf.d/10-a": "Host a\n  User from-a\n",
    ".ssh/conf.d/20-a": "Host a b\n  User from-b\n",
    more: "Host c\n  Port 7\n",
    ".ssh/inner": "Port 9\nHost in-x out\n  User inner\n",
  });
  const { lookUp } = await readSshConfig(someone.config, someone.home);
  const of = (alias: string) => [lookUp(alias).user, lookUp(alias).port];
  assert.deepEqual(of("a"), ["from-a", undefined]);
  assert.deepEqual(of("b"), ["from-b", undefined]);
  assert.deepEqual(of("c"), ["last", 7]);
  assert.deepEqual(of("in-x"), ["inner", 9]);
  assert.deepEqual(of("out"), ["last", undefined]);
});

test("OpenSSH itself says the same", async (t) => {
  try {
    execFileSync("ssh", ["-V"], { stdio: "ignore" });
  } catch {
    t.skip("there is no ssh here");
    return;
  }
  using someone = person({
    ".ssh/config":
      "Host one two\n  HostName 10.1.1.1\n  Port 24\nHost t*\n  User tee\n  ProxyJump j1,j2\nMatch originalhost two\n  User never\nHost *\n  User all\n",
  });
  const { lookUp } = await readSshConfig(someone.config, someone.home);
  for (const alias of ["one", "two", "three"]) {
    const said = execFileSync("ssh", ["-G", "-F", someone.config, alias], { encoding: "utf8" });
    const value = (key: string) => new RegExp(`^${key} (.*)$`, "m").exec(said)?.[1];
    const found = lookUp(alias);
    assert.equal(found.host ?? alias, value("hostname"));
    assert.equal(found.user, value("user"));
    assert.equal(String(found.port ?? 22), value("port"));
    assert.equal(found.proxyJump, value("proxyjump"));
  }
});

test("no program of the configuration is run", async () => {
  using someone = person();
  const ran = join(someone.home, "ran");
  someone.write(
    ".ssh/config",
    `Match exec "touch ${ran}"\n  User exec\nHost x\n  ProxyCommand touch ${ran}\n`,
  );
  const { lookUp } = await readSshConfig(someone.config, someone.home);
  assert.equal(lookUp("x").user, undefined);
  assert.equal(lookUp("x").proxyCommand, `touch ${ran}`);
  assert.throws(() => execFileSync("test", ["-e", ran]));
});

test("a missing file says nothing; one that includes itself and a port that is none are errors", async () => {
  using someone = person();
  const { lookUp } = await readSshConfig(someone.config, someone.home);
  assert.equal(lookUp("x").host, undefined);
  someone.write(".ssh/config", "Include config\n");
  await assert.rejects(readSshConfig(someone.config, someone.home), refusedAs(/too deeply/));
  someone.write(".ssh/config", "Host x\n  Port ssh\n");
  const broken = await readSshConfig(someone.config, someone.home);
  assert.throws(() => broken.lookUp("x"), refusedAs(/port that is none/));
});

test("a key that others may read, or that has a passphrase, is one clear error that names it", async () => {
  using someone = person({ "id.txt": "" });
  assert.equal(await readIdentity(join(someone.home, "absent")), undefined);
  const key = (name: string, ...options: string[]) => {
    const path = join(someone.home, name);
    execFileSync("ssh-keygen", ["-q", "-f", path, "-C", "", ...options]);
    return path;
  };
  const plain = key("plain", "-t", "ed25519", "-N", "");
  assert.match((await readIdentity(plain)) ?? "", /BEGIN OPENSSH PRIVATE KEY/);
  for (const path of [
    key("locked", "-t", "ed25519", "-N", "secret"),
    key("locked-pem", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "secret"),
    key("locked-pkcs8", "-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", "secret"),
  ]) {
    await assert.rejects(readIdentity(path), refusedAs(new RegExp(`${path} has a passphrase`)));
  }
  execFileSync("chmod", ["640", plain]);
  await assert.rejects(
    readIdentity(plain),
    refusedAs(/plain may be read by other users.*chmod 600/),
  );
});
