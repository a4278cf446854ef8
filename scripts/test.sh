#!/bin/sh
# All tests, or the files named. Prints one line per test file's outcome.
set -eu
if [ $# -gt 0 ]; then exec node --test --test-concurrency=4 "$@"; fi
exec node --test --test-concurrency=4 --test-timeout=600000 'test/**/*.test.ts'
