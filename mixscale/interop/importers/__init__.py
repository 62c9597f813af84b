"""Run tables from what other tools write: RegMix, olmix, Weights & Biases, TensorBoard, or any wide table.

`columns` gives the columns of a foreign table their names in a run table; every format is a function in `IMPORTERS`,
with the options and the help of `mixscale import FORMAT`. Columns are found by name, never by position; what was
changed or left out is in `RunTable.notes`. This package knows nothing of training or of laws.
"""

from mixscale.interop.importers.columns import Columns
from mixscale.interop.importers.tables import IMPORTERS, csv, olmix, regmix, wandb
from mixscale.interop.importers.tensorboard import tensorboard

__all__ = ["IMPORTERS", "Columns", "csv", "olmix", "regmix", "tensorboard", "wandb"]
