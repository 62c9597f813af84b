#!/usr/bin/env bash
# From the text that ships with mixscale to a verified mixture and a page: about a quarter of an hour on two cores.
# Stop it and start it again at any moment. Arguments are passed on, for example --train.tokens 1000000.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
make_venv "[train]"
exec "$venv/bin/mixscale" run configs/quickstart.py "$@"
