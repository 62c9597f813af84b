#!/usr/bin/env bash
# Checks style and runs the tests; --all adds the slow ones. Other arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
make_venv "[dev]"
chosen=(-m "not slow")
if [ "${1:-}" = "--all" ]; then
  chosen=()
  shift
fi
code=(mixscale configs analysis tests scripts)
"$venv/bin/ruff" check "${code[@]}"
"$venv/bin/ruff" format --check "${code[@]}"
exec "$venv/bin/python" -m pytest "${chosen[@]}" "$@"
