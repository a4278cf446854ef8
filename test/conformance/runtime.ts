import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { OrchestratorError } from "../../src/domain/errors.ts";
import { MAX_MESSAGE_BYTES } from "../../src/domain/message.ts";
import { deriveStatus } from "../../src/runtimes/derive-status.ts";
import { MAX_ARGUMENT_BYTES } from "../../src/runtimes/encode.ts";
import { NO_EVIDENCE } from "../../src/runtimes/evidence.ts";
import type { Evidence } from "../../src/runtimes/evidence.ts";
import { foldSignals, hashText } from "../../src/runtimes/fold.ts";
import { parseLine } from "../../src/runtimes/parse-line.ts";
import { isDelivered } from "../../src/runtimes/proof.ts";
import type { LaunchInput, Runtime } from "../../src/runtimes/runtime.ts";

export interface RuntimeCase {
  readonly runtime: Runtime;
  /** Raw worker lines of one good turn that was given `text`, in order; the last one ends it. */
  turn(text: string): readonly string[];
}

const place = { runId: "run-1", seq: 1, home: "/home/dev" };
const SECRET = "secret-0123456789abcdef";

/** What every runtime guarantees (the header of runtimes/runtime.ts). */
export function exerciseRuntime(name: string, setup: () => RuntimeCase): void {
  const { runtime, turn } = setup();

  const launchInput = (change: Partial<LaunchInput> = {}): LaunchInput => {
    const encoding = runtime.encode("fix the bug", place);
    assert.equal(encoding.kind, "encoded");
    return {
      runId: "run-1",
      launch: 1,
      seq: 1,
      runtimeSessionId: "7f1d8a52-8f83-4d5e-9a04-4f3b7a1f2c11",
      resume: false,
      message: encoding.kind === "encoded" ? encoding.message : null,
      mode: runtime.defaultMode(true),
      instructions: null,
      flags: [],
      cwd: "/home/dev/kite",
      home: "/home/dev",
      root: false,
      worker: "kite-1",
      ...change,
    };
  };

  describe(name, () => {
    test("an encoded text is exact, or says what was added and keeps the text whole", () => {
      const text = fc.string({ unit: "binary", minLength: 1, maxLength: 60 });
      fc.assert(
        fc.property(text, (given) => {
          const encoding = runtime.encode(given, place);
          if (encoding.kind === "refused") return assert.notEqual(encoding.reason, "");
          const { form, sent, file } = encoding.message;
          if (form === "exact") assert.equal(sent, given);
          if (form === "prefixed") assert.ok(sent.endsWith(given) && sent !== given);
          if (form === "file") assert.equal(file, given);
          assert.equal(file === null, form !== "file");
          return assert.ok(Buffer.byteLength(sent) <= MAX_ARGUMENT_BYTES);
        }),
        { numRuns: 300 },
      );
    });

    for (const [what, text] of [
      ["empty", ""],
      ["blank", " \n\t "],
      ["with a NUL", "a\0b"],
      ["with half a surrogate pair", "a\ud83d"],
      ["larger than what is taken at all", "x".repeat(MAX_MESSAGE_BYTES + 1)],
    ] as const) {
      test(`a text that is ${what} is refused by name`, () => {
        const encoding = runtime.encode(text, place);
        assert.equal(encoding.kind, "refused");
      });
    }

    test("the largest text is taken whole or refused, never cut", () => {
      for (const size of [MAX_ARGUMENT_BYTES, MAX_ARGUMENT_BYTES + 1, MAX_MESSAGE_BYTES]) {
        const encoding = runtime.encode("x".repeat(size), place);
        if (encoding.kind === "refused") continue;
        const { sent, file } = encoding.message;
        assert.equal((file ?? sent).length, size);
      }
    });

    test("a launch appends the message from its file and has no word of it in argv", () => {
      const input = launchInput();
      const plan = runtime.launch(input);
      assert.equal(plan.appendMessage, true);
      assert.ok(plan.argv.length > 0);
      assert.ok(!plan.argv.join(" ").includes("fix the bug"));
      assert.equal(runtime.launch({ ...input, message: null }).appendMessage, false);
    });

    test("names of launch files are plain, and none is that of a message", () => {
      const names = Object.keys(runtime.launch(launchInput()).files);
      for (const file of names)
        assert.match(file, /^(?!message-|prompt-|exec-|launch-)[a-z0-9.-]+$/);
    });

    test("a launch carries no secret that the seed knew of", () => {
      const auth = { kind: "api-key", last20: SECRET.slice(-20) } as const;
      runtime.seed({ cwd: "/home/dev/kite", mode: runtime.defaultMode(false), auth });
      const plan = runtime.launch(launchInput({ mode: runtime.defaultMode(false) }));
      assert.ok(!JSON.stringify(plan).includes(SECRET.slice(-20)));
    });

    test("seeding keeps what is there, bears any content, and is the same when done again", () => {
      const auth = { kind: "auth-token" } as const;
      const files = runtime.seed({ cwd: "/c", mode: runtime.defaultMode(true), auth });
      for (const file of files) {
        assert.doesNotMatch(file.path, /^\/|\.\./);
        fc.assert(
          fc.property(fc.jsonValue(), (current) => {
            const merged = file.merge(current);
            assert.deepEqual(file.merge(merged), merged);
            assert.equal(typeof merged, "object");
          }),
        );
        const kept = file.merge({ theirs: { deep: [1] } }) as Record<string, unknown>;
        assert.deepEqual(kept["theirs"], { deep: [1] });
      }
    });

    test("default modes are modes it knows", () => {
      for (const shared of [true, false])
        assert.ok(runtime.capabilities.modes.includes(runtime.defaultMode(shared)));
    });

    test("the lines of a turn prove the delivery and end in completed", () => {
      const encoding = runtime.encode("fix the bug\n", place);
      assert.equal(encoding.kind, "encoded");
      const { sent } = encoding.message;
      const ownHashes = new Set([hashText(sent).hash]);
      let evidence: Evidence = NO_EVIDENCE;
      for (const raw of turn(sent)) {
        const line = parseLine(raw);
        assert.ok(line, raw);
        const { at, up, launch } = line;
        evidence = foldSignals(evidence, runtime.signals(line), { at, up, launch, ownHashes });
      }
      assert.ok(isDelivered(evidence, { ...hashText(sent), launch: 1 }));
      assert.equal(evidence.foreignTurn, false);
      const now = (evidence.lastAt ?? 0) + 1_000;
      const verdict = deriveStatus(evidence, { now, runState: "active", launchIntendedAt: now });
      assert.equal(verdict.status, "completed", verdict.explain.join("\n"));
    });

    test("lines of unknown events and sources of others say nothing", () => {
      const line = { run: "run-1", launch: 1, at: 1, up: 1, payload: {} };
      assert.deepEqual(runtime.signals({ ...line, source: "hook", event: "Unheard" }), []);
      assert.deepEqual(runtime.signals({ ...line, source: "shell", event: "Unheard" }), []);
      assert.deepEqual(runtime.signals({ ...line, source: "guard", event: "Unheard" }), []);
      assert.deepEqual(runtime.signals({ ...line, source: "launcher", event: "Unheard" }), []);
    });

    test("launcher and guard lines are understood", () => {
      const line = { run: "run-1", launch: 1, at: 1, up: 1 };
      const exited = { ...line, source: "launcher", event: "exit", payload: { code: 3 } } as const;
      const process = { kind: "process", alive: false, pid: null, exitCode: 3, signal: null };
      assert.deepEqual(runtime.signals(exited), [process]);
      const payload = { pid: 7, alive: true, registry: "busy", settled: true, window: "agent:x" };
      const pulse = { ...line, source: "guard", event: "pulse", payload } as const;
      assert.deepEqual(
        runtime.signals(pulse).map(({ kind }) => kind),
        ["process", "registry", "tmux"],
      );
      const unsettled = { ...pulse, payload: { registry: "busy", settled: "yes" } };
      assert.deepEqual(runtime.signals(unsettled), [
        { kind: "registry", status: "busy", waitingFor: null, settled: false },
      ]);
    });

    test("an empty or foreign screen shows no dialog, an empty transcript no usage", () => {
      assert.equal(runtime.dialog(""), null);
      assert.equal(runtime.dialog("$ ls\nREADME.md\n"), null);
      assert.equal(runtime.usage(""), null);
      assert.equal(runtime.usage("no json\n{}\n"), null);
    });

    test("a flag that it must set itself is refused as configuration, or there is none such", () => {
      try {
        runtime.launch(launchInput({ flags: ["--resume"] }));
      } catch (error) {
        assert.ok(error instanceof OrchestratorError && error.code === "invalid_config");
      }
    });
  });
}
