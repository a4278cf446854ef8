import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { makeWorker } from "../support/provision-rig.ts";

const base64 = (text: string) => Buffer.from(text).toString("base64");

async function verify(command: string, seconds = 30, env = "") {
  const worker = await makeWorker();
  await mkdir(join(worker.home, "kite"));
  const params = {
    REPO: "kite",
    VERIFY_B64: base64(command),
    VERIFY_SECONDS: String(seconds),
    ENV_B64: base64(env),
  };
  const run = (job: string) => worker.job(["verify"], { job, params });
  return { worker, run, [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose]() };
}

test("a command that passes is done, in the clone and with the repo's variables", async () => {
  await using rig = await verify(
    `[ "$PWD" = "$HOME/kite" ] && [ "$MARK" = "a b" ]`,
    30,
    "MARK=a b",
  );
  const result = await rig.run("job-a");
  assert.deepEqual([result.code, result.facts["verify.code"]], [0, "0"], JSON.stringify(result));
});

for (const code of [1, 75, 99, 124]) {
  test(`exit code ${code} of the command is told as it is, with its last lines`, async () => {
    await using rig = await verify(`echo out; echo err >&2; exit ${code}`);
    const result = await rig.run("job-a");
    assert.deepEqual(
      [result.code, result.facts["verify.code"], result.failed?.tail],
      [52, String(code), ["out", "err"]],
    );
  });
}

test("its time over, it is ended and says 124", async () => {
  await using rig = await verify("exec sleep 600", 1);
  const result = await rig.run("job-a");
  assert.equal(result.facts["verify.code"], "124");
});

test("asked again under its name it is not run again, and says the same", async () => {
  await using rig = await verify(`echo ran >>"$HOME/runs"; exit 3`);
  const [first, second] = [await rig.run("job-a"), await rig.run("job-a")];
  assert.deepEqual(first, second);
  assert.equal(await rig.worker.read("runs"), "ran\n");
  await rig.run("job-b");
  assert.equal(await rig.worker.read("runs"), "ran\nran\n");
});
