#!/bin/sh
# Stands in for the agent program `claude`: takes its time to boot, acknowledges the prompt by its hash, calls the hooks that a
# turn would, and ends its turn when told to.
#
#   BENCH_FOLDER/boot-s         seconds that a boot takes, e.g. 0.015
#   BENCH_FOLDER/<run>.held     written here, whole: wall time in ns and SHA-256 of the prompt
#   BENCH_FOLDER/<run>.release  a pipe; what is written to it ends the turn
#
# The prompt must need no escape in JSON.
[ "${1-}" != --version ] || { echo '0.0.0 (fake)' && exit; }
conversation='' prompt=''
while [ $# -gt 0 ]; do
  case $1 in --session-id | --resume) conversation=$2 ;; --) prompt=$2 ;; esac
  shift
done
read -r boot_s <"$BENCH_FOLDER/boot-s"
[ "$boot_s" = 0 ] || sleep "$boot_s"

held=$BENCH_FOLDER/$ORCHESTRATOR_RUN
printf '%s %s\n' "$(date +%s%N)" "$(printf '%s' "$prompt" | sha256sum)" >"$held.new"
mkfifo "$held.release"
mv "$held.new" "$held.held"

# hook EVENT FIELDS
hook() {
  printf '{"session_id":"%s","hook_event_name":"%s",%s}' "$conversation" "$1" "$2" | "$HOME/.orchestrator/bin/hook" "$1"
}
hook SessionStart '"source":"startup"'
hook UserPromptSubmit "\"prompt\":\"$prompt\""
read -r _ <"$held.release"
hook Stop '"background_tasks":[],"session_crons":[],"last_assistant_message":"done"'
# As the real one: it stays in its window.
read -r _ <"$held.release"
