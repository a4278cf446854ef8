import { WINDOW_FORMAT } from "./windows.ts";

/*
 * Argument vectors of tmux clients, as data. Every one begins with `tmux -u`: a client without UTF-8 that lists a window
 * whose name begins with a zero-width character ends the whole server, and ssh gives no locale (seen in 3.3a).
 */

const tmux = (...args: readonly string[]): readonly string[] => ["sh", "-c", CLIENT, "sh", ...args];

/** On a machine that is also somebody else's, the worker's tmux listens at a place of its own, which its claim names (provision/worker/lib.sh). */
const CLIENT = `while IFS='=' read -r key value; do
  if [ "$key" = tmux ] && [ -n "$value" ]; then export TMUX_TMPDIR="$value"; fi
done 2>/dev/null <.orchestrator/claim
exec tmux -u "$@"`;

/** Puts a terminal into the session, at that window when its id is given. */
export function attachCommand(session: string, windowId?: string): readonly string[] {
  const select = windowId === undefined ? [] : [";", "select-window", "-t", windowId];
  return tmux("attach-session", "-t", exactSession(session), ...select);
}

/** Prints the session's windows for `parseWindows`. */
export const listWindowsCommand = (session: string): readonly string[] =>
  tmux("list-windows", "-t", exactSession(session), "-F", WINDOW_FORMAT);

/** Types what comes on standard input into the window as if pasted there, and ends it with Enter. tmux never parses the text. */
export function typeCommand(windowId: string, buffer: string): readonly string[] {
  const load = ["load-buffer", "-b", buffer, "-", ";"];
  const paste = ["paste-buffer", "-d", "-p", "-r", "-b", buffer, "-t", windowId, ";"];
  return tmux(...load, ...paste, "send-keys", "-t", windowId, "Enter");
}

/** Exit code 0 when the session is there. */
export const hasSessionCommand = (session: string): readonly string[] =>
  tmux("has-session", "-t", exactSession(session));

/** Renames a window, which also ends its automatic renaming. By id: an index or a name may be another window meanwhile. */
export const renameWindowCommand = (windowId: string, name: string): readonly string[] =>
  tmux("rename-window", "-t", windowId, "--", literalName(name));

/** Without `=` tmux takes a session whose name only begins so. */
const exactSession = (session: string): string => `=${session}`;

/**
 * A name that tmux shows as it is: it expands formats in names, where `#(...)` runs a command, and takes a semicolon at the end of an
 * argument for the end of the command.
 */
export const literalName = (name: string): string =>
  name.replaceAll("#", "##").replace(/;$/, "\\;");
