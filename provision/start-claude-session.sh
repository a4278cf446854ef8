#!/bin/sh
# start-claude-session.sh <sprite> <repo> [task-file]: starts the agent on that worker with the task: the bytes of the file, or of standard
# input. Waits in the queue while the worker is busy.
set -u
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=provision/find-orchestrator.sh
. "$here/find-orchestrator.sh"

case $# in 2 | 3) ;; *) usage "start-claude-session.sh <sprite> <repo> [task-file]" ;; esac
case $1 in "$2"-[0-9]*) ;; *) usage "start-claude-session.sh <sprite> <repo> [task-file]    (workers of the repo kite are kite-1, kite-2 ...)" ;; esac
if [ $# -eq 2 ] && [ -t 0 ]; then
  usage "start-claude-session.sh <sprite> <repo> [task-file]    (without a file the task comes on standard input)"
fi
run_orchestrator dispatch --repo "$2" --worker "$1" --file "${3:--}"
