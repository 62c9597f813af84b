"""Run tables from what other tools write: RegMix, olmix, Weights & Biases, TensorBoard, or any wide table.

Every format is a function in `IMPORTERS`, for `mixscale import FORMAT`. `columns` finds columns by name, never by
position. `RunTable.notes` lists what was changed or left out.
"""

from mixscale.interop.importers.columns import Columns
from mixscale.interop.importers.tables import IMPORTERS, csv, olmix, regmix
from mixscale.interop.importers.tensorboard import tensorboard
from mixscale.interop.importers.wandb import wandb

__all__ = ["IMPORTERS", "Columns", "csv", "olmix", "regmix", "tensorboard", "wandb"]
