import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { OrchestratorError } from "../../src/domain/errors.ts";
import type { RunDetailView, RunView, WorkerView } from "../../src/operations/views.ts";
import { systemClock, type Clock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { localProvider } from "../../src/providers/local/local.ts";
import type { Provider } from "../../src/providers/provider.ts";
import { isAlive } from "../support/agent-window.ts";
import { cli } from "../support/controller-process.ts";
import { installation, type Installation } from "../support/installation.ts";
import { MovedClock } from "../support/moved-clock.ts";
import { until } from "../support/wait.ts";

const { version } = JSON.parse(
  readFileSync(join(import.meta.dirname, "..", "..", "package.json"), "utf8"),
) as { version: string };

/** Why no small disk can be had here, or false. */
const skip = (() => {
  const folder = mkdtempSync(join(tmpdir(), "disk-"));
  const { status, stderr } = spawnSync("mount", ["-t", "tmpfs", "tmpfs", folder]);
  if (status === 0) spawnSync("umount", ["-l", folder]);
  rmSync(folder, { recursive: true });
  return status === 0 ? false : `no small disk can be mounted here: ${String(stderr).trim()}`;
})();

/** An installation whose workers have homes of 24 MB. */
async function smallHomes(
  options: { files?: Readonly<Record<string, string>>; clock?: Clock } = {},
) {
  const { clock = systemClock() } = options;
  const holder: { installed?: Installation } = {};
  const mounted: string[] = [];
  const overrides = {
    clock,
    get providers(): ReadonlyMap<string, Provider> {
      const real = localProvider({
        root: holder.installed?.paths.local ?? "",
        clock,
        ids: randomIds(),
        path: process.env["PATH"] ?? "",
      });
      const create: Provider["create"] = async (request) => {
        const made = await real.create(request);
        const home = holder.installed?.homeOf(request.name) ?? "";
        if (!mounted.includes(home)) {
          mount(home);
          mounted.push(home);
        }
        return made;
      };
      return new Map([["local", { ...real, create }]]);
    },
  };
  const installed = installation({
    overrides,
    // That of the command line, which talks to no other controller.
    version,
    repo: { maxWorkers: 1 },
    ...(options.files === undefined ? {} : { files: options.files }),
  });
  holder.installed = installed;
  return {
    installed,
    home: installed.homeOf("kite-1"),
    async [Symbol.asyncDispose]() {
      await installed.stopController();
      for (const home of mounted) spawnSync("umount", ["-l", home]);
      await installed[Symbol.asyncDispose]();
    },
  };
}

function mount(folder: string) {
  const done = spawnSync("mount", ["-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", folder], {
    encoding: "utf8",
  });
  assert.equal(done.status, 0, done.stderr);
}

/** Writes until nothing more fits. */
function fill(path: string): void {
  for (const size of [1 << 20, 1 << 14, 1 << 12]) {
    try {
      for (;;) writeFileSync(path, Buffer.alloc(size), { flag: "a" });
    } catch {
      // Full for this size.
    }
  }
}

const show = (installed: Installation, runId: string) =>
  installed.call<RunDetailView>("run.show", { run_id: runId });
const onlyWorker = async (installed: Installation) =>
  (await installed.call<WorkerView[]>("worker.list"))[0];
const setUp = (installed: Installation) =>
  installed.call<WorkerView>("worker.setup", { worker: "kite-1" });

const needsPerson = (message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof OrchestratorError, String(error));
  assert.equal(error.code, "needs_person", error.message);
  assert.match(error.message, message);
  return true;
};

/** What the mirror holds of that file, in any snapshot. */
function mirrored(installed: Installation, path: string): string[] {
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", join(installed.paths.mirrors, "kite.git"), ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  const refs = git("for-each-ref", "--format=%(refname)").trim().split("\n");
  return refs.flatMap((ref) => {
    try {
      return [git("show", `${ref}:${path}`)];
    } catch {
      return [];
    }
  });
}

test(
  "a disk that is full before a dispatch fails it with one clear error; with room again the task is done",
  { skip },
  async () => {
    await using small = await smallHomes();
    const { installed, home } = small;
    const first = await installed.wait((await installed.dispatch("echo one > one.txt")).run_id);
    assert.equal(first.state, "completed");
    const ballast = join(home, "ballast");
    fill(ballast);
    const said = await cli(installed, [
      "dispatch",
      "--repo",
      "kite",
      "--command",
      "echo two > two.txt",
      "--wait",
    ]);
    assert.equal(said.code, 5, said.stdout);
    assert.match(
      said.stderr,
      /^error: run run-\w+ failed: kite-1 has no room left on its disk: it could not be prepared$/m,
    );
    const worker = await onlyWorker(installed);
    assert.deepEqual(
      [worker?.allocation, worker?.reason],
      ["unready", "kite-1 has no room left on its disk: it could not be prepared"],
    );
    const refused = await cli(installed, ["worker", "setup", "kite-1"]);
    assert.equal(refused.code, 8, refused.stdout);
    assert.match(refused.stderr, /kite-1 has no room left on its disk/);

    rmSync(ballast);
    assert.equal((await setUp(installed)).allocation, "free");
    const run = /run-\w+/.exec(said.stderr)?.[0] ?? "";
    const again = await installed.call<RunView>("run.retry", { run_id: run });
    assert.equal((await installed.wait(again.run_id)).state, "completed");
    for (const [id, text] of [
      [first.run_id, "one"],
      [again.run_id, "two"],
    ] as const) {
      const { diff } = await installed.call<{ diff: string }>("run.diff", { run_id: id });
      assert.match(diff, new RegExp(`^\\+${text}$`, "m"));
    }
  },
);

