#!/usr/bin/env bash
# The driver of a sweep as a small job of SLURM's own, for where a login node may not run for long:
#
#   sbatch --partition=cpu --time=2-00:00:00 scripts/slurm.sh run configs/mine.py [--FIELD VALUE ...]
#
# The config's engine is Slurm(...); what trains are the arrays that this job queues. It may be cancelled, time out or
# be queued again: the arrays go on, and the next driver finds them. `mixscale status DIR` shows how far they are.
#SBATCH --job-name=mixscale-driver
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
# SLURM runs a copy of this file, so the project is where the job was queued.
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
if [ ! -x .venv/bin/mixscale ]; then
  echo "error: no .venv/bin/mixscale in $PWD; queue this from the project's root, after scripts/setup.sh '[slurm]'" >&2
  exit 1
fi
# The driver trains nothing itself and must not take a device from those that do.
export JAX_PLATFORMS=cpu
exec .venv/bin/mixscale "$@"
