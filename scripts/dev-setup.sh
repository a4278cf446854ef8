#!/bin/sh
# Makes a fresh clone ready: npm packages (Node 24 among them), git, tmux and OpenSSH's server.
# Safe to run again at any time; does nothing when all is there. --quiet prints only what it changes.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
quiet=${1:-}
say() { printf 'setup: %s\n' "$*" >&2; }

# A copy of the lock file in node_modules tells whether `npm ci` is due.
if ! cmp -s package-lock.json node_modules/.lock-installed 2>/dev/null; then
  command -v npm >/dev/null 2>&1 || { say "npm is missing: install Node.js (any version from 20)"; exit 1; }
  say "installing npm packages"
  npm ci --loglevel=error --no-audit --no-fund
  cp package-lock.json node_modules/.lock-installed
fi
[ -x node_modules/.bin/node ] || {
  say "Node 24 did not arrive with the npm packages (were install scripts off?): run 'npm rebuild node'"
  exit 1
}

missing=
command -v git >/dev/null 2>&1 || missing="$missing git"
command -v tmux >/dev/null 2>&1 || missing="$missing tmux"
[ -x /usr/sbin/sshd ] || command -v sshd >/dev/null 2>&1 || missing="$missing openssh-server"
if [ -n "$missing" ]; then
  sudo=
  [ "$(id -u)" = 0 ] || sudo="sudo -n"
  if command -v apt-get >/dev/null 2>&1 && { [ -z "$sudo" ] || $sudo true 2>/dev/null; }; then
    say "installing$missing"
    # shellcheck disable=SC2086 # two word lists, on purpose
    { $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing; } >/dev/null
  else
    say "missing:$missing. Install them with your system's package manager, then run this again"
    exit 1
  fi
fi
[ "$quiet" = --quiet ] || say "ready"
