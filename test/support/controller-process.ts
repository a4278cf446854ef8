import { spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { until } from "./wait.ts";
import type { Installation } from "./installation.ts";

export const MAIN = join(import.meta.dirname, "..", "..", "src", "main.ts");

export interface ControllerProcess extends AsyncDisposable {
  readonly pid: number;
  /** Resolves when it has ended, however. */
  readonly ended: Promise<void>;
  kill(): Promise<void>;
}

/** The controller as a process of its own, so that it can be killed; resolves when its socket answers or it has ended. */
export async function controllerProcess(
  installed: Installation,
  env: Readonly<Record<string, string>> = {},
): Promise<ControllerProcess> {
  const child = spawn(process.execPath, [MAIN, "serve"], {
    env: { ...installed.env, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  let over = false;
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => {
      over = true;
      resolve();
    });
  });
  await until(async () => over || (await answers(installed.paths.socket)), {
    what: `the controller's socket; it said: ${stderr}`,
    timeoutMs: 60_000,
  });
  const kill = async () => {
    if (!over) child.kill("SIGKILL");
    await ended;
  };
  return { pid: child.pid ?? 0, ended, kill, [Symbol.asyncDispose]: kill };
}

function answers(path: string): Promise<boolean> {
  if (!existsSync(path)) return Promise.resolve(false);
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command line of the installation to its end. */
export function cli(
  installed: Installation,
  args: readonly string[],
  options: { stdin?: string; env?: Readonly<Record<string, string>> } = {},
): Promise<CliResult> {
  const child: ChildProcess = spawn(process.execPath, [MAIN, ...args], {
    env: { ...installed.env, ...options.env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr?.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin?.on("error", () => {});
  child.stdin?.end(options.stdin ?? "");
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, stdout, stderr }));
  });
}
