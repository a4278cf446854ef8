import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { folderAt, namesIn } from "../../src/providers/local/folder.ts";
import { tryLock } from "../../src/providers/local/lock.ts";
import { findProcesses, parseStat } from "../../src/providers/local/processes.ts";
import { findSshd } from "../../src/providers/local/sshd.ts";
import { localProvider } from "../../src/providers/local/local.ts";
import type { Dial } from "../../src/providers/provider.ts";
import { openSshTransport } from "../../src/transport/ssh.ts";
import type { Transport } from "../../src/transport/transport.ts";
import { assertRefuses } from "../conformance/provider.ts";
import { type LocalWorkers, localWorkers } from "../support/local-workers.ts";
import { until } from "../support/wait.ts";

const clock = systemClock();

function connect(workers: LocalWorkers, { address, hostKey }: Dial): Transport {
  return openSshTransport({
    address,
    hostKey,
    privateKey: workers.keys.privateKey,
    connectTimeoutMs: 10_000,
    keepaliveMs: 5_000,
    maxChannels: 8,
    execTimeoutMs: 10_000,
  });
}

function isAlive(pid: number): boolean {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, "utf8")) !== undefined;
  } catch {
    return false;
  }
}

/** A process of ours that no worker may touch. */
function bystander(
  env: Record<string, string> = {},
): { pid: number; child: ChildProcess } & Disposable {
  const child = spawn("sleep", ["60"], { env, stdio: "ignore" });
  assert.ok(child.pid !== undefined);
  return { pid: child.pid, child, [Symbol.dispose]: () => void child.kill("SIGKILL") };
}

test("a command's environment is the worker's own, with nothing of the operator's", async () => {
  process.env["OPERATOR_SECRET"] = "hidden";
  await using workers = await localWorkers();
  const { worker, dial, home } = await workers.start("kite-1");
  await using transport = connect(workers, dial);
  const { stdout } = await transport.exec(["env"]);
  delete process.env["OPERATOR_SECRET"];
  const variables = new Map(
    stdout
      .trimEnd()
      .split("\n")
      .map((line): [string, string] => [
        line.slice(0, line.indexOf("=")),
        line.slice(line.indexOf("=") + 1),
      ]),
  );
  const expected = ["HOME", "LANG", "ORCHESTRATOR_WORKER", "PATH", "TMUX_TMPDIR"];
  const sshd = ["LOGNAME", "MAIL", "SHELL", "SSH_CLIENT", "SSH_CONNECTION", "USER"];
  const shell = ["OLDPWD", "PWD", "SHLVL", "_"];
  const known = new Set([...expected, ...sshd, ...shell]);
  assert.deepEqual(
    [...variables.keys()].filter((name) => !known.has(name)),
    [],
  );
  assert.equal(variables.get("HOME"), home);
  assert.equal(variables.get("ORCHESTRATOR_WORKER"), worker.id);
  assert.equal(variables.get("LANG"), "C.UTF-8");
});

test("only the given key may log in, and no forwarding is allowed", async () => {
  await using workers = await localWorkers();
  const { home } = await workers.start("kite-1");
  const config = await readFile(folderAt(join(home, "..")).sshdConfig, "utf8");
  for (const line of [
    "AuthenticationMethods publickey",
    "PasswordAuthentication no",
    "PermitRootLogin prohibit-password",
    "AllowTcpForwarding no",
    "UsePAM no",
    "StrictModes no",
  ]) {
    assert.match(config, new RegExp(`^${line}$`, "m"));
  }
  assert.match(config, /^ListenAddress 127\.0\.0\.1:[0-9]+$/m);
  assert.equal(config.match(/^SetEnv /gm)?.length, 1, "sshd reads only the first SetEnv line");
});

