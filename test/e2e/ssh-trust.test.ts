import assert from "node:assert/strict";
import { test } from "node:test";

import { cli, controllerProcess } from "../support/controller-process.ts";
import { hostInput } from "../support/ssh-fleet.ts";
import { sshInstallation } from "../support/ssh-installation.ts";

test("the command line says which key a host shows now and which is pinned, and accepts the new one by name", async () => {
  await using installed = sshInstallation();
  const host = await installed.machines.machine("mini");
  installed.hosts([hostInput(host)]);
  await using _controller = await controllerProcess(installed);
  assert.equal((await cli(installed, ["worker", "create", "--repo", "kite"])).code, 0);
  const former = host.hostKey();
  await host.stop();
  host.changeHostKey("new");
  await host.start();
  const exec = () => cli(installed, ["worker", "exec", "kite-1", "--", "true"]);
  // The first call may still meet the connection that was just lost.
  await exec();
  const refused = await exec();
  assert.equal(refused.code, 8, refused.stderr);
  assert.ok(
    refused.stderr.includes(former) && refused.stderr.includes(host.hostKey()),
    refused.stderr,
  );
  assert.ok(
    refused.stderr.includes(`orchestrator worker trust kite-1 --host-key ${host.hostKey()}`),
  );
  const unnamed = await cli(installed, ["worker", "trust", "kite-1"]);
  assert.equal(unnamed.code, 2, unnamed.stderr);
  const trusted = await cli(installed, ["worker", "trust", "kite-1", "--host-key", host.hostKey()]);
  assert.deepEqual(
    [trusted.code, trusted.stdout],
    [0, `trusted: mini may show ${host.hostKey()}\n`],
  );
  assert.equal((await exec()).code, 0);
  const events = await cli(installed, ["events", "--json"]);
  assert.match(events.stdout, /"worker\.host_key_trusted"/);
});

test("a pool on SSH hosts without a list says so", async () => {
  await using installed = sshInstallation();
  installed.hosts([]);
  await using _controller = await controllerProcess(installed);
  const dry = await cli(installed, ["--repo", "kite", "--command", "true", "--dry-run"]);
  assert.equal(dry.code, 2, dry.stdout + dry.stderr);
  assert.match(dry.stderr, /lists no host for the provider ssh/);
});
