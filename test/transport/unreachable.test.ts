import assert from "node:assert/strict";
import { once } from "node:events";
import { type Server, type Socket, createServer } from "node:net";
import { test } from "node:test";

import { OrchestratorError } from "../../src/domain/errors.ts";
import { dialTcp } from "../../src/transport/dial.ts";
import { generateClientKeys } from "../support/client-keys.ts";
import { openSshTransport } from "../../src/transport/ssh.ts";
import type { ConnectSettings } from "../../src/transport/transport.ts";
import { assertFails } from "../conformance/transport.ts";

const { privateKey } = generateClientKeys("test");

const settings = (port: number): ConnectSettings => ({
  address: { kind: "tcp", host: "127.0.0.1", port, user: "worker" },
  privateKey,
  hostKey: null,
  onHostKey: () => true,
  connectTimeoutMs: 5_000,
  keepaliveMs: 1_000,
  maxChannels: 4,
  execTimeoutMs: 5_000,
});

/** A listener that treats every connection as told; its sockets are destroyed at the end. */
async function listener(
  behave: (socket: Socket) => void,
): Promise<{ port: number; sockets: Socket[] } & AsyncDisposable> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    // An end is only noticed by who reads.
    socket.resume();
    behave(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { port: portOf(server), sockets, [Symbol.asyncDispose]: () => stop(server, sockets) };
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

function stop(server: Server, sockets: readonly Socket[]): Promise<void> {
  for (const socket of sockets) socket.destroy();
  return new Promise((resolve) => server.close(() => resolve()));
}

/** One call to a port; fails at once, or after its time-out. */
async function callFails(
  port: number,
  failure: Parameters<typeof assertFails>[1],
  overrides: Partial<ConnectSettings> = {},
): Promise<number> {
  await using transport = openSshTransport({ ...settings(port), ...overrides });
  const started = performance.now();
  const error = await assertFails(transport.exec(["true"]), failure, "not-started");
  assert.match(
    error.message,
    new RegExp(`127\\.0\\.0\\.1:${port}`),
    "the message names the worker",
  );
  assert.equal(error.code, "unreachable");
  return performance.now() - started;
}

test("a port where nobody listens refuses", async () => {
  const closed = await listener(() => {});
  await closed[Symbol.asyncDispose]();
  await callFails(closed.port, "refused");
});

test("a server that stays mute is a time-out, after the time given", async () => {
  await using mute = await listener(() => {});
  const took = await callFails(mute.port, "timeout", { connectTimeoutMs: 150 });
  assert.ok(took >= 140, `gave up after ${took} ms`);
});

test("a server that stays mute after its banner is a time-out", async () => {
  await using mute = await listener((socket) => socket.write("SSH-2.0-mute\r\n"));
  await callFails(mute.port, "timeout", { connectTimeoutMs: 150 });
});

test("a server that closes before or after its banner breaks the handshake", async () => {
  await using closing = await listener((socket) => socket.end());
  await callFails(closing.port, "handshake");
  await using ending = await listener((socket) => socket.end("SSH-2.0-end\r\n"));
  await callFails(ending.port, "handshake");
  await using resetting = await listener((socket) => socket.resetAndDestroy());
  await callFails(resetting.port, "handshake");
});

test("a server that speaks something else breaks the handshake, and is hung up on", async () => {
  const nonsense = `SSH-2.0-x\r\n${"nonsense".repeat(4_000)}`;
  await using server = await listener((socket) => socket.write(nonsense));
  await callFails(server.port, "handshake");
  const [socket] = server.sockets;
  if (socket !== undefined && !socket.destroyed) await once(socket, "close");
});

test("many callers share one attempt, and each learns its failure", async () => {
  await using closing = await listener((socket) => socket.end());
  await using transport = openSshTransport(settings(closing.port));
  const calls = Array.from({ length: 4 }, () => transport.exec(["true"]));
  await Promise.all(calls.map((call) => assertFails(call, "handshake", "not-started")));
  assert.equal(closing.sockets.length, 1);
});

test("a caller who gives up while the connection opens does not end it for the others", async () => {
  await using mute = await listener(() => {});
  await using transport = openSshTransport({ ...settings(mute.port), connectTimeoutMs: 200 });
  const giveUp = new AbortController();
  const first = transport.exec(["true"], { signal: giveUp.signal });
  const second = transport.exec(["true"]);
  giveUp.abort();
  await assertFails(first, "aborted", "not-started");
  await assertFails(second, "timeout", "not-started");
});

test("a private key that cannot be read is a mistake of the configuration", async () => {
  await using mute = await listener(() => {});
  await using transport = openSshTransport({ ...settings(mute.port), privateKey: "no key" });
  await assert.rejects(
    transport.exec(["true"]),
    (error) => error instanceof OrchestratorError && error.code === "invalid_config",
  );
});

test("the socket never waits to fill a packet, from the first byte on", async () => {
  await using server = await listener(() => {});
  const { address } = settings(server.port);
  const socket = await dialTcp(address, new AbortController().signal);
  // Node keeps what was set under a symbol and shows it nowhere else.
  const key = Object.getOwnPropertySymbols(socket).find((one) => one.description === "kSetNoDelay");
  assert.ok(key !== undefined, "Node still keeps the flag where this test looks");
  assert.equal(Reflect.get(socket, key), true);
  socket.destroy();
});
