import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { CheckView, WorkerView } from "../../src/operations/views.ts";
import { cli, MAIN } from "../support/controller-process.ts";
import { installation, type Installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

/** Fields of a line, with the last one's quotes undone. */
function fieldsOf(line: string): Record<string, string> {
  const [, head = "", , last] = /^(.*?)(?: (?:reason|message)=(".*"))?$/.exec(line) ?? [];
  const quoted = / (?:reason|message)=(".*")$/.exec(line)?.[1];
  const rest = quoted === undefined ? head : line.slice(0, line.lastIndexOf(` reason=${quoted}`));
  const fields = Object.fromEntries(
    rest
      .split(" ")
      .map((field) => [field.slice(0, field.indexOf("=")), field.slice(field.indexOf("=") + 1)]),
  );
  return {
    ...fields,
    reason: quoted === undefined ? (last ?? "") : (JSON.parse(quoted) as string),
  };
}

const linesIn = (path: string): string[] =>
  existsSync(path) ? readFileSync(path, "utf8").trimEnd().split("\n").filter(Boolean) : [];

const changesIn = (path: string) =>
  linesIn(path)
    .map(fieldsOf)
    .filter(({ kind }) => kind === "change");

const logOf = (installed: Installation) => join(installed.home, "..", "the-status.log");

function withLog(installed: Installation, more: Readonly<Record<string, unknown>> = {}): void {
  installed.configure({ maxWorkers: 2 }, { check: { log: logOf(installed), ...more } });
}

const onWorker = (installed: Installation, ...argv: string[]) =>
  installed.call<{ code: number; stdout: string }>("worker.exec", { worker: "kite-1", argv });

const nameOf = async (installed: Installation) =>
  (
    await onWorker(installed, "tmux", "-u", "display-message", "-p", "-t", "@1", "#{window_name}")
  ).stdout.trim();

const windowsOf = async (installed: Installation) =>
  (
    await onWorker(
      installed,
      "tmux",
      "-u",
      "list-windows",
      "-t",
      "=kite-dev",
      "-F",
      "#{window_name}",
    )
  ).stdout.split("\n");

async function liveRun(installed: Installation) {
  const run = await installed.dispatch("sleep 1000");
  await installed.wait(run.run_id, "delivered");
  await until(async () => (await nameOf(installed)) === "agent:running", { what: "the name" });
  return run.run_id;
}

test("a wrong window name is set right and recorded, a guard that ended runs again, and the log has what was so", async () => {
  await using installed = installation();
  withLog(installed);
  const runId = await liveRun(installed);
  const first = await installed.call<CheckView>("check");
  assert.equal(first.counts.read, 1);
  assert.deepEqual(first.workers[0]?.found, []);
  assert.equal(changesIn(logOf(installed)).length, 1, "a worker that is new to the log");

  // A guard that does not know whom to watch tells the controller nothing: the name is the check's to find.
  await onWorker(installed, "mv", ".orchestrator/current", ".orchestrator/current.away");
  await onWorker(installed, "tmux", "-u", "rename-window", "-t", "@1", "agent:completed");
  const second = await installed.call<CheckView>("check");
  const [worker] = second.workers;
  assert.deepEqual(
    [worker?.was, worker?.window, worker?.status, worker?.run_id, worker?.found],
    ["agent:completed", "agent:running", "running", runId, ["corrected"]],
  );
  assert.equal(await nameOf(installed), "agent:running");
  const corrected = (await installed.events(runId)).filter(
    ({ kind }) => kind === "run.window_corrected",
  );
  assert.deepEqual(
    corrected.map(({ payload }) => [payload["shown"], payload["wanted"]]),
    [["agent:completed", "agent:running"]],
  );
  assert.partialDeepStrictEqual(changesIn(logOf(installed)).at(-1), {
    worker: "kite-1",
    window: "agent:running",
    was: "agent:completed",
    status: "running",
    run: runId,
    machine: "running",
    found: "corrected",
  });

  const guard = "$(tmux -u display-message -p -t =kite-dev:2 '#{pane_pid}')";
  await onWorker(installed, "sh", "-c", `kill -KILL ${guard}`);
  await until(async () => !(await windowsOf(installed)).includes("guard"), { what: "its window" });
  const mended = await installed.call<CheckView>("check");
  assert.deepEqual(mended.workers[0]?.found, ["guard_restarted"]);
  assert.ok((await windowsOf(installed)).includes("guard"));
  assert.equal(changesIn(logOf(installed)).at(-1)?.["found"], "guard_restarted");

  const before = linesIn(logOf(installed)).length;
  const third = await installed.call<CheckView>("check");
  assert.equal(third.counts.changed, 0, JSON.stringify(third.workers));
  const [heartbeat, ...others] = linesIn(logOf(installed)).slice(before);
  assert.deepEqual(others, []);
  assert.match(heartbeat ?? "", /kind=sweep scope=all workers=1 read=1 .* changed=0 /);
});

test("a live run whose window or session is gone is reported once, and nothing is made up for it", async () => {
  await using installed = installation();
  withLog(installed);
  const runId = await liveRun(installed);
  await installed.call<CheckView>("check");
  await onWorker(installed, "tmux", "-u", "kill-server");
  for (let sweep = 0; sweep < 2; sweep += 1) {
    const { workers, counts } = await installed.call<CheckView>("check", { worker: "kite-1" });
    assert.equal(counts.missing, 1, JSON.stringify(workers));
    assert.deepEqual(workers[0]?.found, ["session_missing"]);
  }
  const missing = (await installed.events(runId)).filter(
    ({ kind }) => kind === "run.window_missing",
  );
  assert.equal(missing.length, 1);
  assert.deepEqual(missing[0]?.payload, { worker: "kite-1", session: false });
});

test("an ended run's window is set right on the idle worker, and a change under way is left alone", async () => {
  await using installed = installation();
  withLog(installed);
  const run = await installed.dispatch("true");
  await installed.wait(run.run_id);
  await until(
    async () => (await installed.call<WorkerView>("worker.show", { worker: "kite-1" })).idle,
    { what: "an idle worker" },
  );
  await onWorker(installed, "tmux", "-u", "rename-window", "-t", "@1", "agent:error");
  const checking = installed.call<CheckView>("check");
  // Who renames it meanwhile is right: nothing is corrected.
  const { workers } = await checking;
  assert.deepEqual(workers[0]?.found, ["corrected"]);
  assert.equal(await nameOf(installed), "agent:completed");
  await onWorker(installed, "tmux", "-u", "rename-window", "-t", "@1", "agent:error");
  const again = installed.call<CheckView>("check");
  const rename = "sleep 0.7; tmux -u rename-window -t @1 agent:completed";
  await onWorker(installed, "sh", "-c", rename);
  assert.deepEqual((await again).workers[0]?.found, []);
  const events = (await installed.events()).filter(({ kind }) => kind === "run.window_corrected");
  assert.equal(events.length, 1);
});

test("the silent check says nothing, whatever happens; without --silent it shows a table", async () => {
  await using installed = installation();
  withLog(installed);
  await using _ = await stopping(installed);
  const quiet = await cli(installed, ["check", "--silent"]);
  assert.deepEqual([quiet.code, quiet.stdout, quiet.stderr], [0, "", ""]);
  assert.match(linesIn(logOf(installed)).at(-1) ?? "", /kind=sweep scope=all workers=0 /);
  const unknown = await cli(installed, ["check", "--silent", "kite-7", "kite"]);
  assert.deepEqual([unknown.code, unknown.stdout, unknown.stderr], [4, "", ""]);
  assert.match(
    linesIn(logOf(installed)).at(-1) ?? "",
    /kind=error code=not_found message="there is no worker kite-7 of the repo kite"$/,
  );
  assert.equal((await cli(installed, ["worker", "create", "--repo", "kite"])).code, 0);
  const loud = await cli(installed, ["check"]);
  assert.equal(loud.code, 0);
  assert.match(loud.stdout, /^WORKER +MACHINE +WINDOW .*\nkite-1 +running +agent:waiting +- /);
  assert.match(loud.stdout, /\n1 worker, 1 read, 1 changed, in .*; log: .*the-status\.log\n$/);
  assert.match((await cli(installed, ["check", "kite-1", "kite"])).stdout, /^no changes\n/);
  assert.match((await cli(installed, ["check", "kite"])).stdout, /^no changes\n/);
  const wrong = await cli(installed, ["check", "nothing"]);
  assert.equal(wrong.code, 4);
  assert.match(wrong.stderr, /there is no repo nothing/);
});

test("a log that cannot be written is said once, in status.log of the orchestrator's folder", async () => {
  await using installed = installation();
  installed.configure({}, { check: { log: "/proc/none/status.log" } });
  await using _ = await stopping(installed);
  for (let sweep = 0; sweep < 2; sweep += 1) {
    const { code, stdout, stderr } = await cli(installed, ["check", "--silent"]);
    assert.deepEqual([code, stdout, stderr], [0, "", ""]);
  }
  const lines = linesIn(installed.paths.statusLog);
  assert.equal(lines.filter((line) => line.includes("kind=error")).length, 1, lines.join("\n"));
  assert.equal(lines.filter((line) => line.includes("kind=sweep")).length, 2);
  const shown = await cli(installed, ["check"]);
  assert.match(shown.stderr, /^warning: \/proc\/none\/status\.log \(ENOENT\) cannot be written\n$/);
});

test("cron's environment is enough: the controller is started, and ends by itself soon after", async () => {
  await using installed = installation();
  withLog(installed);
  await using _ = await stopping(installed);
  assert.equal((await cli(installed, ["worker", "create", "--repo", "kite"])).code, 0);
  assert.equal((await cli(installed, ["stop"])).code, 0);
  const person = installed.env["HOME"] ?? "";
  const env = { HOME: person, LOGNAME: "root", SHELL: "/bin/sh", PATH: "/usr/bin:/bin" };
  const line = [process.execPath, MAIN, "check", "--silent"].map((word) => `'${word}'`).join(" ");
  const said = execFileSync("sh", ["-c", `ORCHESTRATOR_HOME='${installed.home}' ${line} 2>&1`], {
    env,
    cwd: person,
    encoding: "utf8",
  });
  assert.equal(said, "");
  assert.partialDeepStrictEqual(changesIn(logOf(installed)).at(-1), {
    worker: "kite-1",
    window: "agent:waiting",
    found: "ok",
  });
  const pong = await cli(installed, ["ping", "--json"]);
  const { pid } = JSON.parse(pong.stdout) as { pid: number };
  await until(() => !existsSync(`/proc/${pid}`) || isZombie(pid), {
    what: "the controller's end",
    timeoutMs: 40_000,
  });
});

test("a broken configuration is a line in the log too", async () => {
  await using installed = installation();
  withLog(installed);
  installed.configure({ nonsense: true }, { check: { log: logOf(installed) } });
  const { code, stdout, stderr } = await cli(installed, ["check", "--silent"]);
  assert.deepEqual([code, stdout, stderr], [2, "", ""]);
  assert.match(
    linesIn(logOf(installed))[0] ?? "",
    /kind=error code=invalid_config message=".*nonsense/,
  );
});

/** Ends the controller that the command line started. */
async function stopping(installed: Installation): Promise<AsyncDisposable> {
  return {
    [Symbol.asyncDispose]: async () => {
      const child = spawn(process.execPath, [MAIN, "stop"], {
        env: installed.env,
        stdio: "ignore",
      });
      await new Promise((resolve) => child.once("exit", resolve));
    },
  };
}

function isZombie(pid: number): boolean {
  try {
    return /^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return true;
  }
}
