#!/bin/sh
# Every gate, cheapest first; stops at the first that fails.
set -eu
step() { printf '\n== %s\n' "$*"; "$@"; }
step oxfmt --check .
step oxlint --type-aware --deny-warnings .
step tsc -p .
step node --test test/rooms.test.ts
step knip
if command -v shellcheck >/dev/null 2>&1; then
  # shellcheck disable=SC2046 # one word per file: no name here has a blank
  step shellcheck $(git ls-files '*.sh' 'provision/worker/*' | grep -vE '[.](md|awk)$' | grep -v '^test/fixtures/')
else
  echo "shellcheck is not installed: the shell scripts were not checked" >&2
  [ -z "${CI:-}" ] || exit 1
fi