test("a worker outlives the controller that started it, and the next one finds it", async () => {
  await using workers = await localWorkers();
  const program = `
    import { localWorkers } from ${JSON.stringify(join(import.meta.dirname, "../support/local-workers.ts"))};
    const workers = await localWorkers({ root: ${JSON.stringify(workers.root)} });
    const authorizedKey = ${JSON.stringify(workers.keys.publicKey)};
    const made = await workers.provider.create({ name: "kite-1", fleetId: "f", nonce: "n", authorizedKey });
    await workers.provider.dial(made.id);
    process.kill(process.pid, "SIGKILL");
  `;
  const args = ["--input-type=module-typescript", "-e", program];
  const controller = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
  const [, signal] = await once(controller, "exit");
  assert.equal(signal, "SIGKILL");
  const [worker] = await workers.provider.list("kite-");
  assert.equal(worker?.state, "running");
  const sshd = await findSshd(folderAt(join(workers.root, "kite-1")), clock);
  const stat = await readFile(`/proc/${sshd?.process.pid}/stat`, "utf8");
  const session = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[3]);
  assert.equal(session, sshd?.process.pid, "no terminal's Ctrl-C reaches it");
  await using transport = connect(workers, await workers.provider.dial(worker?.id ?? ""));
  assert.equal((await transport.exec(["echo", "alive"])).stdout, "alive\n");
});

test("an sshd that died is started again on its port, on another when that is taken", async () => {
  await using workers = await localWorkers();
  const { worker, dial, home } = await workers.start("kite-1");
  const folder = folderAt(join(home, ".."));
  const kill = async () => {
    const running = await findSshd(folder, clock);
    assert.ok(running !== undefined);
    process.kill(running.process.pid, "SIGKILL");
    await until(async () => (await workers.provider.get(worker.id))?.state === "cold", {
      what: "the end of sshd",
    });
  };
  await kill();
  assert.deepEqual(await workers.provider.dial(worker.id), dial);
  await kill();
  const squatter = createServer();
  squatter.listen(dial.address.port, "127.0.0.1");
  await once(squatter, "listening");
  const moved = await workers.provider.dial(worker.id);
  squatter.close();
  assert.notEqual(moved.address.port, dial.address.port);
  assert.equal(moved.hostKey, dial.hostKey);
  await using transport = connect(workers, moved);
  assert.equal((await transport.exec(["true"])).code, 0);
});

test("another process with the recorded pid is not taken for the sshd, and lives on", async () => {
  await using workers = await localWorkers();
  using other = bystander();
  const { worker, home } = await workers.start("kite-1");
  const folder = folderAt(join(home, ".."));
  const running = await findSshd(folder, clock);
  assert.ok(running !== undefined);
  const record = await readFile(folder.sshdRecord, "utf8");
  const [boot, port, stat = ""] = record.split("\n");
  const look = async () => (await workers.provider.get(worker.id))?.state;

  const reused = stat.replace(/^[0-9]+/, String(other.pid));
  await writeFile(folder.sshdRecord, `${boot}\n${port}\n${reused}\n`);
  assert.equal(await look(), "cold", "the start time differs");
  await writeFile(folder.sshdRecord, `another-boot\n${port}\n${stat}\n`);
  assert.equal(await look(), "cold", "the boot differs");
  await writeFile(folder.sshdRecord, "");
  assert.equal(await look(), "cold", "half a record says nothing");

  await writeFile(folder.sshdRecord, `${boot}\n${port}\n${reused}\n`);
  await workers.provider.destroy(worker.id);
  assert.ok(isAlive(other.pid), "the bystander lives");
  assert.ok(!isAlive(running.process.pid), "the sshd is found by its log");
});

