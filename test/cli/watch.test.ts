import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { Palette } from "../../src/cli/colour.ts";
import type { TerminalScreen } from "../../src/cli/io.ts";
import { Page } from "../../src/cli/screen.ts";
import { widthOf } from "../../src/cli/table.ts";
import { frameOf } from "../../src/cli/watch-frame.ts";
import type { EventView, RunView, WorkerView } from "../../src/operations/views.ts";
import { cli, jsonLines, socketOf } from "../support/cli.ts";
import { fakeController, temporaryHome } from "../support/fake-services.ts";
import { event, RUN, WORKER } from "../support/views.ts";
import { until } from "../support/wait.ts";

const MAIN = join(import.meta.dirname, "..", "..", "src", "main.ts");
const HOSTILE = "\u001b[2J\u001b]0;owned\u0007\u202ereversed\u200b #{pane} \u009b31m";

/** A controller whose fleet can be changed, and whose followers hear of it. */
async function changingFleet(home: string, workers: WorkerView[], runs: RunView[]) {
  await mkdir(join(home, "o"), { recursive: true, mode: 0o700 });
  const fleet = { workers, runs };
  let tell: Array<(event: EventView) => void> = [];
  let looks = 0;
  const controller = await fakeController(socketOf(home), {
    status: () => {
      looks += 1;
      return fleet;
    },
    async *"events.follow"(_: never, signal: AbortSignal) {
      const waiting: EventView[] = [];
      let wake = () => {};
      tell.push((news) => {
        waiting.push(news);
        wake();
      });
      signal.addEventListener("abort", () => wake());
      while (!signal.aborted) {
        yield* waiting.splice(0);
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  });
  return {
    fleet,
    controller,
    looks: () => looks,
    followers: () => tell.length,
    change(change: () => void) {
      change();
      for (const one of tell) one(event("run.status"));
    },
    async [Symbol.asyncDispose]() {
      tell = [];
      await controller.stop();
    },
  };
}

const plain: Palette = {
  bold: (text) => text,
  dim: (text) => text,
  red: (text) => text,
  green: (text) => text,
  yellow: (text) => text,
};

function fakeScreen(rows: number, columns: number) {
  const written: string[] = [];
  const screen: TerminalScreen = {
    size: () => ({ rows, columns }),
    write: (text) => void written.push(text),
    onResize: () => () => {},
    onKey: () => () => {},
  };
  return { screen, written };
}

test("the page says status, reason and how long, and its age only when it is old", () => {
  const now = RUN.created_at + 3 * 60_000;
  const status = { ...RUN.status!, since: now - 125_000 };
  const stale = { ...status, status: "stale" as const, reason: "no pulse", age_ms: 90_000 };
  const runs = [
    { ...RUN, status },
    {
      ...RUN,
      run_id: "run-000000000002",
      state: "blocked" as const,
      state_reason: "asks: Bash",
      status,
    },
    { ...RUN, run_id: "run-000000000003", status: stale },
    { ...RUN, run_id: "run-000000000004", state: "completed" as const },
  ];
  const { lines } = frameOf({ workers: [WORKER], runs }, now, plain, undefined);
  const text = lines.join("\n");
  assert.match(text, /^fleet: 1 worker, 3 live runs\nWORKER/);
  assert.match(text, /kite-1 +claimed +running/);
  assert.match(text, /run-000000000001 +active +kite-1 +running +2m +tool: Bash$/m);
  assert.match(text, /run-000000000002 +blocked .* asks: Bash$/m);
  assert.match(text, /run-000000000003 .* stale +2m +no pulse \(seen 1m ago\)$/m);
  assert.doesNotMatch(text, /run-000000000004/);
});

test("nothing is written while nothing changes, and only the changed line when one does", () => {
  const { screen, written } = fakeScreen(24, 80);
  const frame = (runs: RunView[]) =>
    frameOf({ workers: [WORKER], runs }, RUN.created_at, plain, "kite");
  const page = new Page(screen);
  page.show(frame([RUN]));
  const before = written.length;
  page.show(frame([RUN]));
  assert.equal(written.length, before);
  page.show(frame([{ ...RUN, state_reason: "something new" }]));
  assert.equal(written.length, before + 1);
  assert.equal(written.at(-1)?.split("\u001b[2K").length, 2, "one line");
  assert.match(written.at(-1) ?? "", /something new/);
  page.show(frame([]));
  assert.ok(written.at(-1)?.includes("\u001b[5;1H\u001b[2K"));
  page[Symbol.dispose]();
  assert.ok(written.at(-1)?.endsWith("\u001b[?25h\u001b[?1049l"));
});

test("a small terminal gets what fits, and no text of a worker's reaches it as a command", () => {
  for (const [rows, columns] of [
    [1, 1],
    [2, 10],
    [5, 20],
    [24, 40],
  ] as const) {
    const { screen, written } = fakeScreen(rows, columns);
    const runs = Array.from({ length: 30 }, (_, index) => ({
      ...RUN,
      run_id: `run-${index}`,
      task: HOSTILE,
      state_reason: `${HOSTILE} 漢字`,
    }));
    const page = new Page(screen);
    page.show(frameOf({ workers: [{ ...WORKER, reason: HOSTILE }], runs }, 0, plain, undefined));
    const painted = written.slice(1).join("");
    // oxlint-disable-next-line no-control-regex
    const rest = painted.replaceAll(/\u001b\[(2J|2K|\d+;1H)/g, "\n");
    assert.doesNotMatch(rest.replaceAll("\n", ""), /[\p{Cc}\u202e\u200b]/u);
    for (const line of rest.split("\n")) assert.ok(widthOf(line) <= columns, `${columns}: ${line}`);
    const last = Math.max(...[...painted.matchAll(/\[(\d+);1H/g)].map(([, row]) => Number(row)));
    assert.ok(last <= rows, `row ${last} of ${rows}`);
    if (rows > 2 && columns > 15) assert.match(rest, /… \d+ more/);
  }
});

test("without a terminal each change is a line, in words or as JSON, and the end is an end", async () => {
  await using home = await temporaryHome();
  await using fleet = await changingFleet(home.path, [WORKER], [{ ...RUN, task: HOSTILE }]);
  for (const asJson of [false, true]) {
    fleet.fleet.runs = [RUN];
    const stop = new AbortController();
    const followers = fleet.followers();
    const done = cli(["watch", ...(asJson ? ["--json"] : [])], {
      home: home.path,
      interrupt: stop.signal,
    });
    await until(() => fleet.followers() > followers, { what: "the follower" });
    const seen = fleet.looks();
    fleet.change(() => {
      fleet.fleet.runs = [{ ...RUN, state: "blocked", state_reason: HOSTILE }];
    });
    await until(() => fleet.looks() > seen, { what: "the look" });
    const again = fleet.looks();
    fleet.change(() => {
      fleet.fleet.runs = [];
    });
    await until(() => fleet.looks() > again, { what: "the last look" });
    await delay(50);
    stop.abort();
    const { code, out, err } = await done;
    assert.deepEqual([code, err], [0, ""]);
    if (asJson) {
      const runs = jsonLines(out).filter(({ what }) => what === "run");
      assert.deepEqual(
        runs.map(({ state }) => state),
        ["active", "blocked", "ended"],
      );
    } else {
      assert.match(out, /worker kite-1 claimed running \(tool: Bash\)\n/);
      assert.match(out, /run +run-000000000001 active running \(tool: Bash\)\n/);
      assert.match(out, /run +run-000000000001 blocked: reversed #\{pane\}.* running/);
      assert.match(out, /run +run-000000000001 ended\n$/);
      assert.doesNotMatch(out.replaceAll("\n", ""), /[\p{Cc}\u202e]/u);
    }
  }
});

test("a pool that is not there is an error at once", async () => {
  await using home = await temporaryHome();
  assert.equal((await cli(["watch", "--repo", "K"], { home: home.path })).code, 2);
});

describe("in a real tmux pane", () => {
  async function pane(home: string) {
    const socket = join(home, "tmux");
    const tmux = (...args: string[]) =>
      execFileSync("tmux", ["-u", "-S", socket, "-f", "/dev/null", ...args], {
        encoding: "utf8",
        env: { PATH: process.env["PATH"], HOME: home, LANG: "C.UTF-8", TERM: "xterm-256color" },
      });
    const start = join(home, "start.sh");
    await writeFile(
      start,
      `#!/bin/sh\nexport ORCHESTRATOR_HOME=${home}/o\n${process.execPath} ${MAIN} watch\nstty -a | grep -q -- ' echo ' && echo echo-on\necho "left with $?"\nexec sleep 600\n`,
    );
    tmux("new-session", "-d", "-x", "100", "-y", "30", "-s", "w", "sh", start);
    tmux("pipe-pane", "-t", "w", `cat >> ${home}/bytes`);
    return {
      tmux,
      screen: () => tmux("capture-pane", "-p", "-t", "w"),
      shows: (key: string) => tmux("display-message", "-p", "-t", "w", `#{${key}}`).trim(),
      bytes: async () => (await readFile(join(home, "bytes")).catch(() => Buffer.alloc(0))).length,
      end: () => tmux("kill-server"),
    };
  }

  test("it shows the fleet, writes only when it changes, follows a resize, and leaves the terminal as it was", async () => {
    const home = await mkdtemp(join(tmpdir(), "wp-"));
    await using fleet = await changingFleet(home, [WORKER], [RUN]);
    const real = await pane(home);
    try {
      const sees = (text: string) =>
        until(() => real.screen().includes(text), {
          what: `${text} on the page`,
          timeoutMs: 20_000,
        });
      await sees("run-000000000001");
      assert.equal(real.shows("alternate_on"), "1");
      assert.equal(real.shows("cursor_flag"), "0");
      await until(() => fleet.looks() >= 2, { what: "the second look" });
      await delay(300);
      const before = await real.bytes();
      const looked = fleet.looks();
      fleet.change(() => {});
      await until(() => fleet.looks() > looked, { what: "a look at the same" });
      await delay(300);
      assert.equal(await real.bytes(), before, "nothing changed, nothing was written");
      fleet.change(() => {
        fleet.fleet.runs = [{ ...RUN, state: "blocked", state_reason: `asks: Bash ${HOSTILE}` }];
      });
      await sees("asks: Bash reversed");
      assert.equal(real.shows("pane_title").includes("owned"), false);
      real.tmux("resize-window", "-t", "w", "-x", "30", "-y", "5");
      await until(
        () => real.screen().startsWith("fleet: 1 worker") && /… \d+ more/.test(real.screen()),
        {
          what: "the small page",
        },
      );
      assert.equal(real.screen().trimEnd().split("\n").length, 5);
      real.tmux("resize-window", "-t", "w", "-x", "100", "-y", "30");
      await sees("asks: Bash reversed");
      real.tmux("send-keys", "-t", "w", "x", "C-c");
      await sees("left with 0");
      assert.equal(
        real.screen().trim(),
        "echo-on\nleft with 0",
        "no key was echoed, echo is on again",
      );
      assert.equal(real.shows("alternate_on"), "0");
      assert.equal(real.shows("cursor_flag"), "1");
    } finally {
      real.end();
      await rm(home, { recursive: true, force: true });
    }
  });

  test("a controller that goes away is said on the page, and the next one is watched", async () => {
    const home = await mkdtemp(join(tmpdir(), "wp-"));
    const first = await changingFleet(home, [WORKER], [RUN]);
    const real = await pane(home);
    try {
      const sees = (pattern: RegExp) =>
        until(() => pattern.test(real.screen()), { what: String(pattern), timeoutMs: 20_000 });
      await sees(/run-000000000001/);
      await first.controller.stop();
      // Without a controller the store of this home is looked at, and nothing is in it.
      await sees(/fleet: 0 workers, 0 live runs/);
      real.tmux("send-keys", "-t", "w", "q");
      await sees(/left with 0/);
    } finally {
      real.end();
      await rm(home, { recursive: true, force: true });
    }
  });
});
