# shellcheck shell=sh
# For over, stop and step-over, and for end_session, after lib.sh: the processes of a launch or a job.

# launch_look RUN N [PID...]: environ_look for that launch.
launch_look() {
  look_launch=$1/$2
  shift 2
  environ_look "ORCHESTRATOR_LAUNCH=$look_launch" "$@"
}

# environ_look ID [PID...]: reads the environment of each of this user's processes twice, one time after the other, or of these
# alone once. LAUNCH_PIDS: those that carry ID in it.
# DOUBTFUL_PIDS: those that showed none at all, as a process does within an exec, which can take long on a busy machine.
# Left out of these is what has none for good: zombies, the kernel's threads (no memory: vsize, field 23), and programs
# started without one (it begins and ends at the same address: fields 50 and 51).
environ_look() {
  look_id=$1
  shift
  for look_pid in "$@"; do
    shift
    set -- "$@" "/proc/$look_pid/environ"
  done
  look_found=$(look_at "$@" | LC_ALL=C tr '\n\000' '\001\n' |
    LC_ALL=C awk -v id="$look_id" '
      BEGIN { FS = "\001" }
      {
        for (i = 1; i <= NF; i++) {
          if ($i ~ /^==> \/proc\/[0-9]+\/environ <==$/) {
            if (pid != "" && !shown) print "empty", pid
            split($i, part, "/")
            pid = part[3]
            shown = 0
          } else if ($i != "") {
            shown = 1
            if ($i == id) print "found", pid
          }
        }
      }
      END { if (pid != "" && !shown) print "empty", pid }')
  LAUNCH_PIDS='' DOUBTFUL_PIDS=''
  # shellcheck disable=SC2086 # words
  set -- $look_found
  while [ $# -ge 2 ]; do
    case $1 in
      found) case "$LAUNCH_PIDS " in *" $2 "*) ;; *) LAUNCH_PIDS="$LAUNCH_PIDS $2" ;; esac ;;
      *) case "$DOUBTFUL_PIDS " in *" $2 "*) ;; *) ! shows_later "$2" || DOUBTFUL_PIDS="$DOUBTFUL_PIDS $2" ;; esac ;;
    esac
    shift 2
  done
  LAUNCH_PIDS=${LAUNCH_PIDS# } DOUBTFUL_PIDS=${DOUBTFUL_PIDS# }
}

look_at() {
  if [ $# -gt 0 ]; then
    head -v -c 2097152 "$@" 2>/dev/null
  else
    head -v -c 2097152 /proc/[0-9]*/environ 2>/dev/null
    # A process born during the first look, by one that ended before it, is seen by the second.
    head -v -c 2097152 /proc/[0-9]*/environ 2>/dev/null
  fi
}

shows_later() {
  proc_stat "$1" || return 1
  case $PROC_STATE in Z | X | x) return 1 ;; esac
  # shellcheck disable=SC2086,SC2154 # fields, left by proc_stat; the first here is the third of the file
  set -- ${stat_text##*) }
  [ "${21}" != 0 ] || return 1
  [ "${49-0}" = 0 ] || [ "${48-}" != "${49-}" ]
}

# launch_gone RUN N: whether no process carries the launch id. REPLY: those that do, or that for seconds cannot be told
# apart from such.
launch_gone() {
  gone_turns=0
  while :; do
    launch_look "$1" "$2"
    REPLY=$LAUNCH_PIDS
    [ -z "$REPLY" ] || return 1
    [ -n "$DOUBTFUL_PIDS" ] || return 0
    REPLY=$DOUBTFUL_PIDS
    gone_turns=$((gone_turns + 1))
    [ "$gone_turns" -lt 100 ] || return 1
    sleep 0.02
  done
}

# read_gate RUN N: sets GATE_PID (empty: no gate, `revoked`), GATE_START and GATE_BOOT.
read_gate() {
  GATE_PID='' GATE_START='' GATE_BOOT=''
  { read -r GATE_PID GATE_START GATE_BOOT _; } 2>/dev/null <"$SO_RUNS/$1/launch-$2"
  # Linked with its content: only a loss of power can have taken that.
  [ -n "$GATE_PID" ] || [ ! -e "$SO_RUNS/$1/launch-$2" ] || GATE_PID=0 GATE_START=0 GATE_BOOT=lost
}

gate_owner_alive() {
  is_number "$GATE_PID" && proc_alive "$GATE_PID" "$GATE_START" "$GATE_BOOT"
}

# report_over RUN N [gone]: gone: launch_gone has just said so, after the gate's owner had ended. Nothing can carry the id anew then.
report_over() {
  read_gate "$1" "$2"
  if [ -z "$GATE_PID" ]; then
    printf 'alive\n'
    return
  fi
  boot_id
  if [ "$GATE_PID" != revoked ] && [ "$GATE_BOOT" != "$REPLY" ]; then
    printf 'over\tthe machine was restarted\n'
    return
  fi
  REPLY=
  [ "${3-}" = gone ] || launch_gone "$1" "$2"
  report_pids=$REPLY
  if gate_owner_alive; then
    case " $report_pids " in *" $GATE_PID "*) ;; *) report_pids="$GATE_PID${report_pids:+ $report_pids}" ;; esac
  fi
  if [ -n "$report_pids" ]; then
    printf 'alive'
    for report_pid in $report_pids; do printf '\t%s' "$report_pid"; done
    printf '\n'
  elif [ "$GATE_PID" = revoked ]; then
    printf 'over\tthe gate is revoked and nothing carries the launch\n'
  else
    printf 'over\tthe agent process %s ended and nothing carries the launch\n' "$GATE_PID"
  fi
}

