# shellcheck shell=sh
# Shared by every worker script: . "${0%/*}/lib.sh"
#
# A function that computes something leaves it in REPLY, so that no process is started for it. Functions take care of
# nothing but their own arguments: names from outside are checked with is_name or is_number first.

# SC2034: REPLY and the paths are for the scripts that source this file.
# shellcheck disable=SC2034

set -u

TAB='	'
NL='
'
SO=$HOME/.orchestrator
SO_RUNS=$SO/runs
SO_JOBS=$SO/jobs
SO_FACTS=$SO/facts
SO_AUTH=$SO/auth
SO_LOCKS=$SO/locks
SO_FENCE=$SO/fence

# Where these scripts are. The bundle's own folder, not the link `bin` that a newer bundle may move: a job that runs on
# keeps the scripts it began with.
{ read -r SO_VERSION; } 2>/dev/null <"${0%/*}/VERSION" || SO_VERSION=
SO_BIN=$SO/bundles/$SO_VERSION
[ -n "$SO_VERSION" ] && [ -d "$SO_BIN" ] || SO_BIN=${0%/*}
case $SO_BIN in /*) ;; *) SO_BIN=$PWD/$SO_BIN ;; esac

# so_home: makes the folders below ~/.orchestrator, 0700.
so_home() {
  [ -d "$SO_LOCKS" ] && return
  # SC2174: the parents are there, or made on the line before.
  # shellcheck disable=SC2174
  mkdir -p -m 0700 "$SO" || exit 70
  # shellcheck disable=SC2174
  mkdir -p -m 0700 "$SO_FENCE" "$SO_JOBS" "$SO_RUNS" "$SO_AUTH" "$SO_FACTS" "$SO/objects" "$SO_LOCKS" || exit 70
}

# die CODE MESSAGE...: the message to stderr, cleaned.
die() {
  die_code=$1
  shift
  clean_text "$*"
  printf '%s\n' "$REPLY" >&2
  exit "$die_code"
}

# is_name TEXT: a repo, session, run or job name: [a-z0-9][a-z0-9-]*, at most 100 characters.
is_name() {
  case $1 in '' | -* | *[!abcdefghijklmnopqrstuvwxyz0123456789-]*) return 1 ;; esac
  [ "${#1}" -le 100 ]
}

# is_number TEXT: decimal, without sign, at most 15 digits.
is_number() {
  case $1 in '' | *[!0123456789]*) return 1 ;; esac
  [ "${#1}" -le 15 ]
}

# check_bundle HASH: exit 78 when these scripts are of another bundle.
check_bundle() {
  [ "$1" = "$SO_VERSION" ] || exit 78
}

# fence_highest: the highest epoch seen, 0 when none.
fence_highest() {
  for fence_file in "$SO_FENCE"/*; do :; done
  fence_file=${fence_file##*/}
  REPLY=${fence_file#"${fence_file%%[!0]*}"}
  is_number "$REPLY" || REPLY=0
}

# fence_check EPOCH: notes the epoch, then exits 75 and prints `fenced HIGHEST` when a higher one was seen.
fence_check() {
  is_number "$1" || die 64 "the epoch is not a number: $1"
  so_home
  fence_own=$1
  while [ "${#fence_own}" -lt 15 ]; do fence_own=0$fence_own; done
  { : >"$SO_FENCE/$fence_own"; } 2>/dev/null || die 70 "cannot write the fence"
  set -- "$SO_FENCE"/*
  for fence_file in "$@"; do :; done
  if [ "${fence_file##*/}" != "$fence_own" ]; then
    fence_highest
    printf 'fenced\t%s\n' "$REPLY"
    exit 75
  fi
  # Only names lower than the own one go, so the highest never does.
  if [ $# -gt 40 ]; then
    for fence_file in "$@"; do
      [ "${fence_file##*/}" = "$fence_own" ] || rm -f -- "$fence_file"
    done
  fi
}

