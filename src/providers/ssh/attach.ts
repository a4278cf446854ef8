import type { OnTerminal } from "../provider.ts";

/**
 * A terminal where sshd gives none: the one here is made raw and its size is told to script(1), which makes one of its own there. The size
 * stays as it was at the start. "$@" is ssh and its arguments, the last of which is the command for the host.
 */
const WITHOUT_PTY = `size=$(stty size) && before=$(stty -g) || exit 1
case $TERM in *[!A-Za-z0-9._+-]* | '') TERM=xterm ;; esac
left=$#
while [ "$left" -gt 1 ]; do
  set -- "$@" "$1"
  shift
  left=$((left - 1))
done
command="SO_ROWS=\${size% *} SO_COLS=\${size#* } TERM=$TERM; export SO_ROWS SO_COLS TERM; $1"
shift
trap 'stty "$before"' EXIT
trap 'exit 129' HUP
trap 'exit 143' TERM
stty raw -echo
"$@" "$command"
`;

const IN_SCRIPT = `stty rows "$SO_ROWS" cols "$SO_COLS"; exec tmux -u attach-session -E -t "$SO_SESSION"`;

/** The account's own shell, which script(1) must not be given: it would read the command by its rules. */
const SHELL = `exec "\${SHELL:-/bin/sh}" -l`;
const SHELL_IN_SCRIPT = `SO_SHELL=\${SHELL:-/bin/sh} SHELL=/bin/sh; export SO_SHELL SHELL
exec script -qfec 'stty rows "$SO_ROWS" cols "$SO_COLS"; SHELL=$SO_SHELL; export SHELL; exec "$SHELL" -l' /dev/null`;

export interface AttachPlace {
  readonly target: string;
  /** Null: a shell instead. */
  readonly session: string | null;
  /** Folder of the tmux socket; empty: tmux's own. */
  readonly tmuxDir: string;
  /** The host gives us a terminal. */
  readonly hasPty: boolean;
}

/** What an operator runs here, and what that runs on the host. `ssh` is the program with its options. */
export function attachThrough(ssh: readonly string[], place: AttachPlace): OnTerminal {
  const { target, session, tmuxDir, hasPty } = place;
  const where = ["env", "TMUX=", ...(tmuxDir === "" ? [] : [`TMUX_TMPDIR=${tmuxDir}`])];
  if (hasPty) {
    return {
      argv: [...ssh, "-t", target, "--"],
      env: {},
      remote:
        session === null
          ? [...where, "sh", "-c", SHELL]
          : // -E keeps the operator's agent sockets and display out of the worker's session.
            [...where, "tmux", "-u", "attach-session", "-E", "-t", `=${session}`],
    };
  }
  const argv = ["sh", "-c", WITHOUT_PTY, "attach", ...ssh, "-T", target, "--"];
  if (session === null) return { argv, env: {}, remote: [...where, "sh", "-c", SHELL_IN_SCRIPT] };
  return {
    argv,
    env: {},
    remote: [
      ...where,
      "SHELL=/bin/sh",
      `SO_SESSION==${session}`,
      "script",
      "-qfec",
      IN_SCRIPT,
      "/dev/null",
    ],
  };
}
