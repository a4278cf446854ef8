#!/bin/sh
# fake-agent.sh SCRIPT [MESSAGE]: behaves as the lines of SCRIPT say, calling the hooks as an agent would.
#
#   record FILE          appends "PID ORCHESTRATOR_LAUNCH" to FILE and writes MESSAGE, byte for byte, to FILE.message
#   hook EVENT JSON      calls the hook
#   registry JSON|-      writes, replaces or removes its registry file ($$.json)
#   wait FILE            until FILE is there
#   ignore-term          TERM is ignored from now on, by its children too
#   orphan FILE          leaves a child in a session of its own that ignores TERM; its pid in FILE
#   say TEXT             prints TEXT
#   exit CODE
bin=$HOME/.orchestrator/bin
script=$1
registry=${CLAUDE_CONFIG_DIR:-$HOME/.claude}/sessions/$$.json
while read -r word rest; do
  case $word in
    record)
      printf '%s %s\n' $$ "$ORCHESTRATOR_LAUNCH" >>"$rest"
      [ $# -lt 2 ] || printf '%s' "$2" >"$rest.message"
      ;;
    hook) printf '%s\n' "${rest#* }" | "$bin/hook" "${rest%% *}" ;;
    registry)
      mkdir -p "${registry%/*}"
      if [ "$rest" = - ]; then
        rm -f "$registry"
      else
        printf '%s' "$rest" >"$registry.new" && mv "$registry.new" "$registry"
      fi
      ;;
    wait) while [ ! -e "$rest" ]; do sleep 0.02; done ;;
    ignore-term) trap '' TERM HUP INT ;;
    orphan)
      # shellcheck disable=SC2016 # the child expands it
      ORPHAN=$rest setsid sh -c 'trap "" TERM HUP INT; echo $$ >"$ORPHAN.new"; mv "$ORPHAN.new" "$ORPHAN"; while :; do sleep 1; done' </dev/null >/dev/null 2>&1 &
      while [ ! -e "$rest" ]; do sleep 0.02; done
      ;;
    say) printf '%s\n' "$rest" ;;
    exit) exit "$rest" ;;
  esac
done <"$script"
