#!/usr/bin/env bash
# A sweep on this machine: launchers/local.sh table=1 store=/data/runs
# Sets the project up on first use. Arguments go to `obert-sweeps run` as they are; the same command
# again resumes.
set -euo pipefail
project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
make --no-print-directory -C "$project" setup >&2
# Idle OpenMP threads that spin cost other processes on the same cores far more than they gain.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}" GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-0}"
exec "$project/.venv/bin/obert-sweeps" run "$@"
