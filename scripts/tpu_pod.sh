#!/usr/bin/env bash
# The same command on every host of a TPU pod slice, which together train each run:
#
#   bash scripts/tpu_pod.sh NAME ZONE configs/verify_1b_tpu.py [--FIELD VALUE ...]
#
# NAME is a slice that exists (`gcloud compute tpus tpu-vm create`). Every host needs the project at the same path
# (PROJECT, ~/mixscale where it is not set) and an output folder that all hosts share, such as a Filestore mount.
# Stop it and start it again at any moment; a slice that was preempted goes on from its checkpoints.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,8p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
name=$1 zone=$2
shift 2
project=${PROJECT:-'$HOME/mixscale'}
# Quoted once more, because a shell on the hosts reads it.
arguments=$(printf ' %q' "$@")
exec gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="
  cd $project && source scripts/setup.sh && PYTHON=python3 make_venv '[tpu]' &&
  exec \$venv/bin/mixscale sweep $arguments --machine.hosts.coordinator auto"
