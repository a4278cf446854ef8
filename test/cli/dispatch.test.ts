import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { OrchestratorError } from "../../src/domain/errors.ts";
import type { EventView, RunDetailView } from "../../src/operations/views.ts";
import { cli, jsonLines, socketOf, type CliSetting } from "../support/cli.ts";
import {
  fakeController,
  temporaryHome,
  type FakeController,
  type Handler,
} from "../support/fake-services.ts";
import { event, MESSAGE, RUN } from "../support/views.ts";
import { until } from "../support/wait.ts";

const BLOCKED: Partial<RunDetailView> = {
  state: "blocked",
  state_reason: "dialog: workspace trust",
  receipt: "blocked",
};

const HAPPY = [
  event("run.queued", { worker: null }),
  event("run.assigned", {
    worker: "kite-1",
    reason: "no worker is idle; the pool has room",
    epoch: 1,
    created: true,
  }),
  event("worker.creating", { worker: "kite-1" }),
  event("run.step", { step: "clone", state: "running" }),
  event("run.step", { step: "clone", state: "done", ms: 1_234 }),
  event("run.step", { step: "setup", state: "skipped", detail: "nothing changed" }),
  event("run.launched", { launch: 1, runtime_session_id: "1111" }),
  event("run.delivered", { receipt: "accepted", form: "exact", bytes: 11, ms: 4_100 }),
];

interface Story {
  readonly events?: readonly EventView[];
  readonly run?: Partial<RunDetailView>;
  /** State of the run when the dispatch is answered. */
  readonly accepted?: RunDetailView["state"];
  readonly handlers?: Readonly<Record<string, Handler>>;
}

async function tell(argv: readonly string[], story: Story = {}, setting: Partial<CliSetting> = {}) {
  await using home = await temporaryHome();
  await mkdir(join(home.path, "o"), { mode: 0o700 });
  const run: RunDetailView = { ...RUN, ...story.run };
  const controller = await fakeController(socketOf(home.path), {
    dispatch: () => ({ run: { ...run, state: story.accepted ?? "driving" }, replayed: false }),
    "run.show": () => run,
    "run.list": () => [run],
    async *"events.follow"(_: never, signal: AbortSignal) {
      yield* story.events ?? HAPPY;
      await new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => resolve());
      });
    },
    ...story.handlers,
  });
  try {
    const result = await cli(argv, { home: home.path, ...setting });
    return { ...result, calls: controller.calls };
  } finally {
    await controller.stop();
  }
}

const TASK = ["--repo", "kite", "--command", "fix the bug"];

test("a delivered task prints worker and why, steps with times, the receipt and how to watch", async () => {
  const { code, out, err, calls } = await tell(TASK);
  assert.equal(err, "");
  assert.equal(
    out,
    `run       run-000000000001: fix the bug
worker    kite-1 (new): no worker is idle; the pool has room
  ok      clone     1.2 s
  skipped setup     nothing changed
launched  conversation 1111
delivered accepted, 11 bytes exact, after 4.1 s
run       run-000000000001 (11 bytes: accepted)
status    orchestrator status run-000000000001
watch     orchestrator attach kite-1
`,
  );
  assert.equal(code, 0);
  const { request_id: requestId, ...input } = (calls[0]?.input ?? {}) as Record<string, unknown>;
  assert.match(String(requestId), /^request-[0-9a-z]{12}$/);
  assert.deepEqual(input, { repo: "kite", text: "fix the bug", on_full: "queue" });
});

test("'dispatch' may be said or left out", async () => {
  const { code, calls } = await tell(["dispatch", ...TASK]);
  assert.equal(code, 0);
  assert.equal(calls[0]?.op, "dispatch");
});

test("as JSON: events, then the run with what a program needs", async () => {
  const { code, out } = await tell([...TASK, "--json"]);
  const lines = jsonLines(out);
  assert.equal(code, 0);
  assert.equal(lines.length, HAPPY.length + 1);
  for (const line of lines.slice(0, -1)) assert.ok("event" in line);
  const last = lines.at(-1) ?? {};
  for (const key of [
    "run_id",
    "worker",
    "reason",
    "receipt",
    "status",
    "runtime_session_id",
    "attach",
  ]) {
    assert.ok(key in last, key);
  }
  assert.equal(last["outcome"], "delivered");
  assert.ok(!("error" in last));
});

