import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import type { RunDetailView, WorkerView } from "../../src/operations/views.ts";
import { cli, controllerProcess } from "../support/controller-process.ts";
import { controllerLog } from "../support/installation.ts";
import { network } from "../support/network.ts";
import { hostInput } from "../support/ssh-fleet.ts";
import { sshInstallation, type SshInstallation } from "../support/ssh-installation.ts";
import { until } from "../support/wait.ts";

const net = network();

const waiting = (installed: SshInstallation) =>
  `echo begun >> README.md; until [ -e ${join(installed.home, "go")} ]; do sleep 0.05; done; echo ended >> README.md`;
const go = (installed: SshInstallation) => writeFileSync(join(installed.home, "go"), "");
const worker = async (installed: SshInstallation, name: string): Promise<WorkerView | undefined> =>
  (await installed.call<WorkerView[]>("worker.list", { all: false })).find(
    (one) => one.worker === name,
  );
const shown = (installed: SshInstallation, run: string) =>
  installed.call<RunDetailView>("run.show", { run_id: run });
const blocked = (installed: SshInstallation, run: string, reason: RegExp) =>
  until(
    async () => {
      const view = await shown(installed, run);
      return view.state === "blocked" && reason.test(view.state_reason ?? "");
    },
    { what: `a blocked run ${reason}`, timeoutMs: 90_000 },
  ).catch(async (error: unknown) => {
    throw new Error(
      JSON.stringify([await shown(installed, run), controllerLog(installed)], null, 1),
      { cause: error },
    );
  });

