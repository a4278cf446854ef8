import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFile, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { OrchestratorError } from "../../src/domain/errors.ts";
import { generateClientKeys } from "../support/client-keys.ts";
import { TransportError } from "../../src/transport/transport-error.ts";
import type {
  Address,
  ConnectSettings,
  OpenTransport,
  Transport,
  TransportFailure,
} from "../../src/transport/transport.ts";
import { type TcpProxy, startTcpProxy } from "../fakes/tcp-proxy.ts";
import { until } from "../support/wait.ts";

/** One reachable worker, behind which the suite puts a proxy of its own. */
export interface TransportTarget extends AsyncDisposable {
  readonly port: number;
  readonly user: string;
  readonly privateKey: string;
  readonly hostKey: string;
  /** The worker's `$HOME` as a path of this machine. */
  readonly home: string;
}

/** Rejects with this failure and outcome: the shape every caller branches on. */
export async function assertFails(
  promise: Promise<unknown>,
  failure: TransportFailure,
  outcome: "not-started" | "unknown",
): Promise<TransportError> {
  const error = await promise.then(
    () => assert.fail(`expected ${failure}, but it succeeded`),
    (error: unknown) => error,
  );
  assert.ok(error instanceof TransportError, `a TransportError, not ${String(error)}`);
  assert.deepEqual([error.failure, error.outcome], [failure, outcome]);
  return error;
}

