# shellcheck shell=sh
# For over and stop, after lib.sh: the processes of a launch.

# launch_pids RUN N: REPLY is the pids of this user's processes that carry the launch id. One process for all of /proc.
# A zombie has no environment any more, so that it does not count.
launch_pids() {
  launch_found=$(grep -lszxF -- "ORCHESTRATOR_LAUNCH=$1/$2" /proc/[0-9]*/environ)
  REPLY=
  for launch_file in $launch_found; do
    launch_file=${launch_file#/proc/}
    REPLY="$REPLY ${launch_file%/environ}"
  done
  REPLY=${REPLY# }
}

# read_gate RUN N: sets GATE_PID (empty: no gate, `revoked`), GATE_START and GATE_BOOT.
read_gate() {
  GATE_PID='' GATE_START='' GATE_BOOT=''
  { read -r GATE_PID GATE_START GATE_BOOT _; } 2>/dev/null <"$SO_RUNS/$1/launch-$2"
}

gate_owner_alive() {
  is_number "$GATE_PID" && proc_alive "$GATE_PID" "$GATE_START" "$GATE_BOOT"
}

# report_over RUN N
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
  launch_pids "$1" "$2"
  # A process that was being born during the first look is seen by the second.
  [ -n "$REPLY" ] || launch_pids "$1" "$2"
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
