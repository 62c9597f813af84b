"""Who trains a plan's runs: this machine, SLURM or Ray. Each engine is a function of the same four arguments.

Whatever the engine, workers share nothing but the experiment's folder: they take runs by claims, and what has ended
is what has rows there. So engines may be changed, joined or killed at any moment.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mixscale.config import Experiment
from mixscale.errors import Unfinished
from mixscale.sweeps import failures
from mixscale.sweeps.directory import ended, run_directory

if TYPE_CHECKING:
    from mixscale.sweeps.plan import Planned
    from mixscale.sweeps.progress import SweepProgress

Train = Callable[[Experiment, Path, list["Planned"], "SweepProgress"], None]


def train_all(experiment: Experiment, store_path: Path, planned: list[Planned]) -> None:
    """Trains every planned run that has not ended, with progress; returns when all have.

    Runs that failed before are tried again.

    Raises:
        InputError: a run's configuration cannot be trained as it stands.
        Unfinished: a worker was killed, or another process is training some of the runs; what was trained is kept.
        RuntimeError: a worker failed, with its stack trace.
    """
    from mixscale.sweeps.progress import SweepProgress

    directory = experiment.directory
    left = _left(experiment, planned)
    if not left:
        return
    for item in left:
        failures.forgive(run_directory(directory, item.run.id))
    train: Train = import_module(f"mixscale.sweeps.launchers.{type(experiment.launcher).__name__.lower()}").train
    with SweepProgress(planned, left, experiment.objective.weights) as progress:
        train(experiment, store_path, left, progress)
    missing = _left(experiment, left)
    if missing:
        raise Unfinished(
            f"{len(missing)} runs are being trained by another process (`mixscale status {directory}`); start again "
            "when it is done"
        )


def _left(experiment: Experiment, planned: list[Planned]) -> list[Planned]:
    """Those that have not ended. Where hosts train together, process 0 says which: others see its disk late."""
    left = [not ended(experiment.directory, p.run.id) for p in planned]
    if experiment.machine.hosts.coordinator:
        from mixscale.training import hosts

        hosts.join(experiment.machine.hosts)
        left = hosts.alike(np.array(left, bool))
    return [p for p, is_left in zip(planned, left, strict=True) if is_left]
