import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { assert as check, constantFrom, array, property } from "fast-check";
import { blockIn, cronBlock, cronLine, withBlock, withoutBlock } from "../../src/cli/crontab.ts";
import { OrchestratorError } from "../../src/domain/errors.ts";
import { cli } from "../support/cli.ts";
import { temporaryHome } from "../support/fake-services.ts";

const run = promisify(execFile);
const JOB = {
  home: "/home/me/.sprite-orchestrator",
  path: "/opt/bin:/usr/bin::relative:/opt/bin",
  program: ["/opt/node 24/bin/node", "/opt/50%/orchestrator.cjs"],
};
const LINE = `*/30 * * * * ORCHESTRATOR_HOME=/home/me/.sprite-orchestrator PATH=/opt/bin:/usr/bin '/opt/node 24/bin/node' /opt/50\\%/orchestrator.cjs check --silent`;

test("the line runs the check every 30 minutes by absolute paths, as a shell and cron read them", () => {
  assert.equal(
    cronLine(JOB),
    LINE.replace("/opt/50\\%/orchestrator.cjs", "/opt/50\\%/orchestrator.cjs"),
  );
  const hostile = { ...JOB, program: ["/a'b $(id) `id`;&|", "/x\\y"] };
  const words = cronLine(hostile).replaceAll("\\%", "%").split(" ").slice(5).join(" ");
  const said = execFileSync("sh", [
    "-c",
    `set -- ${words.replace(/^(\S+ ){2}/, "")}; printf '[%s]' "$@"`,
  ]);
  assert.equal(said.toString(), "[/a'b $(id) `id`;&|][/x\\y][check][--silent]");
  const long = {
    ...JOB,
    path: Array.from({ length: 60 }, (_, n) => `/some/long/folder/${n}`).join(":"),
  };
  assert.ok(cronLine(long).length < 1_000, "cron takes no longer command");
  assert.match(cronLine(long), / PATH=\/usr\/local\/bin:\/usr\/bin:\/bin /);
  assert.throws(() => cronLine({ ...JOB, home: "/a\nb" }), OrchestratorError);
});

test("only the block of that home is touched, whatever stands around it", () => {
  const block = cronBlock(JOB);
  const other = cronBlock({ ...JOB, home: "/home/me/other" });
  const lines = ["# mine\n", "0 1 * * * rm -rf /tmp/x\n", "\n", "MAILTO=me\r\n", "%\n", other];
  check(
    property(array(constantFrom(...lines)), array(constantFrom(...lines)), (above, below) => {
      const [before, after] = [above.join(""), below.join("")];
      const added = withBlock(before + after, JOB);
      assert.equal(added, before + after + block);
      const between = before + block + after;
      assert.equal(withBlock(between, JOB), between);
      assert.equal(withoutBlock(between, JOB.home), before + after);
      const old = before + block.replace("orchestrator.cjs", "old.cjs") + after;
      assert.equal(withBlock(old, JOB), between, "it stays in its place");
      assert.equal(blockIn(between, JOB.home), block);
      assert.equal(blockIn(before + after, JOB.home), undefined);
    }),
  );
  assert.equal(
    withBlock("0 1 * * * x", JOB),
    `0 1 * * * x\n${block}`,
    "a last line without its end",
  );
  assert.equal(withBlock(block + block, JOB), block, "one of two is enough");
  const damaged = block.split("\n").slice(0, 2).join("\n");
  assert.throws(() => withBlock(`${damaged}\n0 1 * * * mine\n`, JOB), /a beginning and no end/);
});

/** Keeps one crontab in a file beside itself, and says what Debian's says. */
const FAKE = `#!/bin/sh
file="$(dirname -- "$0")/crontab.text"
echo "$*" >>"$(dirname -- "$0")/calls"
if [ -f "$(dirname -- "$0")/broken" ]; then cat "$(dirname -- "$0")/broken" >&2; exit 1; fi
case "$*" in
  -l) [ -f "$file" ] && exec cat "$file"; echo "no crontab for me" >&2; exit 1 ;;
  -) exec cat >"$file" ;;
esac
exit 2
`;

async function withFake() {
  const home = await temporaryHome();
  const bin = join(home.path, "bin");
  await mkdir(bin);
  await writeFile(join(bin, "crontab"), FAKE);
  await chmod(join(bin, "crontab"), 0o755);
  const file = join(bin, "crontab.text");
  return {
    bin,
    file,
    text: () => readFile(file, "utf8"),
    cron: (...words: string[]) =>
      cli(["cron", ...words], {
        home: home.path,
        env: { PATH: `${bin}:/usr/bin:/bin` },
        program: ["/opt/node", "/opt/orchestrator.cjs"],
      }),
    [Symbol.asyncDispose]: home[Symbol.asyncDispose],
  };
}

