import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, readFile, rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Checked } from "../../../src/dispatch/check/judge.ts";
import { readSeen, toldOf, writeSeen } from "../../../src/dispatch/check/seen.ts";
import {
  changeLine,
  errorLine,
  goneLine,
  sweepLine,
} from "../../../src/dispatch/check/status-line.ts";
import { openStatusLog } from "../../../src/dispatch/check/status-log.ts";
import { temporaryHome } from "../../support/fake-services.ts";

const NOW = Date.UTC(2026, 10, 20, 12, 0, 0);
const HOSTILE =
  'x\n time=2020-01-01T00:00:00.000Z kind=sweep\r\u001b[2J\u0000\u2028\u202e\u200b "y" \\ found=ok';

const checked = (more: Readonly<Record<string, unknown>> = {}): Checked =>
  ({
    worker: { name: "kite-1" },
    run: { run_id: "run-000000000001" },
    machine: "running",
    window: "agent:running",
    was: null,
    status: "running",
    source: "hook",
    reason: "in a turn",
    ageMs: 3_900,
    found: [],
    ...more,
  }) as unknown as Checked;

test("a line has its fields in a fixed order", () => {
  assert.equal(
    changeLine(NOW, checked()),
    'time=2026-11-20T12:00:00.000Z kind=change worker=kite-1 window=agent:running status=running source=hook age_s=3 run=run-000000000001 machine=running was=- found=ok reason="in a turn"',
  );
  const nothing = { run: null, machine: null, window: null, status: null, reason: "" };
  assert.equal(
    changeLine(NOW, checked({ ...nothing, found: ["unreachable"] })),
    'time=2026-11-20T12:00:00.000Z kind=change worker=kite-1 window=- status=- source=hook age_s=3 run=- machine=- was=- found=unreachable reason=""',
  );
  const mended = { was: "agent:waiting", found: ["corrected", "guard_restarted"] };
  assert.match(
    changeLine(NOW, checked(mended)),
    / was=agent:waiting found=corrected,guard_restarted reason="in a turn"$/,
  );
  assert.match(goneLine(NOW, "kite-2"), / worker=kite-2 .* found=destroyed reason="/);
  const counts = {
    workers: 3,
    read: 1,
    asleep: 1,
    unreachable: 1,
    leftAlone: 0,
    missing: 0,
    changed: 2,
    corrected: 1,
    repaired: 0,
  };
  assert.equal(
    sweepLine(NOW, "all", counts, 12.4),
    "time=2026-11-20T12:00:00.000Z kind=sweep scope=all workers=3 read=1 asleep=1 unreachable=1 left_alone=0 missing=0 changed=2 corrected=1 repaired=0 ms=12",
  );
});

test("no text of a worker makes a second line, a second field or anything a terminal acts on", () => {
  const lines = [
    changeLine(NOW, checked({ window: HOSTILE, was: HOSTILE, reason: HOSTILE })),
    errorLine(NOW, HOSTILE, HOSTILE),
    sweepLine(NOW, HOSTILE, {} as never, 1),
    goneLine(NOW, HOSTILE),
  ];
  for (const line of lines) {
    assert.doesNotMatch(line, /[\p{Cc}\p{Cf}\u2028]/u);
    assert.equal(line.split(" ").filter((word) => word.startsWith("kind=")).length > 0, true);
    // Outside the quoted last value each word is one field.
    const fields = line.replace(/ (reason|message)=".*"$/, "").split(" ");
    for (const field of fields) assert.match(field, /^[a-z_]+=[A-Za-z0-9:._,@+/?-]+$/);
    assert.equal(fields.filter((field) => field.startsWith("kind=")).length, 1, line);
  }
  const reason = / reason=(".*")$/.exec(lines[0] ?? "")?.[1] ?? "";
  assert.match(JSON.parse(reason) as string, /^x time=2020/);
});

test("each line is written to the file of that name now, which may be rotated away or be a link", async () => {
  await using home = await temporaryHome();
  const wanted = join(home.path, "status.log");
  await writeFile(wanted, "old\n", { mode: 0o644 });
  const log = openStatusLog({ wanted, fallback: join(home.path, "f"), refusedBefore: null });
  await log.write("one", NOW);
  await rename(wanted, `${wanted}.1`);
  await log.write("two", NOW);
  assert.equal(await readFile(`${wanted}.1`, "utf8"), "old\none\n");
  assert.equal(await readFile(wanted, "utf8"), "two\n");
  await rename(wanted, `${wanted}.2`);
  await symlink(`${wanted}.2`, wanted);
  await log.write("three", NOW);
  assert.equal(await readFile(`${wanted}.2`, "utf8"), "two\nthree\n");
  assert.deepEqual([log.path, log.refused], [wanted, null]);
});

test("many writers at once never mix their lines", async () => {
  await using home = await temporaryHome();
  const wanted = join(home.path, "log");
  const logs = Array.from({ length: 20 }, () =>
    openStatusLog({ wanted, fallback: join(home.path, "f"), refusedBefore: null }),
  );
  await Promise.all(
    logs.flatMap((log, writer) =>
      Array.from({ length: 20 }, (_, line) =>
        log.write(`${writer}-${line} ${"x".repeat(900)}`, NOW),
      ),
    ),
  );
  const lines = (await readFile(wanted, "utf8")).trimEnd().split("\n");
  assert.equal(new Set(lines).size, 400);
  for (const line of lines) assert.match(line, /^\d+-\d+ x{900}$/);
});

test("a file that cannot be written is said once, in the log that takes its place", async () => {
  await using home = await temporaryHome();
  const fallback = join(home.path, "o", "status.log");
  const folder = join(home.path, "folder");
  await mkdir(folder);
  const fifo = join(home.path, "fifo");
  execFileSync("mkfifo", [fifo]);
  const refusals: ReadonlyArray<readonly [string, string]> = [
    [folder, "EISDIR"],
    ["/proc/version", "EACCES|EPERM|EIO|EINVAL"],
    ["/dev/full", "ENOSPC"],
    [join(home.path, "no", "such", "folder"), "ENOENT"],
    // Nobody reads it: to wait for a reader would be to hang for ever.
    [fifo, "ENXIO"],
  ];
  for (const [wanted, code] of refusals) {
    await writeFile(join(home.path, "empty"), "");
    await mkdir(join(home.path, "o"), { recursive: true });
    await writeFile(fallback, "");
    const log = openStatusLog({ wanted, fallback, refusedBefore: null });
    await log.write("one", NOW);
    await log.write("two", NOW);
    const [error = "", ...lines] = (await readFile(fallback, "utf8")).trimEnd().split("\n");
    assert.match(
      error,
      new RegExp(`kind=error code=status_log message=".*\\((${code})\\)`),
      wanted,
    );
    assert.deepEqual(lines, ["one", "two"]);
    const again = openStatusLog({ wanted, fallback, refusedBefore: log.refused });
    await again.write("three", NOW);
    assert.equal((await readFile(fallback, "utf8")).match(/kind=error/g)?.length, 1, wanted);
    assert.equal(again.path, fallback);
  }
});

test("when no file takes a line, one error says so", async () => {
  await using home = await temporaryHome();
  const log = openStatusLog({ wanted: home.path, fallback: "/proc/x", refusedBefore: null });
  await assert.rejects(log.write("one", NOW), (error: Error) => {
    assert.match(error.message, /neither .* \(EISDIR\) nor \/proc\/x \(ENOENT\)/);
    assert.equal((error as Error & { code: string }).code, "invalid_config");
    return true;
  });
});

test("~/ is the person's home", async () => {
  await using home = await temporaryHome();
  const log = openStatusLog({
    wanted: "~/status.log",
    fallback: "/nowhere",
    userHome: home.path,
    refusedBefore: null,
  });
  await log.write("one", NOW);
  assert.equal(await readFile(join(home.path, "status.log"), "utf8"), "one\n");
});

test("only what lasts is a change: not age, not what a sweep did", () => {
  const told = toldOf(checked());
  assert.equal(toldOf(checked({ ageMs: 99_000, source: "registry", was: "agent:error" })), told);
  assert.equal(toldOf(checked({ found: ["corrected", "guard_restarted"] })), told);
  const changes: ReadonlyArray<Readonly<Record<string, unknown>>> = [
    { window: "agent:error" },
    { status: "blocked" },
    { reason: "tool: Bash" },
    { run: { run_id: "run-000000000002" } },
    { machine: "cold" },
    { found: ["differs"] },
  ];
  for (const change of changes)
    assert.notEqual(toldOf(checked(change)), told, JSON.stringify(change));
});

test("what was told survives, and damage costs repeated lines only", async () => {
  await using home = await temporaryHome();
  const path = join(home.path, "seen.json");
  assert.deepEqual(await readSeen(path), { workers: {}, refused: null });
  const seen = { workers: { w: { name: "kite-1", told: "x" } }, refused: null };
  await writeSeen(path, seen);
  assert.deepEqual(await readSeen(path), seen);
  for (const damage of ["", "{", "[]", '{"workers":{"w":1},"refused":null}']) {
    await writeFile(path, damage);
    assert.deepEqual(await readSeen(path), { workers: {}, refused: null });
  }
  await writeSeen(join(home.path, "no", "folder"), seen);
});
