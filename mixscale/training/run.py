"""`Run`: everything that determines one run's numbers, and its content-hash id.

What a run is for (its role, which draw its mixture came from) is not part of it, so that one run can serve several
purposes and is trained once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mixscale.config import Model, Optimizer, Train, content_hash
from mixscale.mixture import Mixture


@dataclass(frozen=True)
class Run:
    """One proxy to train."""

    mixture: Mixture
    size: str
    """name of the model's shape in the experiment"""
    model: Model
    optimizer: Optimizer
    train: Train
    seed: int
    """of the weights and of the order of the rows"""
    store: str
    """id of the token store"""

    @cached_property
    def config(self) -> dict[str, object]:
        """JSON-ready; equal configs are equal runs. Domains are sorted: their order means nothing."""
        return {
            "mixture": {d: float(w) for d, w in sorted(self.mixture.items())},
            "model": self.model,
            "optimizer": self.optimizer,
            # A parent is known by its own id, wherever its folder lies.
            "train": replace(self.train, parent=Path(self.train.parent).name),
            "seed": self.seed,
            "store": self.store,
        }

    @cached_property
    def id(self) -> str:
        return content_hash(self.config)