# signal_all RUN N NAME: the gate's owner, and each process that carries the launch id. A pid is signalled only if the process seen
# before and after the look at its environment is the same one (start time), so that one given to somebody else meanwhile is spared.
signal_all() {
  boot_id
  signal_boot=$REPLY signal_run=$1 signal_n=$2
  ! gate_owner_alive || kill -s "$3" "$GATE_PID" 2>/dev/null
  launch_look "$1" "$2"
  signal_seen=
  set -- "$3"
  for signal_pid in $LAUNCH_PIDS; do
    [ "$signal_pid" != "$GATE_PID" ] && proc_starttime "$signal_pid" || continue
    signal_seen="$signal_seen $signal_pid/$REPLY"
    set -- "$@" "$signal_pid"
  done
  [ -n "$signal_seen" ] || return 0
  signal_name=$1
  shift
  launch_look "$signal_run" "$signal_n" "$@"
  for signal_entry in $signal_seen; do
    case " $LAUNCH_PIDS " in *" ${signal_entry%/*} "*) ;; *) continue ;; esac
    ! proc_alive "${signal_entry%/*}" "${signal_entry#*/}" "$signal_boot" || kill -s "$signal_name" "${signal_entry%/*}" 2>/dev/null
  done
}

nothing_left() {
  ! gate_owner_alive && launch_gone "$1" "$2"
}

# end_launch RUN N GRACE_MS: revokes the gate, ends the launch's processes (TERM, after the grace KILL), then prints what `over` prints.
# Only processes that carry the launch id, and the gate's owner, are ever signalled.
end_launch() {
  read_gate "$1" "$2"
  if [ -z "$GATE_PID" ]; then
    "$SO_BIN/revoke" "$1" "$2" >/dev/null || die 70 "the gate cannot be revoked"
    read_gate "$1" "$2"
  fi
  uptime_ms
  end_deadline=$((REPLY + $3))
  # An agent that goes by itself takes its children along: looking for them before it had the time is a look too many.
  if gate_owner_alive; then
    kill -s TERM "$GATE_PID" 2>/dev/null
    end_turns=0
    while gate_owner_alive && [ "$end_turns" -lt 20 ]; do
      end_turns=$((end_turns + 1))
      sleep 0.005
    done
  fi
  end_gone=gone
  if ! nothing_left "$1" "$2"; then
    signal_all "$1" "$2" TERM
    end_turns=0
    until nothing_left "$1" "$2"; do
      uptime_ms
      end_now=$REPLY
      [ "$end_now" -lt "$end_deadline" ] || signal_all "$1" "$2" KILL
      if [ "$end_now" -ge $((end_deadline + 10000)) ]; then
        end_gone=
        break
      fi
      end_turns=$((end_turns + 1))
      if [ "$end_turns" -le 10 ]; then sleep 0.01; else sleep 0.05; fi
    done
  fi
  report_over "$1" "$2" "$end_gone"
}