test("destroying ends tmux, background programs and sessions of that worker, and nothing else", async () => {
  await using workers = await localWorkers();
  const first = await workers.start("kite-1");
  const second = await workers.start("kite-2");
  using other = bystander({ ORCHESTRATOR_WORKER: `${first.worker.id}x` });
  const leave = `
    tmux new-session -d -s kite-dev 'trap "" TERM HUP; echo $$ >~/pane; while :; do sleep 1; done'
    setsid sh -c 'echo $$ >~/deaf; trap "" TERM HUP; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null &
    setsid env -i sleep 60 >/dev/null 2>&1 </dev/null & echo $! >~/wiped
    tmux display-message -p '#{pid}' >~/tmux
    until [ -s ~/pane ] && [ -s ~/deaf ]; do sleep 0.01; done
    cat ~/pane ~/deaf ~/tmux ~/wiped`;
  await using one = connect(workers, first.dial);
  await using two = connect(workers, second.dial);
  const stay = await one.stream(["sh", "-c", "echo $$; exec sleep 60"]);
  const pids = (await one.script(leave)).stdout.trim().split("\n").map(Number);
  const kept = (await two.script(leave)).stdout.trim().split("\n").map(Number);
  assert.equal(pids.length, 4);
  // What wiped its environment and lost its parent is the one thing that is not found.
  const wiped = pids.pop() ?? 0;
  const listener = await findSshd(folderAt(join(first.home, "..")), clock);
  const sessions = await findProcesses(first.worker.id, listener ? [listener.process] : []);
  assert.ok(sessions.length >= 6, `${sessions.length} processes`);

  const lost = one.disconnected();
  await workers.provider.destroy(first.worker.id);
  await assert.rejects(stay.result);
  await lost;
  assert.deepEqual([...pids, ...sessions.map(({ pid }) => pid)].filter(isAlive), []);
  assert.ok(!existsSync(join(workers.root, "kite-1")));
  assert.deepEqual(kept.filter(isAlive), kept, "the other worker's programs live");
  assert.ok(isAlive(other.pid), "a longer id is another id");
  assert.equal((await two.exec(["tmux", "has-session", "-t", "=kite-dev"])).code, 0);
  for (const pid of [wiped, kept.at(-1) ?? 0]) process.kill(pid, "SIGKILL");
});

test("an operator attaches to the worker's tmux without bringing their environment", async () => {
  await using workers = await localWorkers();
  const { worker, dial } = await workers.start("kite-1");
  await using transport = connect(workers, dial);
  await transport.exec(["tmux", "new-session", "-d", "-s", "kite-dev"]);
  const attach = await workers.provider.attachArgv?.(worker.id, "kite-dev");
  assert.ok(attach !== undefined);
  assert.ok(attach.argv.includes("-u"), "a client without UTF-8 can end the whole server");
  // script(1) gives the client a terminal, as the operator has.
  const client = spawn("script", ["-qfec", attach.argv.join(" "), "/dev/null"], {
    env: {
      PATH: process.env["PATH"] ?? "",
      TERM: "xterm",
      SSH_AUTH_SOCK: "/operator/agent",
      TMUX: "/operator/tmux,1,0",
      ...attach.env,
    },
    stdio: ["pipe", "ignore", "ignore"],
  });
  const attached = ["tmux", "list-clients", "-t", "=kite-dev", "-F", "#{client_utf8}"];
  await until(async () => (await transport.exec(attached)).stdout === "1\n", {
    what: "the attached client",
  });
  const shown = await transport.exec(["tmux", "show-environment", "-t", "=kite-dev"]);
  assert.doesNotMatch(shown.stdout, /operator/);
  const over = once(client, "exit");
  await transport.exec(["tmux", "detach-client", "-s", "=kite-dev"]);
  await over;
  await assert.rejects(async () => workers.provider.attachArgv?.("never-was", "kite-dev"), {
    failure: "gone",
  });
});

test("tmux works below a folder whose path is too long for a socket", async () => {
  const outer = await mkdtemp(join(tmpdir(), "ow-"));
  const root = join(outer, "long".repeat(20), "local");
  await mkdir(root, { recursive: true });
  let outside: string;
  {
    await using workers = await localWorkers({ root });
    const { worker, dial } = await workers.start("kite-1");
    await using transport = connect(workers, dial);
    await transport.exec(["tmux", "new-session", "-d", "-s", "kite-dev"]);
    outside = (await transport.script('printf %s "$TMUX_TMPDIR"')).stdout;
    const attach = await workers.provider.attachArgv?.(worker.id, "kite-dev");
    assert.equal(attach?.env["TMUX_TMPDIR"], outside);
    assert.match(outside, /^\/tmp\/orchestrator-/);
    assert.ok(existsSync(outside));
  }
  assert.ok(!existsSync(outside), "it is removed with its worker");
  await rm(outer, { recursive: true });
});

