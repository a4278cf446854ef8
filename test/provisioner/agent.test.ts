import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { parseOver, parseStart, startArchive } from "../../src/provisioner/agent.ts";
import { createProvisioner } from "../../src/provisioner/create.ts";
import { execScript } from "../../src/provisioner/exec-script.ts";
import { parseProbe } from "../../src/provisioner/probe.ts";
import { OrchestratorError } from "../../src/domain/errors.ts";
import { localTransport, type LocalTransport } from "../support/local-transport.ts";
import { until } from "../support/wait.ts";
import { FAKE_AGENT, SESSION, TestWorker, RUN } from "../support/worker.ts";

const provisioner = createProvisioner();

const connect = (worker: TestWorker): LocalTransport =>
  localTransport(worker.home, { TMUX_TMPDIR: worker.root });

function launchFiles(
  worker: TestWorker,
  launch: number,
  script: readonly string[],
  message: string,
) {
  const program = join(worker.root, `script-${launch}`);
  writeFileSync(program, script.map((line) => `${line}\n`).join(""));
  const exec = execScript({
    cwd: join(worker.home, "kite"),
    env: { QUOTED: "it's $HOME" },
    argv: [FAKE_AGENT, program],
    auth: "kite",
    message: { file: `prompt-${launch}`, bytes: Buffer.byteLength(message) },
  });
  return [
    { name: `exec-${launch}`, content: Buffer.from(exec), mode: 0o600 },
    { name: `prompt-${launch}`, content: Buffer.from(message), mode: 0o600 },
  ];
}