/** The guarantees of transport.ts, each by name, against a well-behaved worker over links that are not. */
export function exerciseTransport(
  name: string,
  open: OpenTransport,
  setup: () => Promise<TransportTarget>,
): void {
  void describe(`${name} keeps the transport's contract`, () => {
    let target: TransportTarget;

    before(async () => {
      target = await setup();
    });
    after(() => target[Symbol.asyncDispose]());

    /** Runs `body` with a fresh transport through a fresh proxy. */
    const check = (
      guarantee: string,
      body: (transport: Transport, proxy: TcpProxy) => Promise<void>,
      settings: Partial<ConnectSettings> = {},
    ): void => {
      void test(guarantee, async () => {
        await using proxy = await startTcpProxy(target.port);
        await using transport = connectThrough(proxy, settings);
        await body(transport, proxy);
      });
    };

    const connectThrough = (proxy: TcpProxy, settings: Partial<ConnectSettings> = {}) => {
      const address: Address = {
        kind: "tcp",
        host: "127.0.0.1",
        port: proxy.port,
        user: target.user,
      };
      return open({
        address,
        privateKey: target.privateKey,
        hostKey: target.hostKey,
        connectTimeoutMs: 10_000,
        keepaliveMs: 5_000,
        maxChannels: 8,
        execTimeoutMs: 20_000,
        ...settings,
      });
    };

    check("an exit code is data, stdout and stderr are apart", async (transport) => {
      const result = await transport.script("echo out; echo err >&2; exit 7");
      assert.deepEqual(result, {
        code: 7,
        signal: null,
        stdout: "out\n",
        stderr: "err\n",
        truncated: false,
      });
    });

    check("the end by a signal is told by its name", async (transport) => {
      const { code, signal } = await transport.script("kill -TERM $$");
      assert.deepEqual([code, signal], [null, "SIGTERM"]);
    });

    check("a program that does not exist exits with 127", async (transport) => {
      assert.equal((await transport.exec(["no-such-program-here"])).code, 127);
    });

    check("arguments arrive byte for byte", async (transport) => {
      const args = ["", "-n", "a b", "it's", '"$HOME" `id` $(id)', "new\nline\n", "\\", "é🙂", "*"];
      const { stdout } = await transport.exec(["printf", "%s\\0", ...args]);
      assert.deepEqual(stdout.split("\0"), [...args, ""]);
    });

    check("an argument with NUL or a lone surrogate is invalid input", async (transport, proxy) => {
      for (const argument of ["a\0b", "a\ud800b", "x".repeat(128 * 1024)]) {
        await assert.rejects(
          transport.exec(["echo", argument]),
          (error) => error instanceof OrchestratorError && error.code === "invalid_input",
        );
      }
      assert.equal(proxy.accepted, 0, "nothing was dialled");
    });

    check("commands start in the worker's home", async (transport) => {
      const { stdout } = await transport.script('pwd -P; echo "$HOME"');
      assert.deepEqual(stdout, `${target.home}\n${target.home}\n`);
    });

    check("stdin arrives whole, and is at its end when there is none", async (transport) => {
      const stdin = randomBytes(3_000_000);
      const { stdout } = await transport.exec(["sha256sum"], { stdin });
      assert.equal(stdout.split(" ")[0], createHash("sha256").update(stdin).digest("hex"));
      assert.equal((await transport.exec(["cat"])).stdout, "");
    });

    check("a command that does not read its stdin ends all the same", async (transport) => {
      const result = await transport.exec(["true"], { stdin: Buffer.alloc(8_000_000) });
      assert.equal(result.code, 0);
    });

    check("a script gets its arguments", async (transport) => {
      const { stdout } = await transport.script('printf "%s|" "$@"', ["a b", "-c", "c'd"]);
      assert.equal(stdout, "a b|-c|c'd|");
    });

    check(
      "output over the limit is cut at a character, and the command runs on",
      async (transport) => {
        const text = "head -c 3000000 /dev/zero | tr '\\0' x; printf 'é' >&2; exit 5";
        const result = await transport.script(text, [], { maxOutputBytes: 1 });
        assert.deepEqual(result, {
          code: 5,
          signal: null,
          stdout: "x",
          stderr: "",
          truncated: true,
        });
      },
    );

    check("large output arrives whole when it is allowed", async (transport) => {
      const result = await transport.script("head -c 6000000 /dev/zero | tr '\\0' x", [], {
        maxOutputBytes: 6_000_000,
      });
      assert.deepEqual([result.stdout.length, result.truncated], [6_000_000, false]);
    });

    check(
      "calls in parallel each get their own answer, on one connection",
      async (transport, proxy) => {
        const numbers = Array.from({ length: 30 }, (_, index) => `${index}`);
        const answers = await Promise.all(
          numbers.map((number) => transport.script('echo "$1"; exit "$1"', [number])),
        );
        assert.deepEqual(
          answers.map(({ code, stdout }) => `${code} ${stdout}`),
          numbers.map((number) => `${number} ${number}\n`),
        );
        assert.equal(proxy.accepted, 1);
      },
      { maxChannels: 4 },
    );

    check(
      "a passed deadline is an unknown outcome, and the connection lives on",
      async (transport) => {
        await transport.exec(["true"]);
        const started = performance.now();
        await assertFails(transport.exec(["sleep", "30"], { timeoutMs: 80 }), "timeout", "unknown");
        assert.ok(performance.now() - started < 2_000, "it did not wait for the command");
        assert.equal((await transport.exec(["echo", "on"])).stdout, "on\n");
      },
    );

    check("a caller can give up, before and during a call", async (transport) => {
      const early = AbortSignal.abort();
      await assertFails(transport.exec(["true"], { signal: early }), "aborted", "not-started");
      const late = new AbortController();
      const marker = join(target.home, "abort-started");
      const call = transport.script(`echo >${marker}; sleep 30`, [], { signal: late.signal });
      const failed = assertFails(call, "aborted", "unknown");
      await until(() => readFile(marker).catch(() => undefined), { what: "the command" });
      late.abort();
      await failed;
    });

    check(
      "a call that never got its turn has not started, and never does",
      async (transport) => {
        const marker = join(target.home, "queued-started");
        const busy = await transport.stream(["cat", "/dev/zero"]);
        const queued = transport.exec(["touch", marker], { timeoutMs: 50 });
        await assertFails(queued, "timeout", "not-started");
        busy.close();
        await transport.exec(["true"]);
        await assert.rejects(stat(marker), { code: "ENOENT" });
      },
      { maxChannels: 1 },
    );

    check(
      "the connection is kept, and after a loss only the next call reopens it",
      async (transport, proxy) => {
        assert.deepEqual([transport.connected, proxy.accepted], [false, 0]);
        await transport.disconnected();
        await transport.exec(["true"]);
        await transport.exec(["true"]);
        assert.deepEqual([transport.connected, proxy.accepted], [true, 1]);
        const noticed = transport.disconnected();
        proxy.cut();
        await noticed;
        assert.deepEqual([transport.connected, proxy.accepted], [false, 1]);
        assert.equal((await transport.exec(["echo", "back"])).stdout, "back\n");
        assert.equal(proxy.accepted, 2);
      },
    );

    for (const way of ["cut", "reset"] as const) {
      check(
        `a ${way} link ends a running call with an unknown outcome`,
        async (transport, proxy) => {
          const marker = join(target.home, `${way}-started`);
          const call = assertFails(
            transport.script(`echo >${marker}; sleep 30`),
            "connection_lost",
            "unknown",
          );
          await until(() => readFile(marker).catch(() => undefined), { what: "the command" });
          proxy[way]();
          await call;
        },
      );
    }

    for (const direction of ["up", "down", "both"] as const) {
      check(
        `a link that swallows (${direction}) is noticed within three keepalives`,
        async (transport, proxy) => {
          await transport.exec(["true"]);
          const running = [transport.exec(["sleep", "30"]), transport.exec(["sleep", "30"])];
          const failed = running.map((call) => assertFails(call, "connection_lost", "unknown"));
          proxy.swallow = direction;
          const started = performance.now();
          await transport.disconnected();
          const took = performance.now() - started;
          // One interval more than promised: other work on the machine may hold the timers up.
          assert.ok(took < 150 * 4 + 500, `took ${took} ms`);
          await Promise.all(failed);
          proxy.swallow = "none";
          assert.equal((await transport.exec(["echo", "healed"])).stdout, "healed\n");
        },
        { keepaliveMs: 150 },
      );
    }

    check("a garbled link is given up at once", async (transport, proxy) => {
      await transport.exec(["true"]);
      proxy.garble = true;
      await assertFails(transport.exec(["true"]), "connection_lost", "unknown");
      assert.equal(transport.connected, false);
      proxy.garble = false;
      assert.equal((await transport.exec(["echo", "clean"])).stdout, "clean\n");
    });

    check("nothing stays pending after close, and nothing starts", async (transport, proxy) => {
      await transport.exec(["true"]);
      const stream = await transport.stream(["cat", "/dev/zero"]);
      const pending = [
        assertFails(transport.exec(["sleep", "30"]), "closed", "unknown"),
        assertFails(stream.result, "closed", "unknown"),
      ];
      const gone = transport.disconnected();
      // The second exec is on its way once a later one was answered.
      await transport.exec(["true"]);
      await transport.close();
      await Promise.all([...pending, gone]);
      assert.equal(transport.connected, false);
      await assertFails(transport.exec(["true"]), "closed", "not-started");
      await assertFails(transport.stream(["true"]), "closed", "not-started");
      await transport.close();
      await until(() => proxy.open === 0, { what: "the connection's end" });
    });

    check("close ends a half-open connection too", async (transport, proxy) => {
      await transport.exec(["true"]);
      proxy.swallow = "both";
      await transport.close();
      assert.equal(transport.connected, false);
    });

    check("close while the connection opens ends the call", async (transport, proxy) => {
      proxy.swallow = "down";
      const call = assertFails(transport.exec(["true"]), "closed", "not-started");
      await until(() => proxy.accepted === 1, { what: "the dialling" });
      await transport.close();
      await call;
      await until(() => proxy.open === 0, { what: "the connection's end" });
    });

    check("a stream gives its lines in order, then the end", async (transport) => {
      await using stream = await transport.stream(["sh", "-c", "seq 1 20000; echo e >&2; exit 3"]);
      const lines = await Array.fromAsync(stream.lines);
      assert.deepEqual(
        lines,
        Array.from({ length: 20_000 }, (_, index) => `${index + 1}`),
      );
      const { code, stderr } = await stream.result;
      assert.deepEqual([code, stderr], [3, "e\n"]);
    });

    check("a stream gives bytes as they are, and feeds stdin", async (transport) => {
      const stdin = randomBytes(300_000);
      await using stream = await transport.stream(["cat"], { stdin });
      const bytes = Buffer.concat(await Array.fromAsync(stream.bytes));
      assert.ok(bytes.equals(stdin));
      assert.equal((await stream.result).code, 0);
    });

    check("lines come while the command runs; leaving the loop closes it", async (transport) => {
      const stream = await transport.stream(["sh", "-c", "echo first; exec cat /dev/zero"]);
      for await (const line of stream.lines) {
        assert.equal(line, "first");
        break;
      }
      await assertFails(stream.result, "closed", "unknown");
    });

    check("invalid UTF-8 is replaced and a line over 1 MiB is cut", async (transport) => {
      const text = "printf 'a\\377b\\n'; head -c 3000000 /dev/zero | tr '\\0' x; echo; printf last";
      await using stream = await transport.stream(["sh", "-c", text]);
      const [broken, long, last] = await Array.fromAsync(stream.lines);
      assert.deepEqual([broken, long?.length, last], ["a\ufffdb", 1024 * 1024, "last"]);
    });

    check("a stream that is cut throws instead of ending", async (transport, proxy) => {
      await using stream = await transport.stream(["sh", "-c", "echo one; sleep 30"]);
      const seen: string[] = [];
      const reading = assertFails(
        (async () => {
          for await (const line of stream.lines) {
            seen.push(line);
            proxy.cut();
          }
        })(),
        "connection_lost",
        "unknown",
      );
      await reading;
      assert.deepEqual(seen, ["one"]);
      await assertFails(stream.result, "connection_lost", "unknown");
    });

    check("a flood that nobody reads is held back at the worker", async (transport, proxy) => {
      await using stream = await transport.stream(["head", "-c", "1000000000", "/dev/zero"]);
      let before = -1;
      await until(
        async () => {
          const same = proxy.bytesDown === before;
          before = proxy.bytesDown;
          // Each answer is a full round trip in which more could have come.
          for (let trip = 0; trip < 5; trip += 1) await transport.exec(["true"]);
          return same || proxy.bytesDown - before < 10_000;
        },
        { what: "the flood to stop" },
      );
      assert.ok(proxy.bytesDown < 8 * 1024 * 1024, `${proxy.bytesDown} bytes came`);
      let read = 0;
      for await (const chunk of stream.bytes) {
        read += chunk.length;
        if (read > 20_000_000) break;
      }
      assert.ok(read > 20_000_000, "reading on lets it flow again");
    });

    check("an upload has its content and mode, and replaces what was there", async (transport) => {
      const content = Buffer.concat([randomBytes(200_000), Buffer.from("\0\n")]);
      await transport.upload("up/load/it's here", content, 0o640);
      const path = join(target.home, "up/load/it's here");
      assert.ok((await readFile(path)).equals(content));
      assert.equal((await stat(path)).mode & 0o777, 0o640);
      await transport.upload(path, new Uint8Array(), 0o700);
      assert.deepEqual([(await stat(path)).size, (await stat(path)).mode & 0o777], [0, 0o700]);
      assert.deepEqual(await readdir(join(target.home, "up/load")), ["it's here"]);
    });

    check("an upload that cannot be written is an error", async (transport) => {
      await transport.script("mkdir -p taken/inner; touch file");
      for (const path of ["taken/inner", "file/below"]) {
        await assert.rejects(transport.upload(path, Buffer.from("x"), 0o600), OrchestratorError);
      }
      assert.deepEqual(await readdir(join(target.home, "taken")), ["inner"]);
      for (const path of ["", "dir/", "a/.."]) {
        await assert.rejects(
          transport.upload(path, Buffer.from("x"), 0o600),
          (error) => error instanceof OrchestratorError && error.code === "invalid_input",
        );
      }
    });

    check("an upload that is cut leaves the old file", async (transport, proxy) => {
      const path = join(target.home, "cut", "file");
      await transport.upload(path, Buffer.from("old"), 0o600);
      const before = proxy.bytesUp;
      const call = assertFails(
        transport.upload(path, Buffer.alloc(60_000_000), 0o600),
        "connection_lost",
        "unknown",
      );
      await until(() => proxy.bytesUp > before + 1_000_000, { what: "a part of the upload" });
      proxy.cut();
      await call;
      await until(async () => (await readdir(join(target.home, "cut"))).length === 1, {
        what: "the removal of the part that arrived",
      });
      assert.equal(await readFile(path, "utf8"), "old");
    });

    test("another host key than the pinned one is refused", async () => {
      await using proxy = await startTcpProxy(target.port);
      await using transport = connectThrough(proxy, {
        hostKey: `SHA256:${"A".repeat(43)}`,
        onHostKey: () => true,
      });
      const call = transport.exec(["true"]);
      const error = await assertFails(call, "host_key_changed", "not-started");
      assert.deepEqual([error.code, error.retryable], ["needs_person", false]);
    });

    test("without a pin the key is learned once, by decision", async () => {
      await using proxy = await startTcpProxy(target.port);
      const seen: string[] = [];
      const learn = (answer: boolean) => (fingerprint: string) => {
        seen.push(fingerprint);
        return answer;
      };
      await using refusing = connectThrough(proxy, { hostKey: null, onHostKey: learn(false) });
      await assertFails(refusing.exec(["true"]), "host_key_changed", "not-started");
      await using silent = connectThrough(proxy, { hostKey: null });
      await assertFails(silent.exec(["true"]), "host_key_changed", "not-started");
      await using learning = connectThrough(proxy, { hostKey: null, onHostKey: learn(true) });
      await learning.exec(["true"]);
      const over = learning.disconnected();
      proxy.cut();
      await over;
      await learning.exec(["true"]);
      assert.deepEqual(seen, [target.hostKey, target.hostKey]);
    });

    test("a key that may not log in is an authentication failure", async () => {
      await using proxy = await startTcpProxy(target.port);
      await using transport = connectThrough(proxy, {
        privateKey: generateClientKeys("stranger").privateKey,
      });
      const error = await assertFails(transport.exec(["true"]), "auth_failed", "not-started");
      assert.equal(error.retryable, false);
    });

    test("a call over a slow link waits as long as it takes", async () => {
      await using proxy = await startTcpProxy(target.port);
      proxy.delayMs = 25;
      await using transport = connectThrough(proxy);
      assert.equal((await transport.exec(["echo", "slow"])).stdout, "slow\n");
    });
  });
}
