import { isUtf8 } from "node:buffer";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { OrchestratorError } from "../domain/errors.ts";
import { MAX_MESSAGE_BYTES } from "../domain/message.ts";
import { cleanLine } from "./clean.ts";
import type { Io } from "./io.ts";
import { textOf, type Given, type OptionSpec } from "./spec.ts";

export const textOptions = [
  { name: "command", value: "text", help: "the task, as one argument" },
  {
    name: "file",
    value: "path",
    help: "read the task from a file, byte for byte ('-': standard input)",
  },
] satisfies readonly OptionSpec[];

export const TEXT_NOTES = `The task is what --command says, or the bytes of --file, or of standard input (a lone '-', or just a pipe).
It reaches the agent byte for byte, or is refused: valid UTF-8, at most ${MAX_MESSAGE_BYTES / 1024 / 1024} MiB.`;

/** The last argument may be a lone `-`: then standard input is meant. */
export function saysStandardInput(given: Given, index: number): boolean {
  const word = given.arguments[index];
  if (word === undefined) return false;
  if (word === "-") return true;
  throw new OrchestratorError(
    "invalid_input",
    `${JSON.stringify(cleanLine(word, 60))} is not expected here`,
    { hint: 'a task of several words is one argument: --command "fix the bug"' },
  );
}

/** The text from where the options say; undefined when nothing says it. Throws `invalid_input` when it cannot be taken. */
export async function readTaskText(
  io: Io,
  given: Given,
  fromStandardInput: boolean,
): Promise<string | undefined> {
  const command = textOf(given, "command");
  const file = textOf(given, "file");
  const sources = [command !== undefined, file !== undefined, fromStandardInput];
  if (sources.filter(Boolean).length > 1) {
    throw new OrchestratorError("invalid_input", "the task is given more than once", {
      hint: "use one of --command, --file and standard input",
    });
  }
  if (command !== undefined) return checkArgument(command);
  if (file !== undefined && file !== "-") return readTaskFile(file);
  if (fromStandardInput || file === "-") return readStandardInput(io);
  if (io.stdin.kind !== "data") return undefined;
  io.writeError("reading the task from standard input\n");
  const text = await readStandardInput(io);
  return text === "" ? undefined : text;
}

/** Node puts U+FFFD where an argument is no UTF-8: the raw bytes tell whether the caller did. */
function checkArgument(text: string): string {
  if (text.includes("\u{fffd}") && !argumentsAreUtf8()) throw notUtf8("--command");
  return text;
}

function argumentsAreUtf8(): boolean {
  try {
    return isUtf8(readFileSync("/proc/self/cmdline"));
  } catch {
    return true;
  }
}

async function readStandardInput(io: Io): Promise<string> {
  const bytes = await io.stdin.read(MAX_MESSAGE_BYTES);
  if (bytes === undefined) throw tooLarge("standard input");
  return decode(bytes, "standard input");
}

function readTaskFile(path: string): string {
  const shown = cleanLine(path, 200);
  const bytes = Buffer.alloc(MAX_MESSAGE_BYTES + 1);
  let length = 0;
  try {
    const file = openSync(path, "r");
    try {
      for (let read = -1; read !== 0 && length < bytes.length; length += read) {
        read = readSync(file, bytes, length, bytes.length - length, null);
      }
    } finally {
      closeSync(file);
    }
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new OrchestratorError("invalid_input", `the file ${shown} cannot be read (${code})`, {
      cause: error,
    });
  }
  if (length > MAX_MESSAGE_BYTES) throw tooLarge(`the file ${shown}`);
  return decode(bytes.subarray(0, length), `the file ${shown}`);
}

function decode(bytes: Buffer, what: string): string {
  if (!isUtf8(bytes)) throw notUtf8(what);
  return bytes.toString("utf8");
}

function notUtf8(what: string): OrchestratorError {
  return new OrchestratorError("invalid_input", `${what} is no valid UTF-8 text`);
}

function tooLarge(what: string): OrchestratorError {
  return new OrchestratorError(
    "invalid_input",
    `${what} is larger than ${MAX_MESSAGE_BYTES / 1024 / 1024} MiB`,
    { hint: "put what is large into the repository, and say in the task where it is" },
  );
}
