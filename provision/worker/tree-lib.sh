# shellcheck shell=sh
# For step-setup, after lib.sh: ends a program with all that it started.

# shellcheck source=provision/worker/launch-lib.sh
. "$SO_BIN/launch-lib.sh"

# descendants PID...: these and all processes below them.
descendants() {
  descent=" $* "
  descent_grown=1
  while [ -n "$descent_grown" ]; do
    descent_grown=
    for descent_pid in /proc/[0-9]*; do
      descent_pid=${descent_pid#/proc/}
      case $descent in *" $descent_pid "*) continue ;; esac
      proc_stat "$descent_pid" || continue
      # shellcheck disable=SC2086,SC2154 # fields, left by proc_stat; the second here is the parent
      set -- ${stat_text##*) }
      case $descent in *" $2 "*) descent="$descent$descent_pid " descent_grown=1 ;; esac
    done
  done
  REPLY=$descent
}

# end_tree ID GRACE_MS: ends the processes that carry ID in their environment, in whatever session they are, and those below
# them, which may have thrown it away: TERM, after the grace KILL. Nothing is left when a look like that of launch_gone says so.
end_tree() {
  boot_id
  tree_boot=$REPLY tree_known='' tree_left=1 tree_turns=0
  uptime_ms
  tree_deadline=$((REPLY + $2))
  while [ -n "$tree_left" ] && [ "$tree_turns" -lt 400 ]; do
    [ "$tree_turns" -eq 0 ] || sleep 0.05
    tree_turns=$((tree_turns + 1))
    environ_look "$1"
    tree_left=$DOUBTFUL_PIDS
    # shellcheck disable=SC2086 # words
    descendants $LAUNCH_PIDS
    for tree_pid in $REPLY; do
      proc_starttime "$tree_pid" || continue
      case " $tree_known " in *" $tree_pid/$REPLY "*) continue ;; esac
      tree_known="$tree_known $tree_pid/$REPLY"
      kill -s TERM "$tree_pid" 2>/dev/null
    done
    uptime_ms
    tree_now=$REPLY
    for tree_one in $tree_known; do
      proc_alive "${tree_one%/*}" "${tree_one#*/}" "$tree_boot" || continue
      tree_left=1
      [ "$tree_now" -lt "$tree_deadline" ] || kill -s KILL "${tree_one%/*}" 2>/dev/null
    done
  done
}
