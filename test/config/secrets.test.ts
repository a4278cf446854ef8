import assert from "node:assert/strict";
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { format, inspect } from "node:util";
import * as fc from "fast-check";
import { toWireError } from "../../src/domain/errors.ts";
import { Secret } from "../../src/config/secret.ts";
import { resolveSecret, type SecretSources, showReference } from "../../src/config/secrets.ts";
import { until } from "../support/wait.ts";
import { errorOf, temporaryFolder } from "./support.ts";

function sources(userHome = "/h", variables: Record<string, string> = {}) {
  const logged: unknown[] = [];
  const log = (event: string, fields: unknown) => logged.push({ event, fields });
  const found: SecretSources = {
    env: { userHome, variable: (name) => variables[name] },
    logger: { info: log, warn: log, error: log },
  };
  return { ...found, logged };
}

test("a secret prints as redacted in every way, and reveals itself when asked", () => {
  const secret = new Secret("sk-VALUE");
  const shown = [
    String(secret),
    // oxlint-disable-next-line typescript/restrict-template-expressions
    `${secret}`,
    secret[Symbol.toPrimitive](),
    JSON.stringify({ secret, list: [secret] }),
    inspect(secret, { showHidden: true, depth: 9 }),
    inspect({ deep: { secret } }, { customInspect: false, showHidden: true, depth: 9 }),
    format("%s %o %O %j", secret, secret, secret, secret),
    JSON.stringify(structuredClone(secret)),
    Object.entries(secret).join(),
    new Error("x", { cause: secret }).stack ?? "",
    inspect(new Error("x", { cause: { secret } })),
  ];
  for (const text of shown) assert.doesNotMatch(text, /VALUE/);
  assert.equal(shown[0], "[redacted]");
  assert.equal(secret.reveal(), "sk-VALUE");
});

test("each kind of reference gives its value without one trailing newline", async (t) => {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, "key"), "from-file\n", { mode: 0o600 });
  await writeFile(join(folder, "crlf"), "from-crlf\r\n", { mode: 0o600 });
  const from = sources(folder, { KEY: "from-env" });
  for (const [reference, value] of [
    ["env:KEY", "from-env"],
    [`file:${join(folder, "key")}`, "from-file"],
    ["file:~/key", "from-file"],
    ["file:~/crlf", "from-crlf"],
    ["cmd:echo from-cmd", "from-cmd"],
    ["cmd:printf '%s' ' a=b:c '", " a=b:c "],
    ["cmd:echo out; echo err >&2", "out"],
  ] as const) {
    assert.equal((await resolveSecret(reference, from)).reveal(), value, reference);
  }
  assert.deepEqual(from.logged, []);
});

test("a key of several lines comes through byte for byte when asked for", async (t) => {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, "key"), "one\ntwo\n", { mode: 0o600 });
  const block = { ...sources(folder), shape: "block" } as const;
  assert.equal((await resolveSecret("file:~/key", block)).reveal(), "one\ntwo\n");
});

test("a file that others may read is used, and warned of by its path alone", async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, "key");
  await writeFile(path, "VALUE");
  await chmod(path, 0o644);
  const from = sources(folder);
  assert.equal((await resolveSecret("file:~/key", from)).reveal(), "VALUE");
  assert.deepEqual(from.logged, [
    { event: "secret_file_was_readable_by_others", fields: { path } },
  ]);
});

test("a reference that gives no usable value is one error that names it and shows no value", async (t) => {
  const folder = await temporaryFolder(t);
  const file = async (name: string, text: string) => {
    await writeFile(join(folder, name), text, { mode: 0o600 });
  };
  await file("empty", "\n");
  await file("lines", "VALUE\nVALUE\n");
  await file("nul", "VALUE\0");
  await file("large", "VALUE".repeat(20_000));
  const from = sources(folder, { LINES: "VALUE\nVALUE", BLANK: "  " });
  for (const [reference, message] of [
    ["env:MISSING", "secret env:MISSING is not set in the controller's environment"],
    ["env:LINES", "secret env:LINES has more than one line"],
    ["env:BLANK", "secret env:BLANK is empty"],
    ["file:~/missing", "secret file:~/missing cannot be read"],
    ["file:~/empty", "secret file:~/empty is empty"],
    ["file:~/lines", "secret file:~/lines has more than one line"],
    ["file:~/nul", "secret file:~/nul holds a NUL"],
    ["file:~/large", "secret file:~/large is larger than 64 KiB"],
    ["file:/dev/null", "secret file:/dev/null is not a file"],
    ["file:relative", "secret file:relative is not an absolute path or one below ~/"],
    ["cmd:true", "secret cmd:true is empty"],
    ["cmd:echo VALUE; echo VALUE", "secret cmd:echo … has more than one line"],
    ["cmd:echo VALUE; exit 3", "secret cmd:echo … ended with 3"],
    ["cmd:TOKEN=VALUE false", "secret cmd:… ended with 1"],
    ["cmd:kill -9 $$ VALUE", "secret cmd:kill … could not be run"],
    ["cmd:yes VALUE", "secret cmd:yes … printed more than 64 KiB"],
    ["sk-VALUE", "secret (no env:, file: or cmd: reference) is not a reference"],
  ] as const) {
    const error = await errorOf(() => resolveSecret(reference, from));
    assert.deepEqual([error.code, error.message], ["invalid_config", message], reference);
    const shown =
      inspect(error, { depth: 9, showHidden: true }) + JSON.stringify(toWireError(error));
    assert.doesNotMatch(shown.replaceAll(/^ +at .*$/gm, ""), /VALUE/, reference);
  }
  assert.deepEqual(from.logged, []);
});

test("a command that does not end is an error at its deadline", async () => {
  const waiting = resolveSecret("cmd:echo VALUE; sleep 60", { ...sources(), timeoutMs: 100 });
  const error = await errorOf(() => waiting);
  assert.equal(error.message, "secret cmd:echo … did not end within 0.1 s");
  assert.doesNotMatch(inspect(error, { depth: 9 }).replaceAll(/^ +at .*$/gm, ""), /VALUE/);
});

test("an abort ends the command with all it started, and the wait with its own reason", async (t) => {
  const pidFile = join(await temporaryFolder(t), "pid");
  const controller = new AbortController();
  const waiting = resolveSecret(`cmd:sleep 60 & echo $! > '${pidFile}'; wait`, {
    ...sources(),
    timeoutMs: 60_000,
    signal: controller.signal,
  });
  const rejected = assert.rejects(waiting, /^Error: stopped$/);
  const pid = await until(
    async () => (await readFile(pidFile, "utf8").catch(() => "")).trim() || false,
    { timeoutMs: 30_000, what: "the command to write its pid" },
  );
  controller.abort(new Error("stopped"));
  await rejected;
  // Gone, or a zombie that its new parent has not collected yet.
  await until(
    async () => /\) [ZX]/.test(await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ") Z")),
    { timeoutMs: 30_000, what: "the command's child to end" },
  );
});

test("what is shown of a command is its program at most", () => {
  fc.assert(
    fc.property(fc.string(), (rest) => {
      const shown = showReference(`cmd:op ${rest}`);
      assert.ok(shown === "cmd:op …" || shown === "cmd:op", shown);
    }),
  );
});
