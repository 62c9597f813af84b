"""`Run`: everything that determines one run's numbers, and the id that hashes it.

The purpose of a run (its role, the origin of its mixture) is not part of it, so that one run can serve several.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mixscale.config import Model, Optimizer, Train, content_hash
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant, Schedule
from mixscale.training.tasks import LanguageModelling, Task

# Of `Run.config`. Raise it with every change that gives equal configs other numbers; old runs then keep their ids.
FORMAT = 1


@dataclass(frozen=True)
class Run:
    """One proxy to train.

    Raises:
        InputError: `train.measure_at` together with a schedule that is not constant.
    """

    schedule: Schedule
    size: str  # name of the model's shape in the experiment
    model: Model
    optimizer: Optimizer
    train: Train
    seed: int  # of the weights and of the order of the rows
    store: str  # id of the token store
    task: Task = LanguageModelling()

    def __post_init__(self) -> None:
        if self.train.measure_at and not isinstance(self.schedule, Constant):
            raise InputError(
                f"train.measure_at {self.train.measure_at} with a staged schedule: its stages are shares of all "
                f"{self.train.tokens} tokens, so an earlier measurement would be of another schedule; "
                "remove train.measure_at, or train the schedule once for each number of tokens"
            )

    @property
    def mixture(self) -> Mixture:
        """Of the whole run: of a staged schedule, the mean weighted by tokens."""
        return self.schedule.mixture

    @cached_property
    def config(self) -> dict[str, object]:
        """JSON-ready; equal configs are equal runs."""
        return {
            "format": FORMAT,
            "task": self.task.name,
            "schedule": self.schedule.config,
            "model": self.model,
            "optimizer": self.optimizer,
            # A parent is identified by its id, not by the place of its folder.
            "train": replace(self.train, parent=Path(self.train.parent).name),
            "seed": self.seed,
            "store": self.store,
        }

    @cached_property
    def id(self) -> str:
        return content_hash(self.config)
