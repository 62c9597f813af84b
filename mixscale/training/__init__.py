"""Trains runs and measures them on held-out rows; knows nothing of sweeps and of laws."""

from mixscale.training.loop import Progress, train_population, train_run
from mixscale.training.run import Run
from mixscale.training.trainer import Trainer, shape_of

__all__ = ["Progress", "Run", "Trainer", "shape_of", "train_population", "train_run"]