test("an agent is started, watched, named, talked to and stopped over a transport", async () => {
  using worker = new TestWorker();
  worker.openSession();
  await using transport = connect(worker);
  const record = join(worker.root, "record");
  const files = launchFiles(
    worker,
    1,
    [`record ${record}`, "say on screen", "hook Stop {}", "wait /nowhere"],
    "it's\n\n",
  );
  const input = { epoch: 4, run: RUN, launch: 1, session: SESSION, files };
  // The bundle of these tests is not the provisioner's: it is installed on the way.
  const started = await provisioner.start(transport, input);
  assert.equal(started.kind, "started");
  const pid = started.kind === "started" ? started.pid : 0;
  assert.deepEqual(await provisioner.start(transport, input), { kind: "adopted", pid });
  await until(() => worker.windowName() === "agent:completed", { what: "the turn's end" });
  assert.equal(readFileSync(`${record}.message`, "utf8"), "it's\n\n");
  assert.match(readFileSync(`/proc/${pid}/environ`, "utf8"), /\0QUOTED=it's \$HOME\0/);

  const probe = await provisioner.probe(transport, SESSION);
  assert.deepEqual(probe.agent, { alive: true, pid });
  assert.deepEqual(probe.current, { run: RUN, launch: 1 });
  assert.deepEqual([probe.fence, probe.attached, probe.registry, probe.owner], [4, 0, null, null]);
  assert.deepEqual(
    probe.windows.map(({ name }) => name),
    ["shell", "agent:completed"],
  );
  assert.equal(
    (await provisioner.probe(transport, SESSION, { run: "run-b", launch: 1 })).agent,
    null,
  );

  assert.match(await provisioner.screen(transport, SESSION), /^on screen/);
  await provisioner.nameWindow(transport, SESSION, "error", "dialog: trust\u001b[31m");
  assert.equal(worker.windowName(), "agent:error");
  assert.equal(worker.show("#{@reason}"), "dialog: trust");
  await provisioner.sendKeys(transport, SESSION, ["C-l"]);
  await provisioner.paste(transport, SESSION, "text\n");
  for (const bad of ["", "a\u001bb", "\r", "\u009b"]) {
    await assert.rejects(provisioner.paste(transport, SESSION, bad), { code: "invalid_input" });
  }
  assert.equal(await provisioner.revoke(transport, RUN, 1), "taken");
  assert.equal(await provisioner.revoke(transport, RUN, 2), "revoked");
  assert.deepEqual(await provisioner.start(transport, { ...input, launch: 2 }), {
    kind: "revoked",
  });
  const alive = await provisioner.over(transport, RUN, 1);
  assert.ok(alive.kind === "alive" && alive.pids.includes(pid));
  assert.equal((await provisioner.stop(transport, { ...input, graceMs: 2_000 })).kind, "over");
  assert.equal((await provisioner.over(transport, RUN, 1)).kind, "over");
  assert.deepEqual(await provisioner.over(transport, RUN, 9), { kind: "alive", pids: [] });
  await assert.rejects(provisioner.sendKeys(transport, SESSION, ["Enter"]), { code: "not_found" });
  await assert.rejects(provisioner.screen(transport, "absent"), { code: "not_found" });
});

test("a higher epoch on the worker is lease_stale with its number", async () => {
  using worker = new TestWorker();
  worker.openSession();
  await using transport = connect(worker);
  const input = {
    run: RUN,
    launch: 1,
    session: SESSION,
    graceMs: 100,
    files: launchFiles(worker, 1, ["exit 0"], "m"),
  };
  await provisioner.stop(transport, { ...input, epoch: 9 });
  for (const call of [
    () => provisioner.start(transport, { ...input, epoch: 8 }),
    () => provisioner.stop(transport, { ...input, epoch: 8 }),
  ]) {
    await assert.rejects(
      call(),
      (error) =>
        error instanceof OrchestratorError &&
        error.code === "lease_stale" &&
        error.details["highest_epoch"] === 9,
    );
  }
});

test("a payload is read whole, and an absent one is empty", async () => {
  using worker = new TestWorker();
  await using transport = connect(worker);
  const text = JSON.stringify({ prompt: "é😀".repeat(300_000) });
  await provisioner.probe(transport, SESSION);
  await worker.shell('mkdir -p "$1"', [worker.path("runs", RUN, "payloads")]);
  writeFileSync(worker.path("runs", RUN, "payloads", "1-2-3-Stop"), text);
  assert.equal(await provisioner.payload(transport, RUN, "1-2-3-Stop"), text);
  assert.equal(await provisioner.payload(transport, RUN, "1-2-3-Gone"), "");
  await assert.rejects(provisioner.payload(transport, RUN, "../current"), { code: "internal" });
});

test("a worker that was never prepared is probed as an empty one", async () => {
  using worker = new TestWorker();
  await using transport = connect(worker);
  await worker.shell('rm -rf "$1"', [worker.path()]);
  const probe = await provisioner.probe(transport, SESSION);
  assert.deepEqual(
    { ...probe, bootId: "" },
    {
      bootId: "",
      owner: null,
      fence: 0,
      attached: 0,
      windows: [],
      current: null,
      agent: null,
      registry: null,
      pulseAgeMs: null,
    },
  );
  assert.ok(existsSync(worker.path("bin", "probe")));
});

test("answers that no script gives are not taken for answers", () => {
  for (const text of [
    "",
    "started\t\n",
    "started\t-1\n",
    "adopted\tx\n",
    "begun\t1\n",
    "started 1\n",
  ])
    assert.equal(parseStart(text), undefined, text);
  assert.deepEqual(parseStart("unknown\ta\u001b[2Jb\n"), { kind: "unknown", why: "ab" });
  for (const text of ["", "alive\tx\n", "alive\t1\t\n", "dead\n"])
    assert.equal(parseOver(text), undefined, text);
  assert.deepEqual(parseOver("alive\t1\t22\n"), { kind: "alive", pids: [1, 22] });
  assert.equal(parseProbe(""), undefined);
  assert.equal(parseProbe("fence\t3\n"), undefined);
  const hostile = parseProbe(
    `boot\tabc\nfence\tx\nattached\t-1\nwindow\t@1\tx\t2\t0\tn\nwindow\t1\t1\t2\t0\tn\nwindow\t@1\t1\t5\t1\ta\u202e\tb\u001b[31mc\nagent\talive\t0x1\ncurrent\t../x\t1\nregistry\t\tx\npulse\t3\n`,
  );
  assert.deepEqual(hostile, {
    bootId: "abc",
    owner: null,
    fence: 0,
    attached: 0,
    windows: [{ id: "@1", index: 1, panePid: 5, dead: true, name: "a bc" }],
    current: null,
    agent: null,
    registry: null,
    pulseAgeMs: 3_000,
  });
  assert.throws(() => startArchive([{ name: "../x", content: new Uint8Array(), mode: 0o600 }]));
});
