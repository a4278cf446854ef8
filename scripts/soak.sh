#!/bin/sh
# The long forms of the fault tests: many more random moments, in new seeds. SOAK_SEED=N repeats one.
set -eu
SOAK_MOMENTS=${SOAK_MOMENTS:-100} STORE_CRASH_POINTS=${STORE_CRASH_POINTS:-1000}
export SOAK_MOMENTS STORE_CRASH_POINTS
exec node --test --test-concurrency=1 --test-timeout=3600000 'test/faults/*.test.ts' 'test/store/*.test.ts'
