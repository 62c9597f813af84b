#!/usr/bin/env bash
# Checks style and runs the tests; --all adds the slow ones. Other arguments go to pytest (-n 0: in one process).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
make_venv "[train,dev]"
speed=" and not slow"
if [ "${1:-}" = "--all" ]; then
  speed=""
  shift
fi
code=(mixscale configs analysis tests scripts)
"$venv/bin/ruff" check "${code[@]}"
"$venv/bin/ruff" format --check "${code[@]}"
contracts=$("$venv/bin/lint-imports" --no-cache) || { echo "$contracts"; exit 1; }
# One process for each core; with more than eight, memory runs out.
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
pytest=("$venv/bin/python" -m pytest -n "$((cores < 8 ? cores : 8))" --dist worksteal)
# Tests of meshes need eight devices; everything else compiles faster for one (tests/conftest.py).
status=0
for marker in "not mesh" "mesh"; do
  # pytest's status 5: the arguments select no test with this marker.
  "${pytest[@]}" -m "$marker$speed" "$@" || { ended=$?; [ "$ended" -eq 5 ] || status=$ended; }
done
exit "$status"
