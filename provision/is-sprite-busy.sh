#!/bin/sh
# is-sprite-busy.sh <sprite>: 0 busy, 1 idle, 7 when it cannot be found out (unreachable, or it could not be asked), 4 no such worker.
# The reason is on standard output.
set -u
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=provision/find-orchestrator.sh
. "$here/find-orchestrator.sh"

[ $# -eq 1 ] || usage "is-sprite-busy.sh <sprite>"
run_orchestrator worker busy -- "$1"
code=$?
case $code in
  3) exit 1 ;;
  # An inner failure is no proof that nobody is there.
  1) exit 7 ;;
  *) exit "$code" ;;
esac
