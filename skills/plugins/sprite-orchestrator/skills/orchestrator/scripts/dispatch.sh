#!/bin/sh
# Gives the task on standard input to the `orchestrator` program; the arguments are options of `orchestrator dispatch`.
# The task never meets a shell's eyes: it comes from standard input and goes on to standard input.
set -u

fail() {
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit "$3"
}

# Sets the words that run the program: one in PATH, one of the package this plugin lies in, one in a usual place.
find_program() {
  program=$(command -v orchestrator) && return 0
  here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || return 1
  root=${here%/skills/plugins/*}
  if [ "$root" != "$here" ]; then
    node=$(command -v "$root/node_modules/.bin/node" || command -v node) || node=
    for file in "$root/dist/orchestrator.cjs" "$root/src/main.ts"; do
      if [ -n "$node" ] && [ -f "$file" ]; then
        program=$file
        return 0
      fi
    done
  fi
  for file in "${HOME:-/}/.local/bin/orchestrator" "${HOME:-/}/.npm-global/bin/orchestrator" \
    /usr/local/bin/orchestrator /opt/homebrew/bin/orchestrator; do
    if [ -x "$file" ]; then
      program=$file
      return 0
    fi
  done
  return 1
}

example='/orchestrator --repo kite --command "fix the authentication bug"'
repo=
dry_run=
for word in "$@"; do
  case $word in
    --repo | --repo=*) repo=yes ;;
    --dry-run) dry_run=yes ;;
    --command | --command=* | --file | --file=* | -)
      fail "the task comes on standard input" "see the skill's text" 2 ;;
  esac
done
[ -n "$repo" ] || fail "--repo is missing" "for example: $example" 2

# The substitution drops the newline that ends a here-document.
task=
[ -t 0 ] || task=$(cat)
if [ -z "$dry_run" ]; then
  case $task in
    *[![:space:]]*) ;;
    *) fail "--command is missing: there is no task" "for example: $example" 2 ;;
  esac
fi

node=
find_program || fail "the program 'orchestrator' was not found" "install it with: npm install --global sprite-orchestrator" 127
if [ -n "$dry_run" ]; then
  exec ${node:+"$node"} "$program" dispatch "$@" </dev/null
fi
# printf is part of the shell: no limit on the length of an argument applies.
printf '%s' "$task" | ${node:+"$node"} "$program" dispatch "$@" -