test("a set-up that fills the disk is told from one that fails", { skip }, async () => {
  await using small = await smallHomes({
    files: { "scripts/dev-setup.sh": "#!/bin/sh\n[ -e ~/room ] || cat /dev/zero >~/ballast\n" },
  });
  const { installed, home } = small;
  const run = await installed.wait((await installed.dispatch("true")).run_id);
  assert.equal(run.state, "failed");
  assert.match(
    run.state_reason ?? "",
    /^kite-1 has no room left on its disk: setup failed with code 50/,
  );
  await assert.rejects(setUp(installed), needsPerson(/no room left on its disk/));
  rmSync(join(home, "ballast"));
  writeFileSync(join(home, "room"), "");
  assert.equal((await setUp(installed)).allocation, "free");
  const again = await installed.call<RunView>("run.retry", { run_id: run.run_id });
  assert.equal((await installed.wait(again.run_id)).state, "completed");
});

test(
  "what an agent that filled the disk has made is not lost: its worker is kept until it is saved",
  { skip },
  async () => {
    await using small = await smallHomes();
    const { installed, home } = small;
    const task = "echo precious > work.txt; cat /dev/zero > ~/ballast; true";
    const run = await installed.wait((await installed.dispatch(task)).run_id);
    assert.deepEqual([run.state, run.unrescued], ["completed", true]);
    const worker = await onlyWorker(installed);
    assert.deepEqual(
      [worker?.allocation, worker?.reason],
      ["unready", "unrescued: kite-1 has no room left on its disk"],
    );
    await assert.rejects(
      installed.call("worker.destroy", { worker: "kite-1" }),
      needsPerson(/was not destroyed: kite-1 has no room left on its disk/),
    );
    await assert.rejects(setUp(installed), needsPerson(/was not set up: .*no room/));
    assert.equal(readFileSync(join(home, "kite", "work.txt"), "utf8"), "precious\n");
    rmSync(join(home, "ballast"));
    assert.equal((await setUp(installed)).allocation, "free");
    assert.ok(mirrored(installed, "work.txt").includes("precious\n"));
    const next = await installed.wait((await installed.dispatch("test ! -e work.txt")).run_id);
    assert.equal(next.state, "completed", next.state_reason ?? "");
  },
);

test(
  "an agent whose end cannot be written down is blocked with the reason, and ends when there is room",
  { skip },
  async () => {
    const clock = new MovedClock();
    await using small = await smallHomes({ clock });
    const { installed, home } = small;
    // What is left of the last page of the events would take a few lines more.
    const task = `events=~/.orchestrator/runs/$ORCHESTRATOR_RUN/events.jsonl
echo precious > work.txt
cat /dev/zero > ~/ballast 2>/dev/null
while echo padding >> "$events"; do :; done 2>/dev/null
exit 0`;
    const run = await installed.dispatch(task);
    await installed.wait(run.run_id, "delivered");
    const pid = Number(
      readFileSync(join(home, ".orchestrator/runs", run.run_id, "launch-1"), "utf8").split(" ")[0],
    );
    await until(() => !isAlive(pid), { what: "the agent's end" });
    assert.equal((await show(installed, run.run_id)).state, "active", "nobody was told");
    clock.offset += 46_000;
    const blocked = await installed.wait(run.run_id, "settled", 30_000);
    assert.equal(blocked.state, "blocked", JSON.stringify(blocked));
    assert.match(
      blocked.state_reason ?? "",
      /^kite-1 has no room left on its disk: unreachable: no pulse/,
    );
    rmSync(join(home, "ballast"));
    const ended = await installed.wait(run.run_id, "ended", 60_000);
    assert.deepEqual([ended.state, ended.unrescued], ["failed", false], JSON.stringify(ended));
    assert.match(ended.state_reason ?? "", /without the end of a turn/);
    const { diff } = await installed.call<{ diff: string }>("run.diff", { run_id: run.run_id });
    assert.match(diff, /^\+precious$/m);
    assert.equal((await onlyWorker(installed))?.allocation, "free");
  },
);
