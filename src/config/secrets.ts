import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { execa } from "execa";
import { OrchestratorError } from "../domain/errors.ts";
import type { Logger } from "../platform/logger.ts";
import type { Env } from "./env.ts";
import { Secret } from "./secret.ts";

/** A credential is a line, a private key a page; more than this (bytes) is the wrong file. */
const MAX_BYTES = 64 * 1024;
const COMMAND_TIMEOUT_MS = 10_000;

export interface SecretSources {
  readonly env: Pick<Env, "variable" | "userHome">;
  readonly logger: Logger;
  readonly signal?: AbortSignal;
  /** Deadline of a `cmd:` reference in milliseconds; default 10 s. */
  readonly timeoutMs?: number;
  /** `block` takes a text of several lines, such as a private key, as it is; default `line`. */
  readonly shape?: "line" | "block";
}

/**
 * Reads the secret behind `env:NAME`, `file:PATH` or `cmd:COMMAND` (run by `sh -c` on this machine), without one
 * trailing newline. Throws `invalid_config` that names the reference and never the value: when there is none, when it is
 * empty, or has several lines. A file that others may read is logged as a warning.
 */
export async function resolveSecret(reference: string, sources: SecretSources): Promise<Secret> {
  const shown = showReference(reference);
  const text = await readReference(reference, shown, sources);
  const block = sources.shape === "block";
  const value = block ? text : text.replace(/\r?\n$/, "");
  if (value.trim() === "") throw unusable(shown, "is empty");
  if (value.includes("\0")) throw unusable(shown, "holds a NUL");
  if (!block && /[\r\n]/.test(value)) throw unusable(shown, "has more than one line");
  return new Secret(value);
}

/** The reference without what a command may carry in its arguments; anything else is not shown at all. */
export function showReference(reference: string): string {
  if (/^env:[A-Za-z_]\w*$/.test(reference) || reference.startsWith("file:")) return reference;
  if (!reference.startsWith("cmd:")) return "(no env:, file: or cmd: reference)";
  const [first = "", ...rest] = reference.slice("cmd:".length).trim().split(/\s+/);
  if (!/^[\w./~-]+$/.test(first)) return "cmd:…";
  return `cmd:${first}${rest.length > 0 ? " …" : ""}`;
}

/** Where a webhook goes, without its path: the path of many is a password. */
export function showWebhook(webhook: string): string {
  if (!/^https?:/.test(webhook)) return showReference(webhook);
  return URL.canParse(webhook) ? `${new URL(webhook).origin}/…` : "(no URL)";
}

function readReference(reference: string, shown: string, sources: SecretSources): Promise<string> {
  const rest = reference.slice(reference.indexOf(":") + 1);
  if (shown.startsWith("env:")) return readVariable(rest, shown, sources);
  if (shown.startsWith("file:")) return readSecretFile(rest, shown, sources);
  if (shown.startsWith("cmd:")) return runCommand(rest, shown, sources);
  throw unusable(shown, "is not a reference", "write env:NAME, file:PATH or cmd:COMMAND");
}

async function readVariable(name: string, shown: string, { env }: SecretSources): Promise<string> {
  const value = env.variable(name);
  if (value === undefined) {
    throw unusable(
      shown,
      "is not set in the controller's environment",
      "or name a file: file:PATH",
    );
  }
  return value;
}

async function readSecretFile(
  name: string,
  shown: string,
  { env, logger }: SecretSources,
): Promise<string> {
  const path = name.startsWith("~/") ? join(env.userHome, name.slice(2)) : name;
  if (!isAbsolute(path)) throw unusable(shown, "is not an absolute path or one below ~/");
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(
    (error: unknown) => {
      throw unusable(shown, "cannot be read", `look at the file ${path}`, error);
    },
  );
  await using handle = file;
  const found = await handle.stat();
  if (!found.isFile()) throw unusable(shown, "is not a file");
  if (found.size > MAX_BYTES) throw unusable(shown, "is larger than 64 KiB");
  if ((found.mode & 0o077) !== 0) logger.warn("secret_file_was_readable_by_others", { path });
  return handle.readFile("utf8");
}

/** The command gets a process group of its own, so that its deadline also ends what it started. */
async function runCommand(
  command: string,
  shown: string,
  { signal, timeoutMs = COMMAND_TIMEOUT_MS }: SecretSources,
): Promise<string> {
  const deadline = AbortSignal.timeout(timeoutMs);
  const end = signal === undefined ? deadline : AbortSignal.any([deadline, signal]);
  end.throwIfAborted();
  const child = execa("sh", ["-c", command], {
    stdin: "ignore",
    stderr: "ignore",
    detached: true,
    reject: false,
    maxBuffer: MAX_BYTES,
    stripFinalNewline: false,
  });
  const { pid } = child;
  const kill = () => killGroup(pid);
  end.addEventListener("abort", kill, { once: true });
  const result = await child.finally(() => end.removeEventListener("abort", kill));
  if (signal?.aborted) throw signal.reason;
  if (deadline.aborted) throw unusable(shown, `did not end within ${timeoutMs / 1_000} s`);
  if (result.isMaxBuffer) {
    kill();
    throw unusable(shown, "printed more than 64 KiB");
  }
  // The cause would carry the output: it is left out.
  if (result.failed) {
    const how =
      result.exitCode === undefined ? "could not be run" : `ended with ${result.exitCode}`;
    throw unusable(shown, how, "run the command by hand to see why");
  }
  return result.stdout;
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // The group is gone already.
  }
}

function unusable(shown: string, what: string, hint?: string, cause?: unknown): OrchestratorError {
  return new OrchestratorError("invalid_config", `secret ${shown} ${what}`, {
    hint,
    cause,
    details: { reference: shown },
  });
}
