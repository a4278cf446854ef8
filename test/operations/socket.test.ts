import assert from "node:assert/strict";
import { lstat, readdir, rename, writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { OrchestratorError } from "../../src/domain/errors.ts";
import { connectController, isLost, type Client } from "../../src/operations/client.ts";
import { encodeLine, MAX_REQUEST_BYTES } from "../../src/operations/wire.ts";
import { fakeController, temporaryHome, type Handler } from "../support/fake-services.ts";
import { event, RUN } from "../support/views.ts";
import { until } from "../support/wait.ts";

const VERSION = "0.1.0";

async function pair(
  handlers: Readonly<Record<string, Handler>>,
  options: {
    readonly version?: string;
    readonly pulseMs?: number;
    readonly silentMs?: number;
  } = {},
) {
  const home = await temporaryHome();
  const path = join(home.path, "c.sock");
  const controller = await fakeController(path, handlers, options);
  const opened = await connectController({
    path,
    version: VERSION,
    silentMs: options.silentMs ?? 10_000,
  });
  assert.ok(opened);
  const client: Client = opened;
  return {
    path,
    controller,
    client,
    [Symbol.asyncDispose]: async () => {
      await client.close();
      await controller.stop();
      await home[Symbol.asyncDispose]();
    },
  };
}

async function errorOf(act: () => Promise<unknown>): Promise<OrchestratorError> {
  try {
    await act();
  } catch (error) {
    assert.ok(error instanceof OrchestratorError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: "it should have been refused" });
}

/** Talks to the socket by hand: everything that comes back until it closes or `lines` are there. */
async function raw(path: string, bytes: Buffer | string, lines = 1): Promise<string[]> {
  const socket = connect({ path });
  let text = "";
  let closed = false;
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    closed = true;
  });
  socket.write(bytes);
  await until(() => closed || text.split("\n").length > lines, { what: "an answer" });
  socket.destroy();
  return text.split("\n").filter((line) => line !== "");
}

test("a call is answered, and many at once each get their own answer", async () => {
  await using own = await pair({
    "run.show": (input: { run_id: string }) => ({ ...RUN, run_id: input.run_id }),
  });
  const ids = Array.from({ length: 50 }, (_, index) => `run-${index}`);
  const answers = await Promise.all(ids.map((run_id) => own.client.call("run.show", { run_id })));
  assert.deepEqual(
    answers.map((answer) => (answer as { run_id: string }).run_id),
    ids,
  );
});

test("wrong input is one invalid_input that names the field, and no handler sees it", async () => {
  await using own = await pair({ "run.list": () => [], "run.show": () => RUN });
  const wrong: ReadonlyArray<readonly [string, object, RegExp]> = [
    ["run.list", { limit: 0 }, /^limit: /],
    ["run.list", { repo: "../etc" }, /^repo: /],
    ["run.list", { "extra\u001b[2J": 1 }, /^input: "extra\\u001b\[2J" is not known here/],
    ["run.show", { run_id: "#(touch x)" }, /^run_id: /],
    ["run.show", {}, /^run_id: /],
    ["no.such", {}, /^there is no operation "no\.such"/],
  ];
  for (const [op, input, message] of wrong) {
    const error = await errorOf(() => own.client.call(op, input));
    assert.equal(error.code, "invalid_input");
    assert.match(error.message, message);
  }
  assert.deepEqual(own.controller.calls, []);
});

test("an error crosses with its code, hint and details; an unexpected one is internal", async () => {
  await using own = await pair({
    "run.show": () => {
      throw new OrchestratorError("not_found", "there is no run x", {
        hint: "look",
        details: { a: 1 },
      });
    },
    "run.list": () => {
      throw new TypeError("boom");
    },
    status: () => ({ workers: "none", runs: [] }),
  });
  const known = await errorOf(() => own.client.call("run.show", { run_id: "run-1" }));
  assert.deepEqual(
    [known.code, known.message, known.hint, known.details],
    ["not_found", "there is no run x", "look", { a: 1 }],
  );
  assert.equal((await errorOf(() => own.client.call("run.list", {}))).code, "internal");
  const broken = await errorOf(() => own.client.call("status", {}));
  assert.match(broken.message, /^the answer of status breaks its contract at workers: /);
});

