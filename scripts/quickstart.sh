#!/usr/bin/env bash
# From the text that ships with mixscale to a verified mixture and a page: about ten minutes on two cores.
# You can kill it at any time; rerun it and it resumes. Arguments are passed on, for example --train.tokens 1000000.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
make_venv "[train]"
exec "$venv/bin/mixscale" run configs/quickstart.py "$@"
