"""`Aim`: the number that runs and mixtures are compared by, which is the objective that the optimum was solved for.

Everything is computed by `optimum.problem` (`Problem.observed`, `Problem.predicted`) and its `BoundObjective`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixscale.laws import LawFit
from mixscale.optimization import Optimum
from mixscale.report.statistics import LEVEL


@dataclass(frozen=True)
class Aim:
    """The objective of `optimum`, which has its problem, for losses that were measured or predicted."""

    fit: LawFit
    optimum: Optimum

    @property
    def weight_T(self) -> np.ndarray:
        return self.optimum.problem.objective.weight_T

    @property
    def sign_T(self) -> np.ndarray:
        return self.optimum.problem.objective.sign_T

    @property
    def weighted(self) -> bool:
        return self.optimum.problem.objective.weighted

    @property
    def plain(self) -> bool:
        return self.optimum.problem.objective.plain

    @property
    def name(self) -> str:
        return self.optimum.problem.objective.name

    def observed(self, y_QxT: np.ndarray, **scale) -> np.ndarray:
        return self.optimum.problem.observed(y_QxT, **scale)

    def predicted(self, h_QxK: np.ndarray, **scale) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.optimum.problem.predicted(h_QxK, LEVEL, **scale)


def plain_name(losses: bool) -> str:
    """What the mean over targets that all count the same is called."""
    return "mean loss" if losses else "mean objective (scores negated)"
