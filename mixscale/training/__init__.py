"""Trains one run, or the rest of it, and measures it on held-out text; knows nothing of sweeps and of laws."""

from mixscale.training.loop import train_population, train_run
from mixscale.training.member import Progress
from mixscale.training.run import Run
from mixscale.training.trainer import Trainer, shape_of

__all__ = ["Progress", "Run", "Trainer", "shape_of", "train_population", "train_run"]
