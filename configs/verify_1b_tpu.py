"""The same verification on a TPU pod slice: weights spread over 16 chips, the batch over all groups of 16.

Every host of the slice runs the same command (scripts/tpu_pod.sh starts them):

    mixscale sweep configs/verify_1b_tpu.py
"""

import runpy
from dataclasses import replace
from pathlib import Path

from mixscale.config import Experiment, Hosts, Mesh

on_eight: Experiment = runpy.run_path(str(Path(__file__).with_name("verify_1b.py")))["experiment"]

experiment = replace(
    on_eight,
    name="verify_1b_tpu",
    machine=replace(on_eight.machine, mesh=Mesh(data=-1, fsdp=16), hosts=Hosts(coordinator="auto")),
)
