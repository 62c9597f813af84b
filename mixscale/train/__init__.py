"""Trains one run, or the rest of it, and measures it on held-out text; knows nothing of sweeps and of laws."""

from mixscale.train.loop import Progress, train_run
from mixscale.train.run import Run
from mixscale.train.trainer import Trainer

__all__ = ["Progress", "Run", "Trainer", "train_run"]
