import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { constants } from "node:os";

import { splitLines } from "../../src/transport/lines.ts";
import { TransportError } from "../../src/transport/transport-error.ts";
import type {
  ExecOptions,
  ExecResult,
  ExecStream,
  Transport,
} from "../../src/transport/transport.ts";
import { checkUploaded, UPLOAD_SCRIPT, uploadArguments } from "../../src/transport/upload.ts";

export interface LocalTransport extends Transport {
  /** Pids of the commands that still run. */
  running(): readonly number[];
  /** Breaks every pipe, as a lost SSH connection does: the commands run on, pending calls reject, the next call connects. */
  cut(): void;
  /** Every argv executed so far. */
  readonly calls: readonly (readonly string[])[];
}

/** A transport to a "worker" that is a folder on this machine: processes start in `home` with a clean environment. */
export function localTransport(
  home: string,
  env: Readonly<Record<string, string>> = {},
): LocalTransport {
  mkdirSync(home, { recursive: true });
  const commands = new Map<ChildProcess, (error: TransportError) => void>();
  const calls: string[][] = [];
  let closed = false;
  let disconnects: (() => void)[] = [];

  const start = (argv: readonly string[], options: StartOptions) => {
    if (closed) throw new TransportError("closed", "not-started", "the transport is closed");
    calls.push([...argv]);
    // Through a shell as sshd does, so that a missing program is exit code 127.
    const child = spawn("sh", ["-c", 'exec "$@"', "sh", ...argv], {
      cwd: home,
      env: { PATH: process.env["PATH"], LANG: "C.UTF-8", ...env, HOME: home },
      stdio: ["pipe", "pipe", "pipe"],
    });
    const lost = Promise.withResolvers<never>();
    lost.promise.catch(() => {});
    commands.set(child, lost.reject);
    const drop = (failure: "aborted" | "timeout" | "closed") => {
      lost.reject(new TransportError(failure, "unknown", `the command was left: ${failure}`));
      destroy(child);
    };
    const timer =
      options.timeoutMs === undefined ? undefined : setTimeout(drop, options.timeoutMs, "timeout");
    const onAbort = () => drop("aborted");
    options.signal?.addEventListener("abort", onAbort);
    if (options.signal?.aborted === true) onAbort();
    const ended = Promise.race([
      once(child, "exit").then(([code, signal]) => ({
        code: code as number | null,
        signal: signal as string | null,
      })),
      lost.promise,
    ]).finally(() => {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", onAbort);
      commands.delete(child);
    });
    ended.catch(() => {});
    child.stdin.on("error", () => {});
    if (options.stdin instanceof Promise) {
      options.stdin.then(
        (bytes) => child.stdin.end(bytes),
        () => drop("closed"),
      );
    } else child.stdin.end(options.stdin);
    return { child, ended, lost: lost.promise, drop };
  };

  const exec = async (argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> => {
    const { child, ended, lost } = start(argv, options);
    const limit = options.maxOutputBytes ?? 1024 * 1024;
    const [stdout, stderr] = [keep(child.stdout, limit), keep(child.stderr, limit)];
    const { code, signal } = await ended;
    await Promise.race([Promise.all([stdout.done, stderr.done]), lost]);
    return {
      code,
      signal,
      stdout: stdout.text(),
      stderr: stderr.text(),
      truncated: stdout.cut() || stderr.cut(),
    };
  };

  const stream: Transport["stream"] = async (argv, options = {}) => {
    const { child, ended, lost, drop } = start(argv, options);
    const stderr = keep(child.stderr, 64 * 1024);
    const bytes = readBytes(child, lost);
    const result = ended.then((end): ExecResult => ({
      ...end,
      stdout: "",
      stderr: stderr.text(),
      truncated: stderr.cut(),
    }));
    result.catch(() => {});
    const close = () => drop("closed");
    const streamed: ExecStream = {
      bytes,
      lines: splitLines(bytes),
      result,
      close,
      [Symbol.asyncDispose]: async () => close(),
    };
    return streamed;
  };

  const cut = () => {
    for (const [child, reject] of commands) {
      reject(new TransportError("connection_lost", "unknown", "the connection was cut"));
      destroy(child);
    }
    for (const resolve of disconnects) resolve();
    disconnects = [];
  };

  const close = async () => {
    cut();
    closed = true;
  };

  const script: Transport["script"] = (text, args = [], options = {}) =>
    exec(["sh", "-c", text, "sh", ...args], options);

  return {
    exec,
    script,
    stream,
    upload: async (path, content, mode) =>
      checkUploaded(
        path,
        await script(UPLOAD_SCRIPT, uploadArguments(path, mode, content.length), {
          stdin: content,
        }),
      ),
    get connected() {
      return !closed;
    },
    disconnected: () =>
      closed ? Promise.resolve() : new Promise((resolve) => disconnects.push(resolve)),
    running: () => [...commands.keys()].flatMap((child) => child.pid ?? []),
    cut,
    calls,
    close,
    [Symbol.asyncDispose]: close,
  };
}

interface StartOptions {
  readonly stdin?: string | Uint8Array | Promise<Uint8Array> | undefined;
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Only the pipes: sshd does not end a remote program either. */
function destroy(child: ChildProcess): void {
  child.stdin?.destroy();
  child.stdout?.destroy();
  child.stderr?.destroy();
  child.unref();
}

async function* readBytes(child: ChildProcess, lost: Promise<never>): AsyncGenerator<Uint8Array> {
  const chunks = child.stdout?.iterator({ destroyOnReturn: true });
  if (chunks === undefined) return;
  for (;;) {
    const next = await Promise.race([chunks.next().catch(() => lost), lost]);
    if (next.done === true) return;
    yield next.value as Buffer;
  }
}

function keep(stream: NodeJS.ReadableStream | null, limit: number) {
  const chunks: Buffer[] = [];
  let room = limit;
  let cut = false;
  const done = new Promise<void>((resolve) => {
    stream?.on("data", (chunk: Buffer) => {
      if (chunk.length > room) cut = true;
      if (room > 0) chunks.push(chunk.subarray(0, room));
      room -= Math.min(room, chunk.length);
    });
    stream?.on("end", () => resolve());
    stream?.on("close", () => resolve());
    stream?.on("error", () => resolve());
  });
  return { done, cut: () => cut, text: () => Buffer.concat(chunks).toString("utf8") };
}

/** Kills by pid a process that a test started or that a worker script left; gone already is fine. */
export function killPid(pid: number, signal: NodeJS.Signals = "SIGKILL"): void {
  try {
    process.kill(pid, constants.signals[signal]);
  } catch {
    // It ended by itself.
  }
}
