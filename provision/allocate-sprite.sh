#!/bin/sh
# allocate-sprite.sh <repo>: prints the name of the worker that the next task of the pool would get, an idle one or a new one. Only a plan:
# the dispatch claims it. 3 when the task would have to wait.
set -u
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=provision/find-orchestrator.sh
. "$here/find-orchestrator.sh"

[ $# -eq 1 ] || usage "allocate-sprite.sh <repo>"
run_orchestrator worker allocate -- "$1"