# clean_text TEXT: control characters replaced by `?`.
clean_text() {
  REPLY=$1
  case $1 in
    *[[:cntrl:]]*) REPLY=$(printf '%s' "$1" | LC_ALL=C tr '\001-\037\177' '?') ;;
  esac
}

# clean_lines: the same as a filter, keeping newlines.
clean_lines() {
  LC_ALL=C tr '\000-\011\013-\037\177' '?'
}

# now_ms: wall time, ms since 1970 (one process; second resolution without GNU date).
now_ms() {
  REPLY=$(date +%s%3N)
  case $REPLY in *[!0123456789]*) REPLY=$(date +%s)000 ;; esac
}

# uptime_ms: ms since boot, to 10 ms; without a process.
uptime_ms() {
  read -r REPLY uptime_idle </proc/uptime
  uptime_fraction=${REPLY#*.}
  REPLY=${REPLY%.*}${uptime_fraction}0
  REPLY=${REPLY#"${REPLY%%[!0]*}"}
}

boot_id() {
  read -r REPLY </proc/sys/kernel/random/boot_id
}

# proc_stat PID: sets PROC_STATE, PROC_SESSION and PROC_START (clock ticks since boot); fails when there is no such process.
proc_stat() {
  is_number "$1" || return 1
  stat_text=
  # The name in the second field may hold blanks, brackets and newlines.
  { while IFS= read -r stat_line; do stat_text=$stat_text$stat_line; done; } 2>/dev/null <"/proc/$1/stat" || return 1
  [ -n "$stat_text" ] || return 1
  # shellcheck disable=SC2086 # fields
  set -- ${stat_text##*) }
  [ $# -ge 20 ] || return 1
  PROC_STATE=$1
  PROC_SESSION=$4
  shift 19
  PROC_START=$1
}

# proc_starttime PID
proc_starttime() {
  proc_stat "$1" || return 1
  REPLY=$PROC_START
}

# proc_alive PID STARTTIME BOOT_ID: whether exactly that process runs (a zombie does not).
proc_alive() {
  boot_id
  [ "$3" = "$REPLY" ] || return 1
  proc_stat "$1" || return 1
  [ "$PROC_START" = "$2" ] || return 1
  case $PROC_STATE in Z | X | x) return 1 ;; esac
}

# end_session PID JOB: ends what a runner left behind: the processes of its session that carry its job's id. The session's
# number alone could be somebody else's by now. Nothing is left when a look like that of launch_gone says so.
end_session() {
  # shellcheck source=provision/worker/launch-lib.sh
  . "$SO_BIN/launch-lib.sh"
  end_left=1 end_turns=0 end_signal=TERM
  while [ -n "$end_left" ] && [ "$end_turns" -lt 100 ]; do
    [ "$end_turns" -eq 0 ] || sleep 0.05
    end_turns=$((end_turns + 1))
    environ_look "ORCHESTRATOR_JOB=$2"
    end_left='' end_signalled=''
    for end_process in $LAUNCH_PIDS; do
      in_session "$end_process" "$1" || continue
      end_left=1 end_signalled=1
      kill -s "$end_signal" "$end_process" 2>/dev/null
    done
    for end_process in $DOUBTFUL_PIDS; do
      ! in_session "$end_process" "$1" || end_left=1
    done
    [ -z "$end_signalled" ] || end_signal=KILL
  done
}

# in_session PID SESSION: whether it runs there.
in_session() {
  proc_stat "$1" || return 1
  [ "$PROC_SESSION" = "$2" ] || return 1
  case $PROC_STATE in Z | X | x) return 1 ;; esac
}

# lock NAME / unlock: a short-lived lock; the kernel frees it when its holder dies. One at a time (file descriptor 9):
# start long-lived processes with 9>&-.
lock() {
  exec 9>"$SO_LOCKS/$1" || exit 70
  flock -x 9 || exit 70
}
unlock() {
  exec 9>&-
}

# own_file PATH CONTENT...: writes the lines to a new file 0600 and renames it into place.
own_file() {
  own_path=$1
  shift
  (umask 077 && printf '%s\n' "$@" >"$own_path.$$") && mv -f -- "$own_path.$$" "$own_path" && return
  rm -f -- "$own_path.$$"
  return 1
}

# tm ARGS...: a tmux client. -u: without it a hostile window name can end the server.
tm() {
  tmux -u "$@"
}

# How a pane is: dead, with its exit code or signal; its process; what was started in it.
PANE_STATE='#{pane_dead}#{pane_dead_status}#{pane_dead_signal} #{pane_pid} #{pane_start_command}'

# agent_pane SESSION: sets AGENT_WINDOW and AGENT_PANE, ids that stay whatever the windows are called; fails without them. AGENT_STATE:
# its PANE_STATE, when that took no further look.
agent_pane() {
  AGENT_WINDOW='' AGENT_PANE='' AGENT_STATE=''
  pane_list=$(tm list-windows -t "=$1" -F "#{window_id} #{pane_id} #{window_index}/#{@agent_pane}/#{window_name}$TAB$PANE_STATE" 2>/dev/null) || return 1
  while [ -n "$pane_list" ]; do
    pane_line=${pane_list%%"$NL"*}
    case $pane_list in *"$NL"*) pane_list=${pane_list#*"$NL"} ;; *) pane_list= ;; esac
    pane_state=${pane_line#*"$TAB"}
    pane_line=${pane_line%%"$TAB"*}
    pane_rest=${pane_line#* }
    pane_index=${pane_rest#* }
    pane_marked=${pane_index#*/}
    pane_name=${pane_marked#*/}
    pane_marked=${pane_marked%%/*}
    case ${pane_index%%/*}/$pane_marked/$pane_name in
      [0-9]*/%[0-9]*/*)
        # Set by tmux-setup: the first pane of the agent's window, even when a person has split it.
        AGENT_WINDOW=${pane_line%% *}
        AGENT_PANE=$pane_marked
        # Of the window's active pane, which need not be the agent's.
        case $pane_rest in "$pane_marked "*) AGENT_STATE=$pane_state ;; esac
        return 0
        ;;
      *//agent:* | 1//*)
        [ -n "$AGENT_PANE" ] || AGENT_WINDOW=${pane_line%% *} AGENT_PANE=${pane_rest%% *}
        ;;
    esac
  done
  [ -n "$AGENT_PANE" ]
}

# live_pane SESSION: agent_pane whose program runs and takes keys; exits 69 otherwise.
live_pane() {
  agent_pane "$1" || die 69 "session $1 has no agent window"
  case $(tm display-message -p -t "$AGENT_PANE" '#{pane_dead}#{pane_in_mode}' 2>/dev/null) in
    00) ;;
    1*) die 69 "the program in the agent's pane has ended" ;;
    01) die 69 "somebody reads in the agent's pane" ;;
    *) die 69 "the agent's pane is gone" ;;
  esac
}

# read_watch RUN: how the guard watches the work of a run, as the controller left it in runs/RUN/watch; fails when it is not watched.
# WATCH_TAKE_S: seconds between snapshots, WATCH_COMMIT_S: how long work may stay without a commit; 0: not at all.
read_watch() {
  WATCH_EPOCH='' WATCH_REPO='' WATCH_TAKE_S='' WATCH_COMMIT_S='' WATCH_PUSH=''
  { read -r WATCH_EPOCH WATCH_REPO WATCH_TAKE_S WATCH_COMMIT_S WATCH_PUSH _; } 2>/dev/null <"$SO_RUNS/$1/watch" || return 1
  is_number "$WATCH_EPOCH" && is_name "$WATCH_REPO" && is_number "$WATCH_TAKE_S" && is_number "$WATCH_COMMIT_S"
}

# nudge_tmux: makes the tmux server collect its dead children. While it writes the system's login records for a pane (where
# it is built with utempter, as in Debian) it ignores SIGCHLD: about one pane in ten that ends is not noticed, keeps a zombie,
# and reports no exit code until another child of the server ends. A job is one.
nudge_tmux() {
  tm run-shell -b true 2>/dev/null
}
