"""Whether a law distinguishes mixtures: its held-out predictions of an objective against the mean of other mixtures.

This alone decides whether an optimum can be trusted. It sees numbers of rows, not laws: an objective as measured, its
held-out predictions, and which rows can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from scipy.stats import rankdata

MIN_MIXTURES = 5  # fewest held-out mixtures that can support a law
# Standard errors by which a law's squared error must be below that of the mean. Of simulated tables without an effect
# it passes about 1 of 60 with 20 to 40 mixtures and 1 of 20 with 8 to 12 where 'auto' chose the law among several, and
# 1 of 100 with 12 mixtures where the law was named ('linear').
SIGNIFICANCE = 1.65
MIN_COUNT = 1e-6  # least weight of a mixture in the mean of the others; less would be lost in rounding
ROUNDING = 1e-12  # differences below this share of the objective, or below it itself, are rounding


@dataclass(frozen=True)
class Skill:
    """How well a law predicts the differences between held-out mixtures in an objective.

    Measures are NaN if nothing can be compared; r2, its standard error and rho also if the objective is constant.
    """

    mixtures: int  # number of held-out mixtures that can be compared
    domains: int
    r2: float = math.nan  # share of their variance that the law explains; zero for a law no better than the mean
    r2_standard_error: float = math.nan
    rho: float = math.nan  # rank correlation
    error: float = math.nan  # mean absolute error
    mean_error: float = math.nan  # that of the mean of the others
    uses_mixture: bool = True  # whether the law uses the mixture at all

    @classmethod
    def of(cls, y_R, oof_pred_R, level_R, group_R, count_R, domains: int) -> Skill:
        """From an objective of R rows and its predictions by a law without their mixture.

        Only differences within a level count: an error that all mixtures share does not change which one is best, and
        what size and tokens explain does not help to choose a mixture.

        Args:
            level_R: number, from 0, of the size and token count. group_R: number of the mixture. count_R: weight of
                the mixture (`cross_validation.hull_weights`).
        """
        cell_C, of_R = np.unique(np.column_stack([level_R, group_R]), axis=0, return_inverse=True)
        of_R, (level_C, group_C) = of_R.reshape(-1), cell_C.T
        y_C, oof_C, count_C = (np.bincount(of_R, x_R) / np.bincount(of_R) for x_R in (y_R, oof_pred_R, count_R))
        compared_C = np.bincount(level_C)[level_C] > 1
        y_C, oof_C, count_C, level_C, group_C = (x_C[compared_C] for x_C in (y_C, oof_C, count_C, level_C, group_C))
        mixtures, group_C = np.unique(group_C, return_inverse=True)
        if not len(mixtures):
            return cls(0, domains)
        rounding = ROUNDING * max(1.0, float(np.abs(y_C).max()))
        y_C, oof_C = (_minus_others(x_C, level_C, count_C) for x_C in (y_C, oof_C))
        error_C = oof_C - y_C
        # A mixture with many checkpoints is one mixture: it counts by their mean.
        share_C = 1 / np.bincount(group_C)[group_C]
        count_C = count_C * share_C
        error, mean_error = (float(np.average(np.abs(x_C), weights=count_C)) for x_C in (error_C, y_C))
        if mean_error <= rounding:
            return cls(len(mixtures), domains, error=error, mean_error=mean_error)
        square_G, square_error_G = (np.bincount(group_C, count_C * x_C**2) for x_C in (y_C, error_C))
        whole, count = float(square_G.sum()), len(square_G)
        ratio = float(square_error_G.sum()) / whole
        variance = count / (count - 1) * ((square_error_G - ratio * square_G) ** 2).sum()
        r2, standard_error = 1 - ratio, float(np.sqrt(variance) / whole)
        rho = _correlation(rankdata(oof_C), rankdata(y_C), share_C)
        return cls(len(mixtures), domains, r2, standard_error, rho, error, mean_error)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, None for NaN, and `supported` and `description`."""
        known = {name: None if value != value else value for name, value in asdict(self).items()}
        return known | {"supported": self.supported, "description": self.warning or self.describe()}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Skill:
        """The skill that `to_json` wrote."""
        known = {f.name: written[f.name] for f in fields(cls) if f.name in written}
        return cls(**{name: math.nan if value is None else value for name, value in known.items()})

    @property
    def supported(self) -> bool:
        """Whether the law supports the choice of a mixture."""
        return self.mixtures >= MIN_MIXTURES and self.r2 > SIGNIFICANCE * self.r2_standard_error

    @property
    def mixtures_to_add(self) -> int:
        """Number of mixtures to train before the next fit: up to 3 (K + 1) in all, or as many again."""
        missing = 3 * (self.domains + 1) - self.mixtures
        return missing if missing > 0 else self.mixtures

    def describe(self) -> str:
        """The result as a clause."""
        if not self.uses_mixture:
            return "the law does not use the mixture"
        if self.mixtures < MIN_MIXTURES:
            return f"only {self.mixtures} mixtures could be held out to test the law, and {MIN_MIXTURES} are needed"
        if math.isnan(self.r2):
            return f"the objective is the same for the {self.mixtures} mixtures held out to test the law"
        tested = f"on {self.mixtures} left-out mixtures (cross-validation)"
        text = f"{tested} the law ranks the objective with correlation {self.rho:.2f} and"
        if self.supported:
            return f"{text} explains {self.r2:.0%} ± {self.r2_standard_error:.0%} of its variance"
        error = f"its error, {self.error:.3g}, is not significantly below {self.mean_error:.3g}, that of their mean"
        return f"{text} {error}"

    @property
    def warning(self) -> str | None:
        """Why the law supports no choice of a mixture, and the remedy; None if it does."""
        if self.supported:
            return None
        remedy = f"train {self.mixtures_to_add} more mixtures" if self.uses_mixture else "fit a law that uses it"
        return f"{self.describe()}: do not act on this; {remedy}"


def _minus_others(x_C: np.ndarray, level_C: np.ndarray, count_C: np.ndarray) -> np.ndarray:
    """Each value minus the weighted mean of the others at its level."""
    at_C = np.unique(level_C, return_inverse=True)[1].reshape(-1)
    count_C = np.maximum(count_C, MIN_COUNT)
    whole_C, sum_C = np.bincount(at_C, count_C)[at_C], np.bincount(at_C, count_C * x_C)[at_C]
    return x_C - (sum_C - count_C * x_C) / (whole_C - count_C)


def _correlation(x_C: np.ndarray, y_C: np.ndarray, share_C: np.ndarray) -> float:
    if not (np.ptp(x_C) > 0 and np.ptp(y_C) > 0):
        return 0.0
    (x, both), (_, y) = np.cov(x_C, y_C, aweights=share_C, ddof=0)
    return float(both / np.sqrt(x * y))
