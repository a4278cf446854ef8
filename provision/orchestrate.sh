#!/bin/sh
# orchestrate.sh --repo X --command "Y": gives the task to the next idle worker of the pool. Takes every option of `orchestrator dispatch`
# (--wait, --file, --worker ...); its exit codes are those of the program.
set -u
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=provision/find-orchestrator.sh
. "$here/find-orchestrator.sh"

has_repo="" has_task=""
for word in "$@"; do
  case $word in
    --repo | --repo=*) has_repo=yes ;;
    --command | --command=* | --file | --file=* | - | --dry-run | -h | --help) has_task=yes ;;
  esac
  case $word in -h | --help) has_repo=yes ;; esac
done
[ -n "$has_repo" ] && [ -n "$has_task" ] || usage 'orchestrate.sh --repo X --command "Y"'
run_orchestrator dispatch "$@"
