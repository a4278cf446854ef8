import { OrchestratorError } from "../domain/errors.ts";

/** Linux takes at most 128 KiB in one argument, and sshd hands the whole command to the shell as one. */
const MAX_COMMAND_BYTES = 128 * 1024 - 1;

/** Characters that no POSIX shell, nor zsh, reads as anything but themselves. */
const PLAIN = /^[A-Za-z0-9_/.,:@%+-]+$/;

/** One argument for a remote POSIX shell, byte for byte. NUL and lone surrogates have no such form: `invalid_input`. */
export function quoteArgument(argument: string): string {
  if (argument.includes("\0")) throw invalid("contains a NUL character");
  if (!argument.isWellFormed()) throw invalid("is not valid Unicode (lone surrogate)");
  return PLAIN.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
}

/** The arguments as one simple command. The first is the program: not empty, and no option of whoever starts it. */
export function quoteCommand(argv: readonly string[]): string {
  const program = argv[0];
  if (program === undefined || program === "" || program.startsWith("-")) {
    throw invalid("cannot be a program name", program);
  }
  return argv.map(quoteArgument).join(" ");
}

/**
 * What is sent to sshd for `argv`: it starts in `$HOME` (sshd starts in the account's home, which a worker's environment
 * may override) and replaces the shell. Longer than the 128 KiB that the shell could take is `invalid_input`.
 */
export function remoteCommand(argv: readonly string[]): string {
  const command = `cd "$HOME" && exec ${quoteCommand(argv)}`;
  if (Buffer.byteLength(command) > MAX_COMMAND_BYTES) {
    throw new OrchestratorError("invalid_input", "the remote command is longer than 128 KiB", {
      hint: "hand large input over on stdin",
    });
  }
  return command;
}

function invalid(why: string, argument?: string): OrchestratorError {
  const shown = argument === undefined ? "" : ` ${JSON.stringify(argument.slice(0, 40))}`;
  return new OrchestratorError("invalid_input", `a remote argument${shown} ${why}`);
}