const ENDS: ReadonlyArray<readonly [string, readonly string[], Story, number, RegExp]> = [
  [
    "queued at the cap",
    TASK,
    {
      accepted: "queued",
      run: {
        state: "queued",
        worker: null,
        status: null,
        receipt: "queued",
        attach: null,
        reason: "all 2 workers are busy",
      },
    },
    0,
    /queued {4}position 1 of the pool kite: all 2 workers are busy/,
  ],
  [
    "blocked",
    TASK,
    {
      events: [
        event("run.blocked", {
          reason: "dialog: workspace trust",
          screen: "Do you trust\u001b[31m this folder?\n > 1. Yes",
        }),
      ],
      run: BLOCKED,
    },
    8,
    /the agent's screen:\n {2}Do you trust this folder\?\n {3}> 1\. Yes\n/,
  ],
  [
    "unconfirmed",
    TASK,
    {
      events: [event("run.blocked", { reason: "delivery not confirmed" })],
      run: { ...BLOCKED, receipt: "unknown", state_reason: "delivery not confirmed" },
    },
    6,
    /blocked {3}delivery not confirmed/,
  ],
  [
    "failed",
    TASK,
    {
      events: [
        event("run.step", { step: "setup", state: "failed", ms: 31, detail: "exit 1" }),
        event("run.finished", { state: "failed", reason: "setup failed" }),
      ],
      run: { state: "failed", state_reason: "setup failed", receipt: "queued" },
    },
    5,
    /failed {2}setup {5}31 ms: exit 1\nfailed: setup failed/,
  ],
  [
    "completed",
    [...TASK, "--wait"],
    {
      events: [
        ...HAPPY,
        event("run.finished", {
          state: "completed",
          summary: "Fixed it.",
          commits: 2,
          files_changed: 1,
          insertions: 3,
          deletions: 1,
          duration_ms: 61_000,
          input_tokens: 10,
          output_tokens: 20,
          cost_usd: 0.5,
          unrescued: false,
        }),
      ],
      run: { state: "completed" },
    },
    0,
    /completed\n\n {2}Fixed it\.\n\n2 commits, 1 file, \+3 -1, 1 min 1 s, 10 tokens in, 20 out, \$0\.50/,
  ],
  [
    "cancelled while waiting",
    [...TASK, "--wait"],
    {
      events: [event("run.finished", { state: "cancelled", reason: null })],
      run: { state: "cancelled" },
    },
    5,
    /cancelled/,
  ],
  [
    "unrescued",
    [...TASK, "--wait"],
    {
      events: [event("run.finished", { state: "completed", unrescued: true })],
      run: { state: "completed", unrescued: true },
    },
    0,
    /could not be saved elsewhere/,
  ],
];

for (const [name, argv, story, exitCode, shown] of ENDS) {
  test(`exit code ${exitCode}: ${name}`, async () => {
    const { code, out, err } = await tell(argv, story);
    assert.match(out, shown);
    assert.equal(code, exitCode, err);
    assert.equal(err.startsWith("error: "), exitCode !== 0);
    // oxlint-disable-next-line no-control-regex
    assert.doesNotMatch(out + err, /\u001b/);
    const asJson = await tell([...argv, "--json"], story);
    assert.equal(asJson.code, exitCode);
    const last = jsonLines(asJson.out).at(-1) ?? {};
    assert.equal("error" in last, exitCode !== 0);
    assert.equal(last["run_id"], RUN.run_id);
    assert.equal(asJson.err, "");
  });
}

test("a refusal of the controller ends with its own exit code", async () => {
  const refusals = [
    ["nothing_available", 3],
    ["not_found", 4],
    ["limited", 16],
    ["request_mismatch", 2],
    ["internal", 1],
  ] as const;
  for (const [refusal, exitCode] of refusals) {
    const handlers = {
      dispatch: () => {
        throw new OrchestratorError(refusal, "no \u001b[2Jthanks", { hint: "try later" });
      },
    };
    const { code, out, err } = await tell([...TASK, "--on-full", "fail"], { handlers });
    assert.equal(code, exitCode);
    assert.equal(err, "error: no thanks\nhint: try later\n");
    assert.equal(out, "");
    const asJson = await tell([...TASK, "--json"], { handlers });
    assert.equal(asJson.code, exitCode);
    assert.partialDeepStrictEqual(jsonLines(asJson.out)[0], { error: { code: refusal } });
  }
});

