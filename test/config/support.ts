import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { OrchestratorError } from "../../src/domain/errors.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";

export const effects = { clock: systemClock(), ids: randomIds() };

export async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "config-test-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export interface Child {
  readonly pid: number;
  readonly lines: string[];
  /** Resolves with the exit code, or the signal that ended it. */
  readonly ended: Promise<number | string | null>;
}

/** Runs a TypeScript file of this folder; `onLine` sees each line it prints. */
export function runChild(
  file: string,
  args: readonly string[],
  onLine: (line: string, pid: number) => void = () => {},
): Child {
  const child = spawn(process.execPath, [join(import.meta.dirname, file), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const pid = child.pid ?? 0;
  const lines: string[] = [];
  const output = createInterface({ input: child.stdout });
  output.on("line", (line) => {
    lines.push(line);
    onLine(line, pid);
  });
  const drained = new Promise((resolve) => output.once("close", resolve));
  const exited = new Promise<number | string | null>((resolve) =>
    child.once("exit", (code, signal) => resolve(code ?? signal)),
  );
  return { pid, lines, ended: drained.then(() => exited) };
}

/** The error that `action` throws, which must be ours. */
export async function errorOf(action: () => unknown): Promise<OrchestratorError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof OrchestratorError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}
