import assert from "node:assert/strict";
import { chmod, mkdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { ensureHome, homePaths } from "../../src/config/paths.ts";
import { errorOf, temporaryFolder } from "./support.ts";

const modeOf = async (path: string) => ((await stat(path)).mode & 0o777).toString(8);

test("everything lies below home", () => {
  const paths = homePaths("/h/o");
  assert.equal(paths.config, "/h/o/config.yaml");
  assert.equal(paths.socket, "/h/o/controller.sock");
  for (const path of Object.values(paths)) assert.ok(path.startsWith("/h/o"), path);
});

test("a socket path fits its 104 bytes, whatever home is, and two homes never share one", () => {
  const inside = (length: number) => `/${"h".repeat(length - "/controller.sock".length - 1)}`;
  assert.equal(Buffer.byteLength(homePaths(inside(103)).socket), 103);
  assert.ok(homePaths(inside(103)).socket.startsWith("/hh"));
  for (const home of [inside(104), `/${"ü".repeat(60)}`, `/${"a/".repeat(200)}b`]) {
    const { socket } = homePaths(home);
    assert.ok(Buffer.byteLength(socket) < 104, socket);
    assert.ok(socket.startsWith("/tmp/sprite-orchestrator-"), socket);
    assert.equal(homePaths(home).socket, socket);
    assert.notEqual(homePaths(`${home}x`).socket, socket);
  }
});

test("the folders are made private, twice without harm", async (t) => {
  const paths = homePaths(join(await temporaryFolder(t), "deep", "home"));
  await ensureHome(paths);
  await ensureHome(paths);
  for (const folder of [paths.home, paths.mirrors, paths.local, paths.logs]) {
    assert.equal(await modeOf(folder), "700", folder);
  }
});

test("a readable home that is ours alone is closed, one with other things in it keeps its mode", async (t) => {
  const folder = await temporaryFolder(t);
  const ours = homePaths(join(folder, "ours"));
  await mkdir(ours.home, { mode: 0o755 });
  await writeFile(ours.config, "");
  await ensureHome(ours);
  assert.equal(await modeOf(ours.home), "700");
  const shared = homePaths(join(folder, "shared"));
  await mkdir(shared.home, { mode: 0o755 });
  await writeFile(join(shared.home, "index.html"), "");
  await ensureHome(shared);
  assert.equal(await modeOf(shared.home), "755");
});

test("a home that others may write, or that is no folder, is refused by name", async (t) => {
  const folder = await temporaryFolder(t);
  const open = homePaths(join(folder, "open"));
  await mkdir(open.home);
  await chmod(open.home, 0o770);
  const error = await errorOf(() => ensureHome(open));
  assert.equal(error.code, "invalid_config");
  assert.equal(error.message, `folder ${open.home} may be written by other users`);
  const file = homePaths(join(folder, "file"));
  await writeFile(file.home, "");
  assert.equal(
    (await errorOf(() => ensureHome(file))).message,
    `folder ${file.home} is not a folder`,
  );
  const below = homePaths(join(folder, "file", "home"));
  assert.equal((await errorOf(() => ensureHome(below))).code, "invalid_config");
});

test("a socket folder that somebody else placed is refused", async (t) => {
  const folder = await temporaryFolder(t);
  const paths = homePaths(join(folder, "h".repeat(100)));
  const socketFolder = dirname(paths.socket);
  t.after(() => rm(socketFolder, { recursive: true, force: true }));
  await symlink(folder, socketFolder);
  assert.equal(
    (await errorOf(() => ensureHome(paths))).message,
    `folder ${socketFolder} is not a folder`,
  );
  await rm(socketFolder);
  await ensureHome(paths);
  assert.equal(await modeOf(socketFolder), "700");
});
