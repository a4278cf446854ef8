import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { cp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { Script } from "node:vm";
import { fakeController, temporaryHome } from "../support/fake-services.ts";
import { RUN, WORKER } from "../support/views.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "..", "..");

/** The package as `npm pack` would take it, built in a folder of its own so that several tests may build at once. */
const place = await temporaryHome();
const program = join(place.path, "dist", "orchestrator.cjs");
const home = join(place.path, "o");
const env = { PATH: process.env["PATH"], HOME: place.path, ORCHESTRATOR_HOME: home };

before(async () => {
  for (const name of ["package.json", "provision", "skills", "src", "scripts"]) {
    await cp(join(root, name), join(place.path, name), { recursive: true });
  }
  await symlink(join(root, "node_modules"), join(place.path, "node_modules"));
  await run(process.execPath, [join(place.path, "scripts", "build.ts")]);
});

after(() => place[Symbol.asyncDispose]());

test("the built program runs by itself: help, version, wrong words", async () => {
  const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
    version: string;
  };
  assert.equal((await run(program, ["--version"], { env })).stdout, `${version}\n`);
  assert.match((await run(program, ["run", "--help"], { env })).stdout, /Usage: orchestrator run/);
  const wrong = spawnSync(program, ["statsu"], { env, encoding: "utf8" });
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /Did you mean status\?/);
});

test("what it loads later is found: store, configuration, controller", async () => {
  assert.equal((await run(program, ["status"], { env })).stdout, "no workers, no live runs\n");
  const shown = spawnSync(program, ["run", "show", "run-1"], { env, encoding: "utf8" });
  assert.equal(shown.status, 4, shown.stderr);
  assert.match((await run(program, ["config", "show"], { env })).stdout, /"repos": \{\}/);
  const plan = spawnSync(program, ["--repo", "kite", "--dry-run"], { env, encoding: "utf8" });
  try {
    assert.equal(plan.status, 4, plan.stderr);
    assert.match(plan.stderr, /kite/);
    assert.match((await run(program, ["ping"], { env })).stdout, /^controller \d+, version /);
  } finally {
    spawnSync(program, ["stop"], { env });
  }
});

test("a read opens three files of ours: launcher, code, compiled code", async (context) => {
  const controller = await fakeController(join(home, "controller.sock"), {
    status: () => ({ workers: [WORKER], runs: [RUN] }),
  });
  try {
    const traced = await run("strace", ["-f", "-e", "trace=open,openat", program, "status"], {
      env,
    }).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || /ptrace/i.test(error.message)) return undefined;
      throw error;
    });
    if (traced === undefined) return context.skip("strace is not to be had here");
    assert.match(traced.stdout, /kite-1/);
    const opened = traced.stderr
      .split("\n")
      .filter((line) => line.includes('"') && !line.includes("ENOENT"));
    const ours = opened.filter((line) => line.includes(place.path));
    assert.equal(ours.length, 3, ours.join("\n"));
    return undefined;
  } finally {
    await controller.stop();
  }
});

test("the compiled code fits the Node that built it, and the program runs without it", async () => {
  const filename = join(place.path, "dist", "fast.js");
  const [code, cachedData] = await Promise.all([
    readFile(filename, "utf8"),
    readFile(join(place.path, "dist", "fast.cache")),
  ]);
  assert.equal(new Script(code, { filename, cachedData }).cachedDataRejected, false);
  const bare = join(place.path, "bare");
  await cp(join(place.path, "dist"), join(bare, "dist"), { recursive: true });
  await rm(join(bare, "dist", "fast.cache"));
  assert.match(
    (await run(join(bare, "dist", "orchestrator.cjs"), ["--version"], { env })).stdout,
    /^\d/,
  );
  await writeFile(join(bare, "dist", "fast.cache"), "damaged");
  assert.match(
    (await run(join(bare, "dist", "orchestrator.cjs"), ["--version"], { env })).stdout,
    /^\d/,
  );
});

test("a reader that goes away ends the program quietly", () => {
  const { status, stderr } = spawnSync(
    "sh",
    ["-c", `"${program}" config reference | head -1; exit 0`],
    {
      env,
      encoding: "utf8",
    },
  );
  assert.equal(status, 0);
  assert.equal(stderr, "");
});

test("the package holds the program, the worker scripts and the skills, and nothing else", async () => {
  const { stdout } = await run("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    cwd: place.path,
    env: { ...env, npm_config_update_notifier: "false" },
  });
  const [packed] = JSON.parse(stdout) as ReadonlyArray<{
    files: ReadonlyArray<{ path: string; mode: number }>;
  }>;
  const files = packed?.files ?? [];
  const tops = new Set(files.map(({ path }) => path.split("/")[0]));
  for (const name of ["dist", "provision", "skills", "package.json"])
    assert.ok(tops.has(name), name);
  for (const name of ["src", "test", "scripts", "node_modules"]) assert.ok(!tops.has(name), name);
  assert.ok(
    files.some(({ path, mode }) => path === "dist/orchestrator.cjs" && (mode & 0o111) !== 0),
  );
  const scripts = files.filter(({ path }) => /^provision\/[^/]+\.sh$/.test(path));
  assert.ok(scripts.some(({ path }) => path === "provision/orchestrate.sh"));
  for (const { path, mode } of scripts) {
    assert.ok((mode & 0o111) !== 0 || path.endsWith("/find-orchestrator.sh"), path);
  }
  const expected = (await readdir(join(root, "provision", "worker"))).length;
  assert.equal(
    files.filter(({ path }) => /^provision\/worker\/[^/]+$/.test(path)).length,
    expected,
  );
});
