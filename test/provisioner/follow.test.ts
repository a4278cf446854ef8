import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, renameSync, truncateSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { createProvisioner } from "../../src/provisioner/create.ts";
import { loadBundle } from "../../src/provisioner/bundle.ts";
import { follow } from "../../src/provisioner/follow.ts";
import type { Follow, FollowedLine } from "../../src/provisioner/provisioner.ts";
import type { ExecStream, Transport } from "../../src/transport/transport.ts";
import { killPid, localTransport, type LocalTransport } from "../support/local-transport.ts";
import { until } from "../support/wait.ts";
import { TestWorker, RUN } from "../support/worker.ts";

const provisioner = createProvisioner();

const connect = (worker: TestWorker): LocalTransport =>
  localTransport(worker.home, { TMUX_TMPDIR: worker.root });
const never = () => new AbortController().signal;

function eventsFile(worker: TestWorker): string {
  mkdirSync(worker.path("runs", RUN), { recursive: true });
  return worker.path("runs", RUN, "events.jsonl");
}

async function take(followed: Follow, count: number): Promise<FollowedLine[]> {
  const lines: FollowedLine[] = [];
  for await (const line of followed.lines) {
    lines.push(line);
    if (lines.length === count) break;
  }
  return lines;
}

test("lines come as they are written, with the byte offset after each", async () => {
  using worker = new TestWorker();
  await using transport = connect(worker);
  // Nothing was written yet, not even the folder.
  await using followed = await provisioner.follow(transport, {
    run: RUN,
    file: null,
    offset: 0,
    signal: never(),
  });
  const texts = ["é😀", "", "plain", "x".repeat(5_000), "\u2028", '{"a":1}'];
  const file = eventsFile(worker);
  for (const text of texts) appendFileSync(file, `${text}\n`);
  appendFileSync(file, "unfinished");
  const lines = await take(followed, texts.length);
  assert.deepEqual(
    lines.map(({ text }) => text),
    texts,
  );
  let offset = 0;
  for (const [index, line] of lines.entries()) {
    offset += Buffer.byteLength(texts[index] ?? "") + 1;
    assert.equal(line.offset, offset);
  }
  await using again = await provisioner.follow(transport, {
    run: RUN,
    file: followed.file,
    offset,
    signal: never(),
  });
  assert.equal(again.file, followed.file);
  appendFileSync(file, " line\n");
  assert.deepEqual(await take(again, 1), [{ text: "unfinished line", offset: offset + 16 }]);
});

test("after cuts at random moments every line was taken exactly once", async () => {
  using worker = new TestWorker();
  const total = 1_500;
  const writer = worker.shell(
    `i=0
    while [ $i -lt ${total} ]; do
      i=$((i+1))
      printf '{"i":%s,"text":"é %s"}\\n' $i $i >>"$1" || exit 1
      [ $((i % 100)) -ne 0 ] || sleep 0.05
    done`,
    [eventsFile(worker)],
  );
  const seen: number[] = [];
  let file: string | null = null;
  let offset = 0;
  let cuts = 0;
  while (seen.length < total) {
    const transport = connect(worker);
    try {
      await using followed = await provisioner.follow(transport, {
        run: RUN,
        file,
        offset,
        signal: never(),
      });
      if (file !== null) assert.equal(followed.file, file);
      file = followed.file;
      // The moment of the cut is the input of this test: some lines further on, in the middle of what is on its way.
      let left = 20 + ((cuts * 131) % 400);
      for await (const line of followed.lines) {
        seen.push((JSON.parse(line.text) as { i: number }).i);
        offset = line.offset;
        left -= 1;
        if (seen.length === total) break;
        if (left === 0) {
          cuts += 1;
          transport.cut();
        }
        if (left < 0) break;
      }
    } catch (error) {
      assert.equal((error as { code?: string }).code, "unreachable");
    }
    await transport.close();
  }
  assert.equal((await writer).code, 0);
  assert.ok(cuts >= 5, `${cuts} cuts`);
  assert.deepEqual(
    seen,
    Array.from({ length: total }, (_, index) => index + 1),
  );
});

test("another file, or one that was cut, is read from its beginning", async () => {
  using worker = new TestWorker();
  await using transport = connect(worker);
  const file = eventsFile(worker);
  writeFileSync(file, "one\ntwo\n");
  const first = await provisioner.follow(transport, {
    run: RUN,
    file: null,
    offset: 0,
    signal: never(),
  });
  assert.equal((await take(first, 2))[1]?.offset, 8);
  truncateSync(file, 4);
  const shorter = await provisioner.follow(transport, {
    run: RUN,
    file: first.file,
    offset: 8,
    signal: never(),
  });
  assert.deepEqual(await take(shorter, 1), [{ text: "one", offset: 4 }]);
  writeFileSync(`${file}.new`, "new one\nnew two\n");
  renameSync(`${file}.new`, file);
  const replaced = await provisioner.follow(transport, {
    run: RUN,
    file: first.file,
    offset: 4,
    signal: never(),
  });
  assert.notEqual(replaced.file, first.file);
  assert.deepEqual(await take(replaced, 1), [{ text: "new one", offset: 8 }]);
});

