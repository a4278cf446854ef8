#!/bin/sh
# Stands in for the agent program `claude`: takes the prompt, keeps it in its history as the real one does, calls the hooks of one turn
# and stays in its window. The prompt must need no escape in JSON.
[ "${1-}" != --version ] || { echo '0.0.0 (fake)' && exit; }
conversation='' prompt=''
while [ $# -gt 0 ]; do
  case $1 in --session-id | --resume) conversation=$2 ;; --) prompt=$2 ;; esac
  shift
done

# hook EVENT FIELDS
hook() {
  printf '{"session_id":"%s","hook_event_name":"%s",%s}' "$conversation" "$1" "$2" | "$HOME/.orchestrator/bin/hook" "$1"
}
mkdir -p "$HOME/.claude"
hook SessionStart '"source":"startup"'
printf '{"display":"%s","sessionId":"%s"}\n' "$prompt" "$conversation" >>"$HOME/.claude/history.jsonl"
hook UserPromptSubmit "\"prompt\":\"$prompt\""
hook Stop '"background_tasks":[],"session_crons":[],"last_assistant_message":"done"'
while :; do read -r _ || sleep 1; done
