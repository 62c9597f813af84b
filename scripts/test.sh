#!/usr/bin/env bash
# Checks style and runs the tests; --all adds the slow ones. Other arguments go to pytest (-n 0: in one process).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
make_venv "[train,dev]"
chosen=(-m "not slow")
if [ "${1:-}" = "--all" ]; then
  chosen=()
  shift
fi
code=(mixscale configs analysis tests scripts)
"$venv/bin/ruff" check "${code[@]}"
"$venv/bin/ruff" format --check "${code[@]}"
"$venv/bin/lint-imports" --no-cache >/tmp/mixscale-imports.log || { cat /tmp/mixscale-imports.log; exit 1; }
# A file at a time for each core; of more than eight, memory would be what runs out.
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
exec "$venv/bin/python" -m pytest -n "$((cores < 8 ? cores : 8))" --dist loadfile --no-loadscope-reorder \
  "${chosen[@]}" "$@"