test("a worker whose labels are lost is shown, is nobody's, and is left alone", async () => {
  await using workers = await localWorkers();
  const { provider } = workers;
  const { worker, home } = await workers.start("kite-1");
  const labels = folderAt(join(home, "..")).labels;
  const text = await readFile(labels, "utf8");
  for (const broken of ["", "{", "{}", text.replace(worker.id, "../../x")]) {
    await writeFile(labels, broken);
    const [shown] = await provider.list("kite-");
    assert.deepEqual(
      [shown?.name, shown?.state, shown?.fleetId, shown?.nonce],
      ["kite-1", "unreachable", null, null],
    );
    await assertRefuses(provider.get(worker.id), "unavailable");
    await assertRefuses(provider.destroy(shown?.id ?? ""), "rejected");
    const authorizedKey = workers.keys.publicKey;
    const again = { name: "kite-1", fleetId: "fleet-a", nonce: "nonce-kite-1", authorizedKey };
    await assertRefuses(provider.create(again), "name_taken");
  }
  await writeFile(labels, text);
  assert.equal((await provider.get(worker.id))?.state, "running");
});

test("workers that cannot be looked at are not said to be none", async () => {
  const root = await mkdtemp(join(tmpdir(), "ow-"));
  const file = join(root, "file");
  await writeFile(file, "");
  const provider = localProvider({ root: file, clock, ids: randomIds() });
  await assertRefuses(provider.list(""), "unavailable");
  await assertRefuses(provider.get("local-x"), "unavailable");
  await assertRefuses(namesIn(file), "unavailable");
  await rm(root, { recursive: true });
});

test("a worker that takes the name while its former holder is destroyed is left alone", async () => {
  await using workers = await localWorkers();
  await using elsewhere = await localWorkers();
  const { worker } = await workers.start("kite-1");
  const other = await elsewhere.start("kite-1");
  let destroyed: Promise<void>;
  {
    await using held = await tryLock(workers.root, "kite-1");
    assert.ok(held !== undefined);
    destroyed = workers.provider.destroy(worker.id);
    // Its id was looked up before it began to wait for the lock; a look of ours comes after that.
    await workers.provider.list("");
    await rename(join(workers.root, "kite-1"), join(workers.root, "kite-2"));
    await rename(join(elsewhere.root, "kite-1"), join(workers.root, "kite-1"));
  }
  await destroyed;
  assert.equal((await workers.provider.list("kite-1"))[0]?.id, other.worker.id);
  await rename(join(workers.root, "kite-1"), join(elsewhere.root, "kite-1"));
  await rename(join(workers.root, "kite-2"), join(workers.root, "kite-1"));
});

test("no more workers are made than allowed", async () => {
  await using workers = await localWorkers({ maxWorkers: 1 });
  await workers.start("kite-1");
  assert.equal(await workers.provider.capacity(), 0);
  const refused = await assertRefuses(workers.start("kite-2"), "no_capacity");
  assert.deepEqual([refused.code, refused.retryable], ["nothing_available", true]);
  assert.equal((await workers.start("kite-1")).worker.name, "kite-1");
});

test("what a crash left of a creation or a removal is swept away, what is being built is not", async () => {
  await using workers = await localWorkers();
  const { home } = await workers.start("kite-1");
  await mkdir(join(workers.root, ".building-dead", "home"), { recursive: true });
  await mkdir(join(workers.root, ".building-live"));
  await mkdir(join(workers.root, ".removing-local-dead", "home"), { recursive: true });
  {
    await using _builder = await tryLock(workers.root, ".building-live");
    assert.deepEqual(
      (await workers.provider.list("")).map(({ name }) => name),
      ["kite-1"],
    );
    await workers.provider.destroy("never-was");
    assert.deepEqual((await readdir(workers.root)).sort(), [".building-live", "kite-1"]);
  }
  await workers.provider.destroy("never-was");
  assert.deepEqual(await readdir(workers.root), ["kite-1"]);
  assert.ok(existsSync(home));
});

test("a broken sshd is an error with its log, and a missing one says what to install", async () => {
  await using workers = await localWorkers();
  const authorizedKey = workers.keys.publicKey;
  const request = { name: "kite-1", fleetId: "fleet-a", nonce: "n", authorizedKey };
  const { id } = await workers.provider.create(request);
  const withSshd = (sshd: string) =>
    localProvider({ root: workers.root, clock, ids: randomIds(), sshd });
  const broken = await assertRefuses(withSshd("/bin/false").dial(id), "unavailable");
  assert.match(broken.hint ?? "", /sshd\.log/);
  await assertRefuses(withSshd("/nonexistent/sshd").dial(id), "unavailable");
  assert.equal((await workers.provider.get(id))?.state, "cold");
});
