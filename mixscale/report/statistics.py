"""The statistics of a report, of plain arrays: seed noise, t intervals, and intervals for runs with new seeds.

They are None if there is too little data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from mixscale.laws.uncertainty import LEVEL

UNKNOWN = -1.0  # seed of runs without one; further ones count down from it


@dataclass(frozen=True)
class Noise:
    """Spread of runs that differ only in their seed, in the unit of the values."""

    sd: float  # standard deviation of one run
    degrees_of_freedom: int
    paired_sd: float | None
    """of the difference of two mixtures with one seed: the seed's effect on all mixtures cancels; else √2 `sd`"""
    paired_degrees_of_freedom: int

    @property
    def shared_variance(self) -> float:
        """Variance of a seed's effect on all mixtures; all of the noise if no two mixtures shared a seed."""
        return max(self.sd**2 - (self.paired_sd or 0.0) ** 2 / 2, 0.0)


class Residual(NamedTuple):
    """Variance of a run that neither mixture nor seed explains, in an additive layout of the two."""

    variance: float
    degrees_of_freedom: int

    def standard_error(self, seeds: int) -> float:
        """Of the mean difference of two mixtures that were both trained with so many seeds."""
        return float(np.sqrt(2 * self.variance / seeds))


def pooled_noise(values_R: np.ndarray, mixture_R: np.ndarray, seed_R: np.ndarray) -> Noise | None:
    """Seed noise pooled over the mixtures with several seeds; `values_R`: one value per mixture and seed."""
    values_R, (_, mixture_R) = np.asarray(values_R, float), np.unique(mixture_R, return_inverse=True)
    count_M = np.bincount(mixture_R)
    degrees = int((count_M - 1).sum())
    if not degrees:
        return None
    mean_M = np.bincount(mixture_R, values_R) / count_M
    sd = float(np.sqrt(((values_R - mean_M[mixture_R]) ** 2).sum() / degrees))
    left = residual(values_R, mixture_R, seed_R)
    return Noise(sd, degrees, left and left.standard_error(1), left.degrees_of_freedom if left else 0)


def residual(values_R: np.ndarray, mixture_R: np.ndarray, seed_R: np.ndarray) -> Residual | None:
    """Residual of the values after an effect of each mixture and one of each seed, by least squares.

    For M mixtures trained with the same S seeds it is the mean square error of the two-way analysis of variance, with
    (M - 1)(S - 1) degrees of freedom; None if no degree is left.
    """
    _, first_R, count_M = np.unique(mixture_R, return_inverse=True, return_counts=True)
    again_R = count_M[first_R] > 1  # a mixture with one run is explained by itself
    if not again_R.any():
        return None
    values_R = np.asarray(values_R, float)[again_R]
    values_R = values_R - values_R.mean()
    labels = (np.asarray(column)[again_R] for column in (mixture_R, seed_R))
    design_RxE = np.concatenate([label_R[:, None] == np.unique(label_R) for label_R in labels], axis=1).astype(float)
    effect_E, _, rank, _ = np.linalg.lstsq(design_RxE, values_R)
    degrees = len(values_R) - int(rank)
    if not degrees:
        return None
    return Residual(float(((values_R - design_RxE @ effect_E) ** 2).sum() / degrees), degrees)


def t_interval(mean: float, error: float, degrees: int, level: float = LEVEL) -> tuple[float, float]:
    """Student's t interval of a mean from its standard error."""
    reach = float(stats.t.ppf(0.5 + level / 2, degrees)) * float(error)
    return mean - reach, mean + reach


@dataclass(frozen=True)
class NewSeeds:
    """Intervals of a law for runs with seeds that it was not fitted to, and for means over several runs.

    Let A be the variance of a seed's effect on all mixtures, and E that of its effect on one mixture. Besides the
    law's own uncertainty, a mean over n new seeds differs from a law fitted to m others by `(A + E) / n + A / m`. The
    law's interval contains `A (1 - 1 / m) + E`, the difference of a left-out run. That part is subtracted, at the
    normal quantile, and the other added, at Student's, for coverage if A and E come from few runs. For arbitrary
    seeds, `1 / n + 1 / m` is the sum over seeds of the squared difference of their shares in the mean and in the
    fitted runs, and `1 / m` that of the squared shares in the fitted runs. Without known noise nothing changes.
    """

    noise: Noise | None
    fitted: dict[float, int]  # number of fitted runs by seed

    def knows(self, seed_S) -> bool:
        """Whether the law was fitted to all of these seeds, at most one of them unknown."""
        seed_S = np.asarray(seed_S, float)
        return len(seed_S) > 0 and (seed_S < 0).sum() < 2 and bool(self._fitted(seed_S).all())

    def of_run(self, value, low, high) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval of a run with a new seed, from those of the law."""
        return self._ends(1, np.zeros(0), value, low, high)

    def of_mean(self, seed_S, value, low, high) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval of a mean over these seeds, from those of the law."""
        seed_S = np.asarray(seed_S, float)
        if len(seed_S) == 1 and self.knows(seed_S):
            return low, high
        return self._ends(len(seed_S), seed_S[(seed_S >= 0) & self._fitted(seed_S)], value, low, high)

    def of_rows(self, seed_R, value_R, low_R, high_R) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval of each run, from those of the law, which are right for a fitted seed."""
        known_R = self._fitted(np.asarray(seed_R, float))
        ends = zip((low_R, high_R), self.of_run(value_R, low_R, high_R), strict=True)
        return tuple(np.where(known_R, own, other) for own, other in ends)  # type: ignore

    def _fitted(self, seed_S: np.ndarray) -> np.ndarray:
        return np.isin(np.where(seed_S < 0, UNKNOWN, seed_S), list(self.fitted))

    def _ends(self, count: int, known_S: np.ndarray, value, low, high) -> tuple[np.ndarray, np.ndarray]:
        """For a mean over `count` seeds, of which `known_S` were fitted."""
        if self.noise is None or not self.noise.sd:
            return low, high
        shared, own = self.noise.shared_variance, self.noise.sd**2 - self.noise.shared_variance
        total = max(sum(self.fitted.values()), 1)
        shares = {seed: runs / total for seed, runs in self.fitted.items()}
        squares = sum(share**2 for share in shares.values())
        difference = 1 / count + squares - 2 / count * sum(shares[seed] for seed in known_S)
        contained = stats.norm.ppf(0.5 + LEVEL / 2) ** 2 * (shared * (1 - squares) + own)
        reach = stats.t.ppf(0.5 + LEVEL / 2, self.noise.degrees_of_freedom) ** 2
        added = reach * (shared * difference + own / count)
        below, above = (np.sqrt(np.maximum(side**2 - contained, 0.0) + added) for side in (value - low, high - value))
        return value - below, value + above
