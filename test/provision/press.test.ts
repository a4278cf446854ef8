import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { until } from "../support/wait.ts";
import { RUN, SESSION, TestWorker } from "../support/worker.ts";

/** An agent that shows a question and writes down what is typed. */
async function asking(worker: TestWorker): Promise<string> {
  worker.openSession();
  await worker.startAgent(RUN, 1, ["say touch made", "say may I?", `wait ${worker.root}/never`]);
  let screen = "";
  await until(
    async () => {
      screen = (await worker.run("screen", [SESSION])).stdout;
      return screen.includes("may I?");
    },
    { what: "the question" },
  );
  return screen;
}

test("keys are pressed on the screen that was seen, and on no other", async () => {
  using worker = new TestWorker();
  const screen = await asking(worker);
  const press = (how: string, stdin: string, ...keys: string[]) =>
    worker.run("press", [SESSION, how, ...keys], { stdin });
  for (const [how, stdin] of [
    ["same", screen.replace("may I?", "may I not?")],
    ["same", "may I?"],
    ["has", "may I not?"],
    ["has", "may I?\nand more"],
  ] as const) {
    const refused = await press(how, stdin, "y");
    assert.deepEqual([refused.code, refused.stdout], [65, ""], `${how} ${stdin}`);
  }
  assert.equal((await worker.run("screen", [SESSION])).stdout, screen);
  assert.equal((await press("has", "may I?", "y")).code, 0);
  await until(
    async () =>
      (await worker.run("screen", [SESSION])).stdout.replace(screen.trimEnd(), "").includes("y"),
    { what: "the key" },
  );
  assert.equal((await press("same", screen, "n")).code, 65, "the screen has the first key by now");
});

test("what is no key, no screen or no session is refused before anything is sent", async () => {
  using worker = new TestWorker();
  const screen = await asking(worker);
  const canary = join(worker.root, "canary");
  for (const args of [
    [SESSION, "same"],
    [SESSION, "like", "y"],
    [SESSION, "same", "-X"],
    [SESSION, "same", `;run-shell "touch ${canary}"`],
    ["a/b", "same", "y"],
  ]) {
    assert.equal((await worker.run("press", args, { stdin: screen })).code, 64, args.join(" "));
  }
  assert.equal((await worker.run("press", [SESSION, "has", "y"], { stdin: "\n" })).code, 64);
  assert.equal((await worker.run("press", ["absent", "has", "y"], { stdin: "may" })).code, 69);
  assert.equal((await worker.run("screen", [SESSION])).stdout, screen);
  assert.ok(!existsSync(canary));
});

test("an interrupt reaches the launch's whole group, and nobody once it has ended", async () => {
  using worker = new TestWorker();
  worker.openSession();
  const script = [`wait ${worker.root}/never`];
  const started = await worker.startAgent(RUN, 1, script);
  const pid = started.stdout.trim().split("\t")[1] ?? "";
  assert.equal((await worker.run("interrupt", [RUN, "2"])).code, 66, "no such launch");
  const sent = await worker.run("interrupt", [RUN, "1"]);
  assert.deepEqual([sent.code, sent.stdout], [0, `sent\t${pid}\n`], sent.stderr);
  await until(() => worker.show("#{pane_dead}") === "1", { what: "the end" });
  assert.equal((await worker.run("interrupt", [RUN, "1"])).code, 66);
});