test("old news does not end the following: a run that was blocked and goes on is followed", async () => {
  const events = [event("run.blocked", { reason: "limit" }), ...HAPPY];
  let shown = 0;
  const handlers = {
    "run.show": () => {
      shown += 1;
      return { ...RUN, receipt: shown === 1 ? "queued" : "accepted" };
    },
  };
  const { code, out } = await tell(TASK, { events, handlers });
  assert.equal(code, 0);
  assert.match(out, /blocked {3}limit[^]*delivered accepted/);
});

/** A controller that takes one request and is gone before it answers; then `handlers` answer at the same place. */
async function afterALoss(argv: readonly string[], handlers: Readonly<Record<string, Handler>>) {
  await using home = await temporaryHome();
  await mkdir(join(home.path, "o"), { mode: 0o700 });
  const path = socketOf(home.path);
  let lost = "";
  let next: Promise<FakeController> | undefined;
  const dying = createServer((socket) => {
    socket.once("data", (chunk: Buffer) => {
      lost = chunk.toString();
      dying.close();
      next = fakeController(path, handlers);
      void next.then(() => socket.destroy());
    });
  });
  await new Promise<void>((resolve) => {
    dying.listen(path, resolve);
  });
  const result = await cli(argv, { home: home.path });
  await using controller = await next;
  return { ...result, lost: JSON.parse(lost) as { input: object }, calls: controller?.calls ?? [] };
}

test("an answer that was lost is asked for again under the same request id", async () => {
  const { code, lost, calls } = await afterALoss(TASK, {
    dispatch: () => ({ run: { ...RUN, state: "driving" }, replayed: true }),
    "run.show": () => RUN,
    async *"events.follow"() {
      yield* HAPPY;
    },
  });
  assert.equal(code, 0);
  assert.ok("request_id" in lost.input);
  assert.deepEqual(calls[0]?.input, { ...lost.input, on_full: "queue" });
});

test("what must not be done twice is not asked for twice: the outcome is said to be unknown", async () => {
  const { code, err, calls } = await afterALoss(["worker", "exec", "kite-1", "--", "ls"], {
    "worker.exec": () => ({ code: 0, stdout: "", stderr: "", truncated: false }),
  });
  assert.equal(code, 7);
  assert.match(err, /'worker\.exec' may or may not have happened\nhint: 'orchestrator status'/);
  assert.deepEqual(calls, []);
});

test("when the controller changes, the events go on where they were", async () => {
  await using home = await temporaryHome();
  await mkdir(join(home.path, "o"), { mode: 0o700 });
  const places: number[] = [];
  let dispatches = 0;
  let stopFirst = () => Promise.resolve();
  const handlers = (first: boolean): Readonly<Record<string, Handler>> => ({
    dispatch: () => {
      dispatches += 1;
      return { run: { ...RUN, state: "driving" }, replayed: false };
    },
    "run.show": () => RUN,
    async *"events.follow"(input: { after: number }, signal: AbortSignal) {
      places.push(input.after);
      if (!first) {
        yield HAPPY.at(-1);
        return;
      }
      yield* HAPPY.slice(0, 3);
      void stopFirst();
      await new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => resolve());
      });
    },
  });
  await using first = await fakeController(socketOf(home.path), handlers(true));
  let second: Awaited<ReturnType<typeof fakeController>> | undefined;
  stopFirst = async () => {
    // Another controller comes up at the same place.
    void first.stop();
    await until(
      async () =>
        (second = await fakeController(socketOf(home.path), handlers(false)).catch(
          () => undefined,
        )),
      {
        what: "the second controller",
      },
    );
  };
  const { code } = await cli(TASK, { home: home.path });
  assert.equal(code, 0);
  assert.equal(dispatches, 1);
  assert.deepEqual(places, [0, HAPPY[2]?.seq]);
  await second?.stop();
});

test("Ctrl-C stops following, never the run, and says so", async () => {
  const stop = new AbortController();
  const cancelled: string[] = [];
  const handlers = {
    "run.cancel": () => cancelled.push("cancelled"),
    async *"events.follow"(_: never, signal: AbortSignal) {
      yield HAPPY[0];
      stop.abort(new Error("interrupted"));
      await new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => resolve());
      });
    },
  };
  const { code, err } = await tell(TASK, { handlers }, { interrupt: stop.signal });
  assert.equal(code, 130);
  assert.match(
    err,
    /stopped following; the run goes on\nhint: orchestrator status run-000000000001/,
  );
  assert.deepEqual(cancelled, []);
});