test("garbage never harms the server: it is answered once and the connection closed", async () => {
  await using own = await pair({ "run.list": () => [] });
  const hostile: ReadonlyArray<Buffer | string> = [
    "GET / HTTP/1.1\r\n\r\n",
    "{}\n",
    '{"id":1,"v":1}\n',
    Buffer.from([0, 255, 254, 10]),
    `${"[".repeat(300_000)}\n`,
    Buffer.alloc(MAX_REQUEST_BYTES + 2, 97),
    `${'{"id":7,"v":1,"op":"run.list","input":{}}\n'.repeat(2)}{"id":`,
  ];
  for (const bytes of hostile.slice(0, -1)) {
    const lines = await raw(own.path, bytes);
    const last = JSON.parse(lines.at(-1) ?? "null") as { id: null; error: { code: string } };
    assert.equal(last.id, null);
    assert.equal(last.error.code, "invalid_input");
  }
  await raw(own.path, hostile.at(-1) ?? "");
  const poisoned = '{"v":1,"id":1,"op":"run.list","input":{"__proto__":{"polluted":1}}}\n';
  assert.match((await raw(own.path, poisoned))[0] ?? "", /invalid_input|"value"/);
  assert.equal(({} as Record<string, unknown>)["polluted"], undefined);
  assert.deepEqual(await own.client.call("run.list", {}), []);
});

test("a stream ends, fails, and is cancelled when its reader leaves or the connection goes", async () => {
  let aborted = 0;
  await using own = await pair({
    async *"events.follow"(input: { after: number }, signal: AbortSignal) {
      for (let count = 0; count < 3; count += 1) yield event("run.status");
      if (input.after === 1) throw new OrchestratorError("truncated", "too old");
      if (input.after === 2) return;
      await new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => resolve());
      });
      aborted += 1;
    },
  });
  const read = async (after: number) => {
    let count = 0;
    for await (const _ of own.client.stream("events.follow", { after })) count += 1;
    return count;
  };
  assert.equal(await read(2), 3);
  assert.equal((await errorOf(() => read(1))).code, "truncated");
  for await (const _ of own.client.stream("events.follow", { after: 0 })) break;
  await until(() => aborted === 1, { what: "the handler to hear that its reader left" });
  const stop = new AbortController();
  const ended = errorOf(async () => {
    let count = 0;
    for await (const _ of own.client.stream("events.follow", { after: 0 }, stop.signal)) {
      count += 1;
      if (count === 3) stop.abort(new OrchestratorError("internal", "enough"));
    }
  });
  assert.equal((await ended).message, "enough");
  await until(() => aborted === 2, { what: "the handler to hear of the signal" });
  const other = await connectController({ path: own.path, version: VERSION });
  assert.ok(other);
  const left = errorOf(async () => {
    for await (const _ of other.stream("events.follow", { after: 0 })) void other.close();
  });
  assert.equal((await left).code, "unreachable");
  await until(() => aborted === 3, { what: "the handler to hear that the connection went" });
  assert.equal(await read(2), 3, "the other connection goes on");
});

test("a slow reader slows the server down instead of filling its memory", async () => {
  let made = 0;
  const filler = "x".repeat(10_000);
  await using own = await pair({
    async *"events.follow"() {
      while (made < 3_000) {
        made += 1;
        yield event("run.status", { filler });
      }
    },
  });
  let read = 0;
  for await (const _ of own.client.stream("events.follow", {})) {
    read += 1;
    if (read > 1) continue;
    let before = -1;
    // The server stands still once every buffer between us is full.
    await until(
      async () => {
        const still = made === before;
        before = made;
        await delay(20);
        return still;
      },
      { what: "the server to pause" },
    );
    assert.ok(made < 1_500, `${made} items of 10 kB were made for one that was read`);
  }
  assert.equal(read, 3_000);
});

/** A server of our own words at `path`. */
async function listening(path: string, take: (socket: Socket) => void) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    take(socket);
  });
  await new Promise<void>((resolve) => {
    server.listen(path, resolve);
  });
  return {
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => {
        server.close(resolve);
      });
    },
  };
}

test("a controller that takes the connection and stays silent is unreachable; one that works is not", async () => {
  await using home = await temporaryHome();
  const path = join(home.path, "mute.sock");
  await using mute = await listening(path, () => {});
  const client = await connectController({ path, version: VERSION, silentMs: 60 });
  const error = await errorOf(async () => client?.call("run.list", {}));
  assert.equal(error.code, "unreachable");
  assert.match(error.message, /silent for 0\.06 s/);
  await mute[Symbol.asyncDispose]();

  let answer = () => {};
  await using own = await pair(
    {
      "run.list": () =>
        new Promise((resolve) => {
          answer = () => resolve([]);
        }),
    },
    { pulseMs: 20, silentMs: 200 },
  );
  const slow = own.client.call("run.list", {});
  // Longer than the client would bear without a pulse.
  await delay(500);
  answer();
  assert.deepEqual(await slow, []);
});

