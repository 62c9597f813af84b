"""The small statistics a report rests on: intervals of a mean, pooled noise, rank correlation.

Plain functions of arrays; nothing here knows of tables, laws or mixtures. Where there is too little data for a
number the answer is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.9
"""Confidence level of every interval that the report gives."""


@dataclass(frozen=True)
class Noise:
    """Standard deviation (nats a token for losses) between runs that differ in their seed only."""

    sd: float
    degrees_of_freedom: int


def pooled_noise(groups: Iterable[np.ndarray]) -> Noise | None:
    """Standard deviation within `groups`, each the values of one mixture's seeds, pooled over those of two or more."""
    useful = [np.asarray(g, float) for g in groups if len(g) > 1]
    degrees = sum(len(g) - 1 for g in useful)
    if not degrees:
        return None
    squares = sum(float(((g - g.mean()) ** 2).sum()) for g in useful)
    return Noise(float(np.sqrt(squares / degrees)), degrees)


def standard_error(values: np.ndarray) -> float | None:
    """Standard error of the mean of `values`; None for fewer than two."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def mean_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
    """Student's interval of the mean of `values`; None for fewer than two."""
    error = standard_error(values)
    if error is None:
        return None
    reach = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * error
    return float(np.mean(values)) - reach, float(np.mean(values)) + reach


def known_noise_interval(
    mean: float, count_a: int, count_b: int, noise: Noise, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of a difference of two means over `count_a` and `count_b` unpaired runs, from a noise known before."""
    reach = float(stats.t.ppf(0.5 + level / 2, noise.degrees_of_freedom))
    reach *= noise.sd * np.sqrt(1 / count_a + 1 / count_b)
    return mean - reach, mean + reach


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation; None for fewer than three points or where one side does not vary."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(stats.spearmanr(a, b).statistic)


def mean_absolute_error(a: np.ndarray, b: np.ndarray) -> float | None:
    return float(np.abs(np.asarray(a) - np.asarray(b)).mean()) if len(a) else None
