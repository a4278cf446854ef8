# shellcheck shell=sh
# Sourced by the scripts beside it, which set $here to their folder. run_orchestrator ARGS... runs the program: the one in PATH, else the
# one of the package that these scripts lie in. 127 when there is neither.

run_orchestrator() {
  if program=$(command -v orchestrator); then
    "$program" "$@"
    return
  fi
  # SC2154: set by who sources this file.
  # shellcheck disable=SC2154
  root=${here%/*}
  node=$(command -v "$root/node_modules/.bin/node" || command -v node) || node=
  for file in "$root/dist/orchestrator.cjs" "$root/src/main.ts"; do
    if [ -n "$node" ] && [ -f "$file" ]; then
      "$node" "$file" "$@"
      return
    fi
  done
  echo "error: the program 'orchestrator' was not found" >&2
  echo "hint: install it with: npm install --global sprite-orchestrator" >&2
  return 127
}

# usage TEXT...: says how the script is called, and ends it.
usage() {
  printf 'usage: %s\n' "$@" >&2
  exit 2
}
