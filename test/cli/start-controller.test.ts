import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, readdirSync, existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { connectController } from "../../src/operations/client.ts";
import { temporaryHome } from "../support/fake-services.ts";
import { until } from "../support/wait.ts";

/** Fifty starts from source would cost seconds each on a busy machine: the program is bundled once, as it is when installed. */
const built = await temporaryHome();
const PROGRAM = join(built.path, "controller-child.js");

before(async () => {
  await build({
    entryPoints: [join(import.meta.dirname, "controller-child.ts")],
    outdir: built.path,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node24",
    logLevel: "error",
  });
  await writeFile(join(built.path, "package.json"), '{"type":"module"}');
});

after(() => built[Symbol.asyncDispose]());

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function program(
  home: string,
  argv: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [PROGRAM, ...argv], {
    cwd: "/",
    env: {
      PATH: process.env["PATH"],
      HOME: home,
      ORCHESTRATOR_HOME: join(home, "o"),
      KEPT: "kept",
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  return new Promise((resolve) => {
    child.on("close", (code) => resolve({ code, out, err }));
  });
}

const startsIn = (home: string): number[] => {
  const path = join(home, "o", "starts");
  return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n").map(Number) : [];
};

/** One that ended and that nobody has waited for yet counts as ended. */
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
};

/** A home whose controllers, started by us, are ended with it. */
async function controllerHome() {
  const home = await temporaryHome();
  return {
    path: home.path,
    [Symbol.asyncDispose]: async () => {
      for (const pid of startsIn(home.path)) if (isAlive(pid)) process.kill(pid, "SIGKILL");
      await until(() => !startsIn(home.path).some(isAlive), {
        what: "the controllers to end",
        timeoutMs: 30_000,
      });
      await home[Symbol.asyncDispose]();
    },
  };
}

const BUSY = ["worker", "busy", "kite-1"];

test("fifty at once end with one controller, and each gets its answer", async () => {
  await using home = await controllerHome();
  const ends = await Promise.all(
    Array.from({ length: 50 }, () => program(home.path, BUSY, { FAKE_SERVE: "slow" })),
  );
  for (const { code, err } of ends) assert.equal(code, 0, err);
  assert.equal(new Set(ends.map(({ out }) => out)).size, 1);
  const alive = startsIn(home.path).filter(isAlive);
  assert.equal(alive.length, 1);
  assert.equal(startsIn(home.path).length, 1, "others were started and lost against the lock");
  // Its folder is the person's own and it keeps the environment: it outlives the folder and the shell it came from.
  assert.equal(ends[0]?.out, `busy: controller ${alive[0]} in ${home.path}, kept\n`);
  assert.deepEqual(
    readdirSync(join(home.path, "o")).filter((name) => name.includes("starting")),
    [],
  );
});

test("stop ends it for good, and the next command starts another", async () => {
  await using home = await controllerHome();
  await program(home.path, BUSY);
  const stopped = await program(home.path, ["stop"]);
  assert.equal(stopped.out, "the controller has stopped; 2 live runs will be taken up again\n");
  const [first] = startsIn(home.path);
  assert.ok(first !== undefined && !isAlive(first));
  assert.equal(
    (await program(home.path, ["stop", "--json"])).out,
    '{"running":false,"live_runs":0}\n',
  );
  const ping = await program(home.path, ["ping"]);
  assert.equal(ping.code, 7);
  assert.match(ping.err, /no controller is running/);
  assert.equal((await program(home.path, BUSY)).code, 0);
  assert.equal(startsIn(home.path).length, 2);
});

test("a controller that was killed leaves nothing that keeps the next from starting", async () => {
  await using home = await controllerHome();
  await program(home.path, BUSY);
  const [first] = startsIn(home.path);
  assert.ok(first);
  process.kill(first, "SIGKILL");
  await until(() => !isAlive(first), { what: "it to be gone" });
  assert.equal((await program(home.path, BUSY)).code, 0);
});

test("a turn to start that its process left behind is taken over", async () => {
  await using home = await controllerHome();
  await mkdir(join(home.path, "o"), { mode: 0o700 });
  for (const left of ["4194304\n", "", "garbage"]) {
    await writeFile(join(home.path, "o", "controller.lock.db.starting"), left);
    assert.equal((await program(home.path, BUSY)).code, 0, left);
    await program(home.path, ["stop"]);
  }
});

test("the controller's own error is shown, with its exit code", async () => {
  await using home = await controllerHome();
  const { code, err, out } = await program(home.path, BUSY, { FAKE_SERVE: "refuse" });
  assert.equal(code, 2);
  assert.equal(err, "error: repos.kite.url must be a Git URL\nhint: edit it\n");
  assert.equal(out, "");
});

test("a controller that dies while starting, or never answers, is exit 7", async () => {
  await using home = await controllerHome();
  const crashed = await program(home.path, BUSY, { FAKE_SERVE: "crash" });
  assert.equal(crashed.code, 7);
  assert.match(crashed.err, /ended while it started/);
  const mute = await program(home.path, BUSY, { FAKE_SERVE: "mute", START_MS: "1500" });
  assert.equal(mute.code, 7);
  assert.match(mute.err, /was started and does not answer\nhint: its log is .*controller\.log/);
});

test("serve runs in the foreground until a signal, and a second one is refused", async () => {
  await using home = await controllerHome();
  const serving = program(home.path, ["serve"]);
  const socket = join(home.path, "o", "controller.sock");
  const client = await until(() => connectController({ path: socket, version: "0.1.0" }), {
    what: "the socket",
    timeoutMs: 60_000,
  });
  await client.close();
  const second = await program(home.path, ["serve"]);
  assert.equal(second.code, 11);
  const [pid] = startsIn(home.path);
  assert.ok(pid);
  process.kill(pid, "SIGTERM");
  const { code, out } = await serving;
  assert.equal(code, 0);
  assert.equal(out, `controller ${pid} answers at ${socket}\n`);
});
