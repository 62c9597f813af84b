"""Run tables from what other tools write: RegMix, olmix, Weights & Biases, TensorBoard, or any wide CSV file.

`columns` gives a foreign table's columns the names of a run table, `formats` holds one function a format, `command`
is `mixscale import`. Columns are found by name, never by position; what was changed or left out is told in
`RunTable.notes`. The room knows nothing of training or of laws.
"""

from mixscale.interop.importers.columns import Columns
from mixscale.interop.importers.formats import csv, olmix, regmix, wandb
from mixscale.interop.importers.logs import tensorboard

__all__ = ["Columns", "csv", "olmix", "regmix", "tensorboard", "wandb"]
