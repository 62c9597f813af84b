"""The statistics of a report: seed noise, intervals of a difference, and intervals for runs with new seeds.

Functions of plain arrays; nothing here knows of tables or laws. They return None where there is too little data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mixscale.laws.uncertainty import LEVEL

UNKNOWN = -1.0
"""Seed of runs without one; further ones count down from it."""


@dataclass(frozen=True)
class Noise:
    """How far runs of one mixture lie apart that differ in their seed only, in the unit of the values."""

    sd: float
    """standard deviation of one run"""
    degrees_of_freedom: int
    paired_sd: float | None
    """standard deviation of the difference of two mixtures trained with one seed, in which the seed's effect common to
    all mixtures cancels; √2 `sd` if there is no common effect"""
    paired_degrees_of_freedom: int

    @property
    def shared_variance(self) -> float:
        """Variance of a seed's effect common to all mixtures; all of the noise where no two mixtures shared a seed."""
        return max(self.sd**2 - (self.paired_sd or 0.0) ** 2 / 2, 0.0)


@dataclass(frozen=True)
class Residual:
    """Variance of one run that neither its mixture nor its seed explains, in an additive layout of the two."""

    variance: float
    degrees_of_freedom: int


def pooled_noise(values_R: np.ndarray, mixture_R: np.ndarray, seed_R: np.ndarray) -> Noise | None:
    """Seed noise pooled over the mixtures that were trained with two seeds or more; None where none was.

    Args:
        values_R: one value for each pair of mixture and seed.
    """
    values_R, (_, mixture_R) = np.asarray(values_R, float), np.unique(mixture_R, return_inverse=True)
    count_M = np.bincount(mixture_R)
    degrees = int((count_M - 1).sum())
    if not degrees:
        return None
    mean_M = np.bincount(mixture_R, values_R) / count_M
    sd = float(np.sqrt(((values_R - mean_M[mixture_R]) ** 2).sum() / degrees))
    left = residual(values_R, mixture_R, seed_R)
    if left is None:
        return Noise(sd, degrees, None, 0)
    return Noise(sd, degrees, float(np.sqrt(2 * left.variance)), left.degrees_of_freedom)


def residual(values_R: np.ndarray, mixture_R: np.ndarray, seed_R: np.ndarray) -> Residual | None:
    """What is left of the values after an effect of each mixture and one of each seed, by least squares.

    With M mixtures that were all trained with the same S seeds this is the mean square error of the two-way analysis
    of variance, with (M - 1)(S - 1) degrees of freedom; None where no degree is left.
    """
    _, first_R, count_M = np.unique(mixture_R, return_inverse=True, return_counts=True)
    again_R = count_M[first_R] > 1  # a mixture with one run is explained by itself
    if not again_R.any():
        return None
    values_R = np.asarray(values_R, float)[again_R]
    values_R = values_R - values_R.mean()
    design_RxE = np.concatenate([_indicators(np.asarray(c)[again_R]) for c in (mixture_R, seed_R)], axis=1)
    effect_E, _, rank, _ = np.linalg.lstsq(design_RxE, values_R)
    degrees = len(values_R) - int(rank)
    if not degrees:
        return None
    return Residual(float(((values_R - design_RxE @ effect_E) ** 2).sum() / degrees), degrees)


def difference_interval(mean: float, seeds: int, left: Residual, level: float = LEVEL) -> tuple[float, float]:
    """Interval of the mean over `seeds` of the difference of two mixtures that were both trained with each of them.

    Student's t with the degrees of freedom of `left` and the standard error sqrt(2 · variance / seeds). It takes the
    variance to be the same for all mixtures; with two mixtures it is the paired t interval.
    """
    reach = float(stats.t.ppf(0.5 + level / 2, left.degrees_of_freedom)) * float(np.sqrt(2 * left.variance / seeds))
    return mean - reach, mean + reach


def known_noise_interval(
    mean: float, count_a: int, count_b: int, noise: Noise, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of a difference of two means over `count_a` and `count_b` unpaired runs, from a noise known before."""
    reach = float(stats.t.ppf(0.5 + level / 2, noise.degrees_of_freedom))
    reach *= noise.sd * np.sqrt(1 / count_a + 1 / count_b)
    return mean - reach, mean + reach


def standard_error(values: np.ndarray) -> float | None:
    """Standard error of the mean of `values`; None for fewer than two."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def _indicators(labels_R: np.ndarray) -> np.ndarray:
    """One column for each label, 1 in its rows, (R, labels)."""
    return (labels_R[:, None] == np.unique(labels_R)).astype(float)


@dataclass(frozen=True)
class NewSeeds:
    """Intervals of a law for runs whose seeds it was not fitted to, and for means over several runs.

    Let A be the variance of a seed's effect that all mixtures share, and E that of its effect on one mixture alone. A
    mean over n new seeds differs from a law fitted to m others by `(A + E) / n + A / m`, besides the law's own
    uncertainty. The law's interval holds `A (1 - 1 / m) + E` instead: that is by how much a left-out run differs from
    the law. So that part is subtracted, at the normal quantile, and the other added, at Student's, which keeps the
    coverage where A and E are estimated from few runs. For arbitrary seeds, `1 / n + 1 / m` becomes the sum over seeds
    of the squared difference of their shares in the mean and in the fitted runs, and `1 / m` that of the squared
    shares in the fitted runs. Without a known noise, intervals are left as they are.
    """

    noise: Noise | None
    fitted: dict[float, int]
    """number of fitted runs by seed"""

    def knows(self, seed_S) -> bool:
        """Whether the law was fitted to all of these seeds; False for several unknown ones."""
        seed_S = np.asarray(seed_S, float)
        return len(seed_S) > 0 and (seed_S < 0).sum() < 2 and bool(self._fitted(seed_S).all())

    def of_run(self, value, low, high) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval of a run with a new seed, from those of the law; arrays of one shape."""
        return self._ends(1, np.zeros(0), value, low, high)

    def of_mean(self, seed_S, value, low, high) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval of a mean over these seeds, from those of the law; arrays of one shape."""
        seed_S = np.asarray(seed_S, float)
        if len(seed_S) == 1 and self.knows(seed_S):
            return low, high
        return self._ends(len(seed_S), seed_S[(seed_S >= 0) & self._fitted(seed_S)], value, low, high)

    def of_rows(self, seed_R, value_R, low_R, high_R) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval of each run, from those of the law, which stay as they are for a fitted seed."""
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
        alike = sum(share**2 for share in shares.values())
        apart = 1 / count + alike - 2 / count * sum(shares[seed] for seed in known_S)
        held = stats.norm.ppf(0.5 + LEVEL / 2) ** 2 * (shared * (1 - alike) + own)
        reach = stats.t.ppf(0.5 + LEVEL / 2, self.noise.degrees_of_freedom) ** 2
        comes = reach * (shared * apart + own / count)
        below, above = (np.sqrt(np.maximum(side**2 - held, 0.0) + comes) for side in (value - low, high - value))
        return value - below, value + above
