import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { asRunId } from "../../src/domain/ids.ts";
import { showRun } from "../../src/operations/run-views.ts";
import type { RunDetailView, SentView } from "../../src/operations/views.ts";
import { createShellRuntime } from "../../src/runtimes/shell/runtime.ts";
import type { MessagesTable } from "../../src/store/schema.ts";
import { open, tempFolder } from "../store/rig.ts";
import { messageRow, runRow, taskRow } from "../store/rows.ts";
import { fakeServices } from "../support/fake-services.ts";
import { installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";

type Row = Pick<MessagesTable, "launch" | "receipt">;

test("a run's receipt is that of the message its latest launch carries, whatever waits behind it", async (t) => {
  const store = await open(join(tempFolder(t), "coordination.db"));
  t.after(() => store.close());
  const cases: { messages: Row[]; receipt: Row["receipt"] }[] = [
    { messages: [{ launch: null, receipt: "queued" }], receipt: "queued" },
    {
      messages: [
        { launch: 1, receipt: "blocked" },
        { launch: null, receipt: "queued" },
      ],
      receipt: "blocked",
    },
    {
      messages: [
        { launch: 1, receipt: "accepted" },
        { launch: null, receipt: "refused" },
      ],
      receipt: "accepted",
    },
    {
      messages: [
        { launch: 1, receipt: "accepted" },
        { launch: 2, receipt: "unknown" },
        { launch: null, receipt: "queued" },
      ],
      receipt: "unknown",
    },
    {
      messages: [
        { launch: 1, receipt: "accepted" },
        { launch: null, receipt: "queued" },
        { launch: 1, receipt: "typed_only" },
      ],
      receipt: "typed_only",
    },
    {
      messages: [
        { launch: null, receipt: "refused" },
        { launch: null, receipt: "queued" },
      ],
      receipt: "refused",
    },
    { messages: [], receipt: "unknown" },
  ];
  await store.mutate(async (tx) => {
    await tx.db.insertInto("tasks").values(taskRow("t-1")).execute();
    for (const [index, { messages }] of cases.entries()) {
      await tx.db
        .insertInto("runs")
        .values(runRow(`r-${index}`))
        .execute();
      for (const [at, message] of messages.entries()) {
        const row = messageRow({ run_id: asRunId(`r-${index}`), seq: at + 1, ...message });
        await tx.db.insertInto("messages").values(row).execute();
      }
    }
  });
  for (const [index, { messages, receipt }] of cases.entries()) {
    const services = { ...fakeServices(), store };
    const run = await showRun(services, { run_id: asRunId(`r-${index}`) });
    assert.equal(run.receipt, receipt, JSON.stringify(messages));
    assert.deepEqual(
      run.messages.map(({ launch, receipt: own }) => ({ launch, receipt: own })),
      messages,
    );
  }
});

test("a follow-up has its own receipt, and the run has it when its turn has come", async () => {
  const shell = createShellRuntime();
  const capabilities = { ...shell.capabilities, resumes: true };
  await using installed = installation({
    overrides: { runtimes: new Map([["shell", { ...shell, capabilities }]]) },
  });
  const go = [0, 1].map((index) => join(installed.home, `go-${index}`));
  const waiting = (index: number) => `until [ -e ${go[index]} ]; do sleep 0.05; done`;
  const run = await installed.dispatch(waiting(0));
  await installed.wait(run.run_id, "delivered");
  const sent = await installed.call<SentView>("send", { target: run.run_id, text: waiting(1) });
  assert.deepEqual(
    [sent.run_id, sent.receipt, sent.message.seq, sent.message.receipt, sent.message.launch],
    [run.run_id, "accepted", 2, "queued", null],
  );
  writeFileSync(go[0] ?? "", "");
  const second = await until(
    async () => {
      const shown = await installed.call<RunDetailView>("run.show", { run_id: run.run_id });
      return shown.messages[1]?.receipt === "queued" ? undefined : shown;
    },
    { what: "the second message's turn", timeoutMs: 60_000 },
  );
  assert.deepEqual(
    [second.launch, second.messages[1]?.launch, second.receipt],
    [2, 2, second.messages[1]?.receipt],
  );
  writeFileSync(go[1] ?? "", "");
  assert.equal((await installed.wait(run.run_id)).state, "completed");
});