void describe("SSH hosts in networks of their own", { concurrency: 5 }, () => {
  test("the whole way by the command line: a host behind a jump host is taken, works, is given back, and is taken again", async () => {
    await using installed = sshInstallation();
    const { machines } = installed;
    const gate = await machines.machine("gate", {
      ...net.machine("gate"),
      port: 22,
      forwards: true,
    });
    const deep = await machines.machine("deep", { ...net.behind("gate", "deep"), port: 22 });
    writeFileSync(
      join(String(installed.env["HOME"]), ".ssh", "config"),
      `Host deep\n  HostName ${deep.address}\n  ProxyJump gate\nHost gate\n  HostName ${gate.address}\n`,
    );
    installed.hosts([{ name: "deep" }], { push: "branch" });
    await using _controller = await controllerProcess(installed);
    const dispatch = (text: string, ...more: string[]) =>
      cli(installed, ["--repo", "kite", "--command", text, "--wait", "--json", ...more]);
    const first = await dispatch(
      "echo $HOME > where.txt && git add -A && git commit -qm work && git branch --show-current",
    );
    assert.equal(first.code, 0, first.stderr + first.stdout + controllerLog(installed));
    const list = await cli(installed, ["run", "show", "latest", "--json"]);
    const run = JSON.parse(list.stdout) as RunDetailView;
    assert.equal(run.worker, "kite-1");
    assert.equal(run.report?.summary?.trim(), `orchestrator/${run.run_id}`);
    const diff = await cli(installed, ["run", "diff", "latest"]);
    assert.match(diff.stdout, new RegExp(`^\\+${deep.home}$`, "m"));

    const second = await cli(installed, [
      "--repo",
      "kite",
      "--command",
      "true",
      "--on-full",
      "fail",
    ]);
    assert.equal(second.code, 0, second.stderr);
    await until(async () => (await cli(installed, ["worker", "busy", "kite-1"])).code === 3, {
      what: "an idle worker",
      timeoutMs: 30_000,
    });
    const full = await cli(installed, ["worker", "create", "--repo", "kite"]);
    assert.equal(full.code, 3, full.stdout + full.stderr);
    const destroyed = await cli(installed, ["worker", "destroy", "kite-1"]);
    assert.equal(destroyed.code, 0, destroyed.stderr);
    assert.equal(existsSync(join(deep.home, ".orchestrator")), false);
    assert.equal(existsSync(join(deep.home, "kite")), false);
    const again = await dispatch("test ! -e where.txt");
    assert.equal(again.code, 0, again.stderr + again.stdout);
    assert.ok(existsSync(join(deep.home, ".orchestrator", "claim")));
  });

  test("a host that is down at dispatch is passed over, and is used when it is back", async () => {
    await using installed = sshInstallation();
    const { machines } = installed;
    const one = await machines.machine("one", { ...net.machine("one"), port: 22 });
    const two = await machines.machine("two", { ...net.machine("two"), port: 22 });
    net.link("one", "down");
    installed.hosts([hostInput(one), hostInput(two)]);
    const first = await installed.dispatch(waiting(installed));
    await installed.wait(first.run_id, "delivered");
    assert.ok(existsSync(join(two.home, "kite")));
    const queued = await installed.dispatch("true");
    await until(
      async () => {
        const { state, reason } = await shown(installed, queued.run_id);
        return state === "queued" && /the provider is full/.test(reason ?? "");
      },
      { what: "a task that waits for room", timeoutMs: 30_000 },
    );
    net.link("one", "up");
    const ended = await installed.wait(queued.run_id, "ended", 90_000);
    assert.deepEqual(
      [ended.state, ended.worker],
      ["completed", "kite-2"],
      controllerLog(installed),
    );
    assert.ok(existsSync(join(one.home, "kite")));
    go(installed);
    assert.equal((await installed.wait(first.run_id)).state, "completed");
  });

  test("a link that goes down during a run blocks it as unreachable, and it heals by itself when the link is back", async () => {
    await using installed = sshInstallation();
    const host = await installed.machines.machine("flaky", { ...net.machine("flaky"), port: 22 });
    installed.hosts([hostInput(host)]);
    const run = await installed.dispatch(waiting(installed));
    await installed.wait(run.run_id, "delivered");
    net.link("flaky", "down");
    await blocked(installed, run.run_id, /^unreachable: /);
    assert.notEqual((await worker(installed, "kite-1"))?.allocation, "destroyed");
    go(installed);
    net.link("flaky", "up");
    const ended = await installed.wait(run.run_id, "ended", 90_000);
    assert.equal(ended.state, "completed", JSON.stringify(ended) + controllerLog(installed));
    const { diff } = await installed.call<{ diff: string }>("run.diff", { run_id: run.run_id });
    assert.match(diff, /^\+begun\n\+ended$/m, "the agent went on all the time, once");
  });

  test("another host key in the middle of a run is refused with the reason, and the run goes on when the former key is back", async () => {
    await using installed = sshInstallation();
    const host = await installed.machines.machine("rekeyed", {
      ...net.machine("rekeyed"),
      port: 22,
    });
    installed.hosts([hostInput(host)]);
    const run = await installed.dispatch(waiting(installed));
    await installed.wait(run.run_id, "delivered");
    const former = host.hostKey();
    await host.stop();
    host.changeHostKey("new");
    await host.start();
    await blocked(
      installed,
      run.run_id,
      new RegExp(
        `^unreachable: .*host key ${host.hostKey().replaceAll("+", "\\+")}.*${former.replaceAll("+", "\\+")}`,
      ),
    );
    await host.stop();
    host.changeHostKey("former");
    await host.start();
    go(installed);
    const ended = await installed.wait(run.run_id, "ended", 90_000);
    assert.equal(ended.state, "completed", controllerLog(installed));
  });

  test("a host that reboots during a run loses the agent, never the work, and is used again", async () => {
    await using installed = sshInstallation();
    const host = await installed.machines.machine("rebooted", {
      ...net.machine("rebooted"),
      port: 22,
    });
    installed.hosts([hostInput(host)]);
    const run = await installed.dispatch(waiting(installed));
    await installed.wait(run.run_id, "delivered");
    const readme = join(host.home, "kite", "README.md");
    await until(() => readFileSync(readme, "utf8").includes("begun"), { what: "the agent's work" });
    const bootId = async () => {
      const argv = ["cat", "/proc/sys/kernel/random/boot_id"];
      return (await installed.call<{ stdout: string }>("worker.exec", { worker: "kite-1", argv }))
        .stdout;
    };
    const former = await bootId();
    await host.reboot();
    const settled = await installed.wait(run.run_id, "settled", 120_000);
    assert.notEqual(await bootId(), former);
    assert.match(
      settled.state,
      /^(failed|blocked)$/,
      JSON.stringify(settled, null, 1) + controllerLog(installed),
    );
    if (settled.state === "blocked") await installed.call("run.cancel", { run_id: run.run_id });
    const ended = await installed.wait(run.run_id, "ended", 60_000);
    assert.equal(ended.unrescued, false, JSON.stringify(ended));
    const { diff } = await installed.call<{ diff: string }>("run.diff", { run_id: run.run_id });
    assert.match(diff, /^\+begun$/m);
    assert.doesNotMatch(diff, /ended/);
    go(installed);
    const next = await installed.wait((await installed.dispatch("tmux -V")).run_id);
    assert.deepEqual([next.state, next.worker], ["completed", "kite-1"], JSON.stringify(next));
  });
});