test("installing, asking and removing can be repeated, and other lines stay", async () => {
  await using fake = await withFake();
  const status = await fake.cron("status");
  assert.deepEqual([status.code, status.out], [3, "not installed\n"]);
  await writeFile(fake.file, "MAILTO=me\n5 4 * * * other %\n");
  const installed = await fake.cron("install");
  assert.equal(installed.code, 0, installed.err);
  assert.match(
    installed.out,
    /^installed: \*\/30 \* \* \* \* ORCHESTRATOR_HOME=\S+ PATH=\S+ \/opt\/node/,
  );
  const text = await fake.text();
  assert.match(text, /^MAILTO=me\n5 4 \* \* \* other %\n# BEGIN sprite-orchestrator /);
  assert.match((await fake.cron("install")).out, /^unchanged: /);
  assert.equal(await fake.text(), text);
  assert.equal((await fake.cron("status")).code, 0);
  await writeFile(fake.file, text.replace("/opt/node", "/gone/node"));
  const outdated = await fake.cron("status");
  assert.deepEqual([outdated.code, outdated.out.split(":")[0]], [17, "outdated"]);
  assert.match((await fake.cron("install")).out, /^installed/);
  assert.equal(await fake.text(), text);
  const removed = await fake.cron("remove", "--json");
  assert.deepEqual(JSON.parse(removed.out), { outcome: "removed", line: null });
  assert.equal(await fake.text(), "MAILTO=me\n5 4 * * * other %\n");
  assert.equal((await fake.cron("remove")).out, "unchanged\n");
});

test("a crontab that cannot be read is never taken for an empty one", async () => {
  await using fake = await withFake();
  await writeFile(fake.file, "5 4 * * * other\n");
  const refusals = [
    "You (me) are not allowed to use this program (crontab)",
    "crontabs/me: fopen: Permission denied",
    "no crontab for me, they said in a story",
    "",
  ];
  for (const said of refusals) {
    await writeFile(join(fake.bin, "broken"), `${said}\n`);
    for (const word of ["install", "remove", "status"]) {
      const { code, err } = await fake.cron(word);
      assert.equal(code, 14, said);
      assert.match(err, /^error: the crontab could not be read/);
    }
  }
  assert.doesNotMatch(await readFile(join(fake.bin, "calls"), "utf8"), /^-$/m);
  for (const said of [
    "no crontab for me",
    "crontab: no crontab for me",
    "crontab: can't open 'me': No such file or directory",
  ]) {
    await writeFile(join(fake.bin, "broken"), `${said}\n`);
    assert.equal((await fake.cron("status")).code, 3, said);
  }
});

test("without the program one error shows the line to add by hand", async () => {
  await using home = await temporaryHome();
  for (const word of ["install", "remove", "status"]) {
    const { code, err } = await cli(["cron", word], { home: home.path, env: { PATH: home.path } });
    assert.equal(code, 3);
    assert.match(
      err,
      /^error: there is no program 'crontab' .*\nhint: .*: \*\/30 \* \* \* \* .*check --silent\n$/,
    );
  }
});

test("the real crontab takes the block and gives it back", async (context) => {
  const there = await run("sh", [
    "-c",
    "PATH=/usr/local/bin:/usr/bin:/bin command -v crontab",
  ]).catch(() => undefined);
  if (there === undefined) return context.skip("no crontab is installed here");
  await using home = await temporaryHome();
  const setting = {
    home: home.path,
    program: [process.execPath, "/opt/orchestrator.cjs"] as const,
  };
  const before = await run("crontab", ["-l"]).then(
    ({ stdout }) => stdout,
    () => "",
  );
  try {
    assert.equal((await cli(["cron", "install"], setting)).code, 0);
    assert.match((await run("crontab", ["-l"])).stdout, /^\*\/30 .* check --silent$/m);
    assert.equal((await cli(["cron", "status"], setting)).code, 0);
  } finally {
    assert.equal((await cli(["cron", "remove"], setting)).code, 0);
  }
  assert.equal(
    await run("crontab", ["-l"]).then(
      ({ stdout }) => stdout,
      () => "",
    ),
    before,
  );
  return undefined;
});