test("a connection that ends before the answer says so", async () => {
  await using own = await pair({ "run.list": () => new Promise(() => {}) });
  const waiting = errorOf(() => own.client.call("run.list", {}));
  await until(() => own.controller.calls.length === 1, { what: "the call to arrive" });
  const raced = connect({ path: own.path });
  raced.destroy();
  // A handler that does not heed its signal is waited for only so long; here the client is cut off first.
  await own.client.close();
  const error = await waiting;
  assert.equal(error.code, "unreachable");
  await using home = await temporaryHome();
  const path = join(home.path, "cut.sock");
  await using _ = await listening(path, (socket) => socket.once("data", () => socket.destroy()));
  const client = await connectController({ path, version: VERSION });
  const lost = await errorOf(async () => client?.call("run.list", {}));
  assert.ok(isLost(lost));
});

test("another version is told apart, but can always be asked and stopped", async () => {
  await using own = await pair(
    {
      "run.list": () => [],
      "controller.stop": () => ({ stopping: true, live_runs: 0 }),
      "controller.ping": () => ({
        pid: 1,
        version: "9.9.9",
        fleet_id: "f",
        started_at: 0,
        live_runs: 0,
      }),
    },
    { version: "9.9.9" },
  );
  const error = await errorOf(() => own.client.call("run.list", {}));
  assert.equal(error.code, "unhealthy");
  assert.match(error.message, /version 9\.9\.9.*version "0\.1\.0"/);
  assert.match(error.hint ?? "", /orchestrator stop/);
  await own.client.call("controller.ping", {});
  await own.client.call("controller.stop", {});
  const [line] = await raw(own.path, encodeLine({ v: 2, id: 1, op: "controller.stop", input: {} }));
  assert.match(line ?? "", /"value"/);
  const [refused] = await raw(own.path, encodeLine({ v: 2, id: 1, op: "run.list", input: {} }));
  assert.match(refused ?? "", /"unhealthy"/);
});

test("the socket is private, appears whole, and is gone after a stop", async () => {
  await using own = await pair({});
  const found = await lstat(own.path);
  assert.equal(found.mode & 0o777, 0o600);
  assert.deepEqual(await readdir(join(own.path, "..")), ["c.sock"]);
  await own.controller.stop();
  await own.controller.stop();
  assert.deepEqual(await readdir(join(own.path, "..")), []);
  assert.equal(await connectController({ path: own.path, version: VERSION }), undefined);
});

test("a stale socket is replaced; one that answers, or another file, is not", async () => {
  await using home = await temporaryHome();
  const path = join(home.path, "c.sock");
  await using first = await fakeController(path, { "run.list": () => [] });
  const second = await errorOf(async () => {
    await using _ = await fakeController(path, {});
  });
  assert.equal(second.code, "lease_held");
  assert.deepEqual(first.calls, []);
  // As after a kill: the file stays, nobody listens. (Closing would remove it under its first name.)
  const kept = join(home.path, "kept.sock");
  {
    await using _ = await listening(join(home.path, "dead.sock"), () => {});
    await rename(join(home.path, "dead.sock"), kept);
  }
  assert.equal(await connectController({ path: kept, version: VERSION }), undefined);
  await using _ = await fakeController(kept, { "run.list": () => [] });
  const client = await connectController({ path: kept, version: VERSION });
  assert.deepEqual(await client?.call("run.list", {}), []);
  await client?.close();
  const file = join(home.path, "file");
  await writeFile(file, "mine");
  const refused = await errorOf(async () => {
    await using _ = await fakeController(file, {});
  });
  assert.equal(refused.code, "invalid_config");
});

test("a controller that stops tells those who wait, so that they may ask the next one", async () => {
  await using own = await pair({
    "run.list": (_: never, signal: AbortSignal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(new Error("aborted")));
      }),
    async *"events.follow"(_: never, signal: AbortSignal) {
      yield event("run.status");
      await new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => resolve());
      });
    },
  });
  const call = errorOf(() => own.client.call("run.list", {}));
  let seen = 0;
  const stream = errorOf(async () => {
    for await (const _ of own.client.stream("events.follow", {})) seen += 1;
  });
  await until(() => seen === 1 && own.controller.calls.length === 2, {
    what: "both to be under way",
  });
  await own.controller.stop();
  for (const error of [await call, await stream]) {
    assert.equal(error.code, "unreachable");
    assert.ok(isLost(error));
    assert.match(error.message, /is stopping/);
  }
});
