import { fstatSync, writeSync } from "node:fs";
import { isatty } from "node:tty";
import type { Env } from "../config/env.ts";
import type { Io, StandardInput, TerminalScreen } from "./io.ts";

export interface ProcessIo extends Io {
  /** Resolves when everything written is on its way. */
  flush(): Promise<void>;
}

/**
 * This process's own standard streams. Writes go straight to the descriptor: making Node's streams costs every start
 * several milliseconds. `onBrokenPipe` is called when nobody reads any more.
 */
export function processIo(env: Pick<Env, "noColor" | "term">, onBrokenPipe: () => void): ProcessIo {
  const out = writerTo(1, () => process.stdout, onBrokenPipe);
  const err = writerTo(2, () => process.stderr, onBrokenPipe);
  const isTerminal = isatty(1);
  return {
    write: out.write,
    writeError: err.write,
    isTerminal,
    get isErrorTerminal() {
      return isatty(2);
    },
    get columns() {
      return isTerminal ? process.stdout.columns : Infinity;
    },
    hasColours: isTerminal && !env.noColor && env.term !== undefined,
    stdin: standardInput(),
    screen: () => (isTerminal && isatty(0) ? wholeScreen(out.write) : undefined),
    async flush() {
      await Promise.all([out.flush(), err.flush()]);
    },
  };
}

function wholeScreen(write: (text: string) => void): TerminalScreen {
  const { stdin, stdout } = process;
  return {
    // A terminal that does not tell its size is as small as they come.
    size: () => ({ rows: stdout.rows || 24, columns: stdout.columns || 80 }),
    write,
    onResize(changed) {
      stdout.on("resize", changed);
      return () => void stdout.off("resize", changed);
    },
    onKey(pressed) {
      const take = (keys: Buffer) => {
        for (const key of keys.toString("latin1")) pressed(key);
      };
      stdin.setRawMode(true);
      stdin.on("data", take);
      return () => {
        stdin.off("data", take);
        stdin.setRawMode(false);
        stdin.pause();
      };
    },
  };
}

function writerTo(fd: number, stream: () => NodeJS.WriteStream, onBrokenPipe: () => void) {
  let slow: NodeJS.WriteStream | undefined;
  const writeSlowly = (bytes: Buffer) => {
    if (slow === undefined) {
      slow = stream();
      slow.on("error", onBrokenPipe);
    }
    slow.write(bytes);
  };
  return {
    write(text: string) {
      let bytes = Buffer.from(text);
      while (bytes.length > 0) {
        if (slow !== undefined) return writeSlowly(bytes);
        try {
          bytes = bytes.subarray(writeSync(fd, bytes));
        } catch (error) {
          if (!(error instanceof Error && "code" in error)) throw error;
          if (error.code === "EPIPE") return onBrokenPipe();
          // Somebody made the other end non-blocking, and it is full.
          if (error.code === "EAGAIN") return writeSlowly(bytes);
          if (error.code === "EBADF") return undefined;
          throw error;
        }
      }
      return undefined;
    },
    flush: () =>
      new Promise<void>((resolve) => {
        if (slow === undefined) resolve();
        else slow.write("", () => resolve());
      }),
  };
}

function standardInput(): StandardInput {
  return {
    get kind() {
      if (isatty(0)) return "terminal";
      try {
        const found = fstatSync(0);
        return found.isFIFO() || found.isFile() || found.isSocket() ? "data" : "nothing";
      } catch {
        return "nothing";
      }
    },
    async read(maxBytes) {
      const chunks: Buffer[] = [];
      let length = 0;
      for await (const chunk of process.stdin) {
        const bytes = Buffer.from(chunk);
        length += bytes.length;
        if (length > maxBytes) return undefined;
        chunks.push(bytes);
      }
      return Buffer.concat(chunks);
    },
    async ask(prompt) {
      const { createInterface } = await import("node:readline/promises");
      const lines = createInterface({ input: process.stdin, output: process.stdout });
      const ended = new AbortController();
      lines.once("close", () => ended.abort());
      try {
        return await lines.question(prompt, { signal: ended.signal });
      } catch {
        return undefined;
      } finally {
        lines.close();
      }
    },
  };
}
