#!/bin/sh
# send-to-worker.sh <sprite> <window> <cmd>: <window> is `shell`, `agent` or an index. In a shell window the command is typed as it is; for
# the agent it is a message, delivered with a receipt (6: nothing proves that the agent has it).
set -u
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=provision/find-orchestrator.sh
. "$here/find-orchestrator.sh"

[ $# -eq 3 ] || usage "send-to-worker.sh <sprite> <window> <cmd>"
run_orchestrator worker send -- "$1" "$2" "$3"