test("Ctrl-C before the answer tells how to find out", async () => {
  const stop = new AbortController();
  const handlers = {
    dispatch: () => {
      stop.abort(new Error("interrupted"));
      return new Promise(() => {});
    },
  };
  const argv = [...TASK, "--request-id", "mine-1"];
  const { code, err } = await tell(argv, { handlers }, { interrupt: stop.signal });
  assert.equal(code, 130);
  assert.match(err, /--request-id mine-1 does not give it twice/);
});

test("a dry run shows the plan and changes nothing", async () => {
  const plan = {
    kind: "use",
    worker: "kite-2",
    reason: "longest idle",
    considered: [{ worker: "kite-1", verdict: "busy: run-1" }],
  };
  const handlers = { "dispatch.plan": () => plan };
  const { code, out, calls } = await tell(["--repo", "kite", "--dry-run"], { handlers });
  assert.equal(code, 0);
  assert.equal(out, "use kite-2: longest idle\n  kite-1: busy: run-1\n");
  assert.deepEqual(calls, [{ op: "dispatch.plan", input: { repo: "kite" } }]);
});

test("the text comes from one place, byte for byte", async () => {
  await using home = await temporaryHome();
  const odd = "line 1\n\ttab 'quotes' \"double\" $(touch x) `id` \\ #{pane} é 漢字 \u200b end\n\n";
  const file = join(home.path, "task.md");
  await writeFile(file, odd);
  const textOf = (result: Awaited<ReturnType<typeof tell>>) =>
    (result.calls[0]?.input as { text: string } | undefined)?.text;
  assert.equal(textOf(await tell(["--repo", "kite", "--command", odd])), odd);
  assert.equal(textOf(await tell(["--repo", "kite", "--file", file])), odd);
  assert.equal(textOf(await tell(["--repo", "kite", "-"], {}, { stdin: odd })), odd);
  assert.equal(textOf(await tell(["--repo", "kite", "--file", "-"], {}, { stdin: odd })), odd);
  const piped = await tell(["--repo", "kite"], {}, { stdin: odd });
  assert.equal(textOf(piped), odd);
  assert.match(piped.err, /^reading the task from standard input\n/);
});

test("a text that cannot be taken is refused before anything is asked", async () => {
  await using home = await temporaryHome();
  const large = join(home.path, "large");
  await writeFile(large, "x".repeat(5 * 1024 * 1024));
  const binary = join(home.path, "binary");
  await writeFile(binary, Buffer.from([0x66, 0xff, 0x00]));
  const wrong: ReadonlyArray<readonly [readonly string[], Partial<CliSetting>, RegExp]> = [
    [
      ["--repo", "kite"],
      {},
      /^error: --command is missing\nhint: for example: orchestrator --repo kite/,
    ],
    [["--repo", "kite"], { stdin: "" }, /--command is missing/],
    [["--command", "x"], {}, /^error: --repo is missing\nhint: for example/],
    [["--repo", "kite", "--file", large], {}, /is larger than 4 MiB/],
    [
      ["--repo", "kite", "-"],
      { stdin: "x".repeat(5 * 1024 * 1024) },
      /standard input is larger than 4 MiB/,
    ],
    [["--repo", "kite", "--file", binary], {}, /is no valid UTF-8/],
    [["--repo", "kite", "--file", join(home.path, "absent")], {}, /cannot be read \(ENOENT\)/],
    [["--repo", "kite", "--file", home.path], {}, /cannot be read \(EISDIR\)/],
    [["--repo", "kite", "--command", "x", "--file", binary], {}, /given more than once/],
    [["--repo", "kite", "--command", "x", "-"], { stdin: "y" }, /given more than once/],
    [["--repo", "kite", "--command", "fix", "the"], {}, /"the" is not expected here/],
  ];
  for (const [argv, setting, message] of wrong) {
    const { code, out, err, calls } = await tell(argv, {}, setting);
    assert.match(err, message, argv.join(" "));
    assert.equal(code, 2);
    assert.equal(out, "");
    assert.deepEqual(calls, []);
  }
  for (const text of ["", " \n\t", "a\0b", "\ud800"]) {
    const { code, calls } = await tell(["--repo", "kite", "--command", text]);
    assert.equal(code, 2, JSON.stringify(text));
    assert.deepEqual(calls, []);
  }
});

