import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { generateClientKeys } from "../support/client-keys.ts";
import { openSshTransport } from "../../src/transport/ssh.ts";
import type { ConnectSettings, Transport } from "../../src/transport/transport.ts";
import { assertFails } from "../conformance/transport.ts";
import { type SshServer, startSshServer } from "../fakes/ssh-server.ts";
import { until } from "../support/wait.ts";

/** Runs `body` with a transport to a server that can be told to misbehave. */
async function withServer(
  body: (transport: Transport, server: SshServer) => Promise<void>,
  overrides: Partial<ConnectSettings> = {},
): Promise<void> {
  const home = await mkdtemp(join(tmpdir(), "fake-"));
  const keys = generateClientKeys("test");
  const server = await startSshServer({ authorizedKey: keys.publicKey, home });
  const transport = openSshTransport({
    address: { kind: "tcp", host: "127.0.0.1", port: server.port, user: "worker" },
    privateKey: keys.privateKey,
    hostKey: server.hostKey,
    connectTimeoutMs: 5_000,
    keepaliveMs: 5_000,
    maxChannels: 4,
    execTimeoutMs: 5_000,
    ...overrides,
  });
  try {
    await body(transport, server);
  } finally {
    await transport.close();
    await server.close();
    await rm(home, { recursive: true, force: true });
  }
}

test("a connection that drops before the exit status leaves the outcome unknown", () =>
  withServer(async (transport, server) => {
    server.mode = "drop";
    await assertFails(transport.exec(["echo", "done"]), "connection_lost", "unknown");
    server.mode = "normal";
    assert.equal((await transport.exec(["echo", "again"])).stdout, "again\n");
  }));

test("a channel that closes without an exit status leaves the outcome unknown", () =>
  withServer(async (transport, server) => {
    server.mode = "no_status";
    await assertFails(transport.exec(["echo", "done"]), "connection_lost", "unknown");
    const stream = await transport.stream(["echo", "done"]);
    await assertFails(Array.fromAsync(stream.lines), "connection_lost", "unknown");
    assert.equal(transport.connected, true, "other calls go on");
  }));

test("a server that takes a command and stays mute is a time-out with an unknown outcome", () =>
  withServer(async (transport, server) => {
    await transport.exec(["true"]);
    server.mode = "mute";
    const call = transport.exec(["true"], { timeoutMs: 100 });
    await assertFails(call, "timeout", "unknown");
    server.mode = "normal";
    assert.equal((await transport.exec(["true"])).code, 0);
  }));

test("a stream that does not open within its deadline is a time-out", () =>
  withServer(
    async (transport, server) => {
      await transport.exec(["true"]);
      server.mode = "mute";
      await assertFails(transport.stream(["true"]), "timeout", "unknown");
    },
    { execTimeoutMs: 100 },
  ));

test("a refused channel is a command that did not start", () =>
  withServer(async (transport, server) => {
    server.mode = "refuse_channel";
    await assertFails(transport.exec(["true"]), "refused", "not-started");
    assert.deepEqual(server.commands, []);
    server.mode = "refuse_exec";
    await assertFails(transport.exec(["true"]), "refused", "unknown");
    server.mode = "normal";
    assert.equal((await transport.exec(["true"])).code, 0);
  }));

test("a late answer of the server to a call that is over harms nobody", () =>
  withServer(async (transport, server) => {
    await transport.exec(["true"]);
    server.delayMs = 100;
    await assertFails(transport.exec(["true"], { timeoutMs: 50 }), "timeout", "unknown");
    const slow = await transport.exec(["echo", "slow"]);
    assert.equal(slow.stdout, "slow\n");
  }));

test("no more channels are open than allowed", () =>
  withServer(
    async (transport, server) => {
      await Promise.all(Array.from({ length: 12 }, () => transport.exec(["true"])));
      assert.equal(server.mostChannels, 3);
    },
    { maxChannels: 3 },
  ));

test("a stream gives its channel back when it ends", () =>
  withServer(
    async (transport) => {
      for (let round = 0; round < 3; round += 1) {
        await using stream = await transport.stream(["echo", `${round}`]);
        assert.deepEqual(await Array.fromAsync(stream.lines), [`${round}`]);
      }
      const left = await transport.stream(["cat", "/dev/zero"]);
      left.close();
      assert.equal((await transport.exec(["true"])).code, 0);
    },
    { maxChannels: 1 },
  ));

test("a server that sends more than it was granted is hung up on before it fills the memory", () =>
  withServer(async (transport, server) => {
    await transport.exec(["true"]);
    server.mode = "overflow";
    const stream = await transport.stream(["true"]);
    await assertFails(stream.result, "connection_lost", "unknown");
    await until(() => server.connections === 0, { what: "the hang-up" });
  }));

test("a host key that changed between two connections is refused before the login", () =>
  withServer(
    async (transport, server) => {
      await transport.exec(["true"]);
      const lost = transport.disconnected();
      await server.changeHostKey();
      await lost;
      const attempts = server.authAttempts;
      await assertFails(transport.exec(["true"]), "host_key_changed", "not-started");
      assert.equal(server.authAttempts, attempts, "the key was not offered");
    },
    { hostKey: null, onHostKey: () => true },
  ));

test("a login costs one attempt", () =>
  withServer(async (transport, server) => {
    await transport.exec(["true"]);
    // One for the question whether the key will do, one with its signature.
    assert.equal(server.authAttempts, 2);
  }));

test("many calls on one connection leave no listener behind", () =>
  withServer(
    async (transport) => {
      const warnings: string[] = [];
      const note = (warning: Error) => warnings.push(warning.name);
      process.on("warning", note);
      for (let round = 0; round < 3; round += 1) {
        await Promise.all(Array.from({ length: 20 }, () => transport.exec(["true"])));
      }
      await new Promise((resolve) => setImmediate(resolve));
      process.off("warning", note);
      assert.deepEqual(warnings, []);
    },
    { maxChannels: 20 },
  ));
