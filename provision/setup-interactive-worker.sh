#!/bin/sh
# setup-interactive-worker.sh <sprite> <repo>: what setup-worker.sh does (the agent program and its credential, and the tmux session, are
# steps of it), then says how to sit down at the worker.
set -u
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=provision/find-orchestrator.sh
. "$here/find-orchestrator.sh"

[ $# -eq 2 ] || usage "setup-interactive-worker.sh <sprite> <repo>"
case $1 in "$2"-[0-9]*) ;; *) usage "setup-interactive-worker.sh <sprite> <repo>    (workers of the repo kite are kite-1, kite-2 ...)" ;; esac
run_orchestrator worker setup --create -- "$1" || exit
run_orchestrator attach --print -- "$1"
