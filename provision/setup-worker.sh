#!/bin/sh
# setup-worker.sh <sprite> <repo>: makes the worker if need be and prepares it: SSH, clone, scripts/dev-setup.sh, agent, tmux session. Safe to
# repeat: a set-up that failed goes on from the step that failed, and a worker that is ready is left alone.
set -u
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=provision/find-orchestrator.sh
. "$here/find-orchestrator.sh"

[ $# -eq 2 ] || usage "setup-worker.sh <sprite> <repo>"
case $1 in "$2"-[0-9]*) ;; *) usage "setup-worker.sh <sprite> <repo>    (workers of the repo kite are kite-1, kite-2 ...)" ;; esac
run_orchestrator worker setup --create -- "$1"
