import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { installation, controllerLog } from "../support/installation.ts";
import { until } from "../support/wait.ts";

test("the controller tells of a run that failed, once, also when it is started again", async () => {
  await using installed = installation();
  const file = join(installed.home, "told");
  const told = () => {
    try {
      return readFileSync(file, "utf8")
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { run_id: string; title: string });
    } catch {
      return [];
    }
  };
  installed.configure({}, { alerts: [{ command: `cat >> ${file}`, kinds: ["run_failed"] }] });
  await installed.controller();
  await until(() => installed.call<unknown[]>("events.read").then(() => true), {
    what: "the controller",
  });
  const good = await installed.dispatch("true");
  await installed.wait(good.run_id);
  const bad = await installed.dispatch("exit 7");
  await installed.wait(bad.run_id);
  await until(() => told().length === 1, { what: "the message", timeoutMs: 20_000 }).catch(
    (error: unknown) => {
      throw new Error(controllerLog(installed), { cause: error });
    },
  );
  await until(() => controllerLog(installed).includes("alert.sent"), { what: "the log" });
  await installed.stopController();
  await installed.controller();
  const again = await installed.dispatch("exit 8");
  await installed.wait(again.run_id);
  await until(() => told().length === 2, { what: "the second message", timeoutMs: 20_000 });
  assert.deepEqual(
    told().map(({ run_id: id, title }) => [id, title.replace(id, "RUN")]),
    [
      [bad.run_id, "run RUN failed: exit 7"],
      [again.run_id, "run RUN failed: exit 8"],
    ],
  );
});
