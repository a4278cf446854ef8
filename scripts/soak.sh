#!/bin/sh
# The long forms of the fault tests: many more random moments, in new seeds, and a whole day. SOAK_SEED=N and DAY_SEED=N repeat one.
set -eu
SOAK_MOMENTS=${SOAK_MOMENTS:-100} STORE_CRASH_POINTS=${STORE_CRASH_POINTS:-1000} DAY_SWEEPS=${DAY_SWEEPS:-48} SOAK=1
export SOAK SOAK_MOMENTS STORE_CRASH_POINTS DAY_SWEEPS
exec node --test --test-concurrency=1 --test-timeout=3600000 'test/faults/*.test.ts' 'test/store/*.test.ts'
