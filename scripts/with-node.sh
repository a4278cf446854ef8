#!/bin/sh
# Runs a command with this checkout's own programs first in PATH, so that `node` is the pinned one.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
PATH="$root/node_modules/.bin:$PATH"
export PATH
exec "$@"