test("--no-daemon hosts the controller, waits for the end and stops it; a running one is used instead", async () => {
  await using home = await temporaryHome();
  await mkdir(join(home.path, "o"), { mode: 0o700 });
  const done = { ...RUN, state: "completed" as const };
  const handlers = {
    dispatch: () => ({ run: { ...RUN, state: "driving" }, replayed: false }),
    "run.show": () => done,
    async *"events.follow"() {
      yield event("run.finished", { state: "completed" });
    },
  };
  const story: string[] = [];
  const hosting: CliSetting = {
    home: home.path,
    async hostController({ idleExit }) {
      const controller = await fakeController(socketOf(home.path), handlers);
      story.push(`hosted, idle exit ${idleExit}`);
      return {
        ended: new Promise(() => {}),
        stop: async () => {
          await controller.stop();
          story.push("stopped");
        },
      };
    },
  };
  assert.equal((await cli([...TASK, "--no-daemon"], hosting)).code, 0);
  assert.equal((await cli(TASK, { ...hosting, env: { ORCHESTRATOR_NO_DAEMON: "1" } })).code, 0);
  assert.deepEqual(story, [
    "hosted, idle exit false",
    "stopped",
    "hosted, idle exit false",
    "stopped",
  ]);
  await using _ = await fakeController(socketOf(home.path), handlers);
  const { code, err } = await cli([...TASK, "--no-daemon"], hosting);
  assert.equal(code, 0);
  assert.match(err, /a controller is running already/);
});

test("a follow-up to a working agent is told by its own receipt, not the run's", async () => {
  const second = { ...MESSAGE, seq: 2, launch: null, receipt: "queued", bytes: 4 } as const;
  const sending = (receipt: "queued" | "refused" | "typed_only", argv: readonly string[] = []) => {
    const message = { ...second, receipt };
    const done = receipt === "refused" ? ({ state: "completed" } as const) : {};
    return tell(["send", RUN.run_id, "--command", "more", ...argv], {
      events: [event("run.delivered", {}), event("run.finished", {})],
      run: { ...done, messages: [MESSAGE, message] },
      handlers: {
        status: () => ({ workers: [], runs: [RUN] }),
        "events.read": () => [],
        send: () => ({ ...RUN, message }),
      },
    });
  };
  const queued = await sending("queued");
  assert.deepEqual(
    [queued.code, queued.out],
    [0, `${RUN.run_id}  receipt: queued: the agent gets it at the end of its turn\n`],
  );
  const typed = await sending("typed_only");
  assert.deepEqual([typed.code, typed.out], [6, `${RUN.run_id}  receipt: typed_only\n`]);
  assert.match(typed.err, /nothing proves/);
  for (const argv of [[], ["--wait"]]) {
    const refused = await sending("refused", argv);
    assert.equal(refused.code, 12, refused.out);
    assert.match(refused.err, /was not delivered: run run-000000000001 ended before its turn came/);
  }
});

test("'send --wait' goes on until the message itself is delivered", async () => {
  const messages = [MESSAGE, { ...MESSAGE, seq: 2, launch: 2, bytes: 4 }];
  let looks = 0;
  const { code, out } = await tell(["send", RUN.run_id, "--command", "more", "--wait"], {
    // The first is of the message before: told late, it is no news of this one.
    events: [event("run.delivered", {}), event("run.delivered", {})],
    handlers: {
      status: () => ({ workers: [], runs: [RUN] }),
      "events.read": () => [],
      send: () => ({ ...RUN, message: { ...MESSAGE, seq: 2, launch: null, receipt: "queued" } }),
      "run.show": () => {
        looks += 1;
        if (looks > 1) return { ...RUN, launch: 2, messages };
        return {
          ...RUN,
          messages: [MESSAGE, { ...MESSAGE, seq: 2, launch: null, receipt: "queued" }],
        };
      },
    },
  });
  assert.deepEqual([code, looks], [0, 2]);
  assert.match(out, /\(4 bytes: accepted\)/);
});