test("following ends when the file is replaced meanwhile, so that the caller asks again", async () => {
  using worker = new TestWorker();
  await using transport = connect(worker);
  const file = eventsFile(worker);
  writeFileSync(file, "one\n");
  await using followed = await provisioner.follow(transport, {
    run: RUN,
    file: null,
    offset: 0,
    signal: never(),
  });
  const texts: string[] = [];
  for await (const { text } of followed.lines) {
    texts.push(text);
    writeFileSync(`${file}.new`, "two\n");
    renameSync(`${file}.new`, file);
  }
  assert.deepEqual(texts, ["one"]);
});

test("a follower that ended on the worker is started again, and no line is lost or told twice", async () => {
  using worker = new TestWorker();
  await using transport = connect(worker);
  const file = eventsFile(worker);
  writeFileSync(file, "1\n2\npar");
  await using followed = await provisioner.follow(transport, {
    run: RUN,
    file: null,
    offset: 0,
    signal: never(),
  });
  const texts: string[] = [];
  for await (const { text } of followed.lines) {
    texts.push(text);
    if (texts.length === 4) break;
    if (texts.length !== 2) continue;
    // What a worker script's own end looks like: both processes go, with exit code 0.
    for (const pid of transport.running()) killPid(pid, "SIGTERM");
    appendFileSync(file, "tial\n4\n");
  }
  assert.deepEqual(texts, ["1", "2", "partial", "4"]);
});

test("a follower whose parent is gone ends by itself, and one whose reader is gone with the next line", async () => {
  using worker = new TestWorker();
  const file = eventsFile(worker);
  const script = worker.path("bin", "follow");
  await worker.shell(
    `sh -c '"$1" ${RUN} - 0 >"$2" 2>&1 & wait $!' sh "$1" "$2" & while [ ! -s "$2" ]; do sleep 0.01; done; kill -9 $!`,
    [script, `${file}.out`],
  );
  await until(() => worker.processes().length === 0, { what: "the end after the parent's" });

  const transport = connect(worker);
  const followed = await provisioner.follow(transport, {
    run: RUN,
    file: null,
    offset: 0,
    signal: never(),
  });
  const lost = assert.rejects(take(followed, 1), { code: "unreachable" });
  await until(() => worker.processes().length >= 2, { what: "shell and tail" });
  transport.cut();
  await lost;
  appendFileSync(file, "a line\n");
  await until(() => worker.processes().length === 0, { what: "the end after the reader's" });
});

test("aborting ends the lines", async () => {
  using worker = new TestWorker();
  await using transport = connect(worker);
  const controller = new AbortController();
  const followed = await provisioner.follow(transport, {
    run: RUN,
    file: null,
    offset: 0,
    signal: controller.signal,
  });
  const lines = take(followed, 1);
  controller.abort();
  assert.deepEqual(await lines, []);
  const other = await provisioner.follow(transport, {
    run: RUN,
    file: null,
    offset: 0,
    signal: never(),
  });
  const none = take(other, 1);
  await other[Symbol.asyncDispose]();
  assert.deepEqual(await none, []);
});

/** A transport whose one stream gives these chunks. */
function scripted(chunks: readonly Uint8Array[]): Transport {
  const bytes = (async function* () {
    for (const chunk of chunks) {
      await delay(0);
      yield chunk;
    }
  })();
  const end = { code: 0, signal: null, stdout: "", stderr: "", truncated: false };
  const stream = { bytes, result: Promise.resolve(end), close() {} } as unknown as ExecStream;
  return { stream: async () => stream } as unknown as Transport;
}

test("lines are split at any byte, and an endless one is bounded", async () => {
  const text = "file\t1:2\t10\né😀\n\nlast\n";
  const whole = Buffer.from(text);
  const bundle = loadBundle(new URL("../../provision/worker", import.meta.url).pathname);
  const input = { run: RUN, file: null, offset: 10, signal: never() };
  for (let size = 1; size <= whole.length; size += 1) {
    const chunks = Array.from({ length: Math.ceil(whole.length / size) }, (_, index) =>
      whole.subarray(index * size, (index + 1) * size),
    );
    const followed = await follow(scripted(chunks), bundle, input);
    assert.equal(followed.file, "1:2");
    assert.deepEqual(await take(followed, 3), [
      { text: "é😀", offset: 17 },
      { text: "", offset: 18 },
      { text: "last", offset: 23 },
    ]);
  }
  const flood = [
    Buffer.from("file\t1:2\t0\n"),
    ...Array.from({ length: 50 }, () => Buffer.alloc(65_536, "x")),
    Buffer.from("\nok\n"),
  ];
  const [long, ok] = await take(await follow(scripted(flood), bundle, input), 2);
  assert.equal(long?.text.length, 65_536);
  assert.equal(long?.offset, 50 * 65_536 + 1);
  assert.deepEqual(ok, { text: "ok", offset: 50 * 65_536 + 4 });
  await assert.rejects(follow(scripted([Buffer.from("garbage\n")]), bundle, input), {
    code: "internal",
  });
});
