#!/bin/sh
# check-status-silent.sh <sprite> <repo>: compares the name of the agent window with the status; changes go to the status log. Prints nothing.
set -u
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=provision/find-orchestrator.sh
. "$here/find-orchestrator.sh"

[ $# -eq 2 ] || usage "check-status-silent.sh <sprite> <repo>"
run_orchestrator check --silent -- "$1" "$2"
