"""The small statistics a report rests on: intervals of a difference, pooled noise, rank correlation.

Plain functions of arrays; nothing here knows of tables, laws or mixtures. Where there is too little data for a
number the answer is None, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mixscale.optimization.result import LEVEL

__all__ = [
    "LEVEL",
    "Noise",
    "Residual",
    "difference_interval",
    "known_noise_interval",
    "mean_absolute_error",
    "pooled_noise",
    "residual",
    "spearman",
    "standard_error",
]


@dataclass(frozen=True)
class Noise:
    """How far runs of one mixture lie apart that differ in their seed only (nats a token for losses)."""

    sd: float
    """standard deviation of one run, with all that its seed does"""
    degrees_of_freedom: int
    paired_sd: float | None
    """standard deviation of the difference of two mixtures trained with one seed: what the seed does to all mixtures
    alike is gone from it. Were there nothing alike, it would be √2 `sd`."""
    paired_degrees_of_freedom: int

    @property
    def shared_variance(self) -> float:
        """Variance of what a seed does to all mixtures alike; all of the noise where no two mixtures shared a seed."""
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


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation; None for fewer than three points or where one side does not vary."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(stats.spearmanr(a, b).statistic)


def mean_absolute_error(a: np.ndarray, b: np.ndarray) -> float | None:
    return float(np.abs(np.asarray(a) - np.asarray(b)).mean()) if len(a) else None


def _indicators(labels_R: np.ndarray) -> np.ndarray:
    """One column for each label, 1 in its rows, (R, labels)."""
    return (labels_R[:, None] == np.unique(labels_R)).astype(float)
