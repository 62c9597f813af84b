"""From the spread of a fit's draws to the half width of an interval that holds a new run, by runs left out.

Knows residuals, spreads and distances of rows, for one target or any weighted sum; nothing of laws or tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from mixscale.errors import InputError

LEVEL = 0.9
"""Of every interval, where nothing else is asked for."""
WIDTH, ALIKE, GRID = 0.5, 20, 41
"""Kernel over the log of the spread, in which at least so many mixtures count, and points at which it is computed."""
ROBUST = 1.4826
"""Standard deviation of a normal variable over the median of its size."""
FEW = 5
"""Degrees of freedom that the residuals' own spread is worth beside those of replicates."""


@dataclass(frozen=True)
class Calibration:
    """Turns the spread of the draws at a point into the half width of an interval for a new run there.

    Normalized conformal with left-out residuals (Papadopoulos 2008), localised (Guan 2023). The residual of each row,
    predicted without its mixture, is divided by the spread expected there: a run's noise, relative to the loss, and
    the spread of draws that lack the mixture as well. A vertex, left out, is an extrapolation and is expected to miss
    by much, so it does not widen the interval of an inner mixture. What the draws do not know of (a law that bends
    the wrong way) grows with the extrapolation too, so the quantile of the ratios counts rows by how like their reach
    is to that of the point asked for.
    """

    noise: float
    """spread of a run about the law, relative to the loss"""
    seed: float
    """standard deviation that a new seed alone makes, relative to the loss; 0 where it is not known"""
    ratio_R: np.ndarray
    """|left-out residual| over expected spread, ascending"""
    reach_R: np.ndarray
    """log of the expected spread over the noise in the same order: 0 where the other rows leave no doubt"""
    mates: float
    """rows a mixture; a new mixture weighs as much"""

    @classmethod
    def of(cls, inside_R, outside_R, apart_VxR, size_R, group_R, missed_R=0.0, seed=None) -> Calibration:
        """From fitted and left-out residuals, left-out draws and fitted losses of the same rows.

        Rows that were never left out (NaN) say nothing.

        Args:
            missed_R: what the law is expected to miss of each row because it lies beyond those that its fold kept.
            seed: variance of a run's loss over its size squared, by replicates, and its degrees of freedom.
        """
        known_R = np.isfinite(outside_R)
        missed_R = np.broadcast_to(missed_R, known_R.shape)
        inside_R, outside_R, size_R, group_R, missed_R = (
            x[known_R] for x in (inside_R, outside_R, size_R, group_R, missed_R)
        )
        noise = about(inside_R, outside_R, size_R)
        of_seed = seed_spread(noise, seed)
        noise = max(noise, of_seed)
        spread_R = np.hypot(expected(apart_VxR[:, known_R], noise, size_R), missed_R)
        ratio_R = np.abs(outside_R) / spread_R
        order_R = np.argsort(ratio_R, kind="stable")
        reach_R = np.log(spread_R / (noise * size_R))
        return cls(noise, of_seed, ratio_R[order_R], reach_R[order_R], len(group_R) / len(np.unique(group_R)))

    def half_width(self, draws_SxQ: np.ndarray, size_Q: np.ndarray, level: float, missed_Q=0.0) -> np.ndarray:
        """Half width of an interval that holds a new run with probability `level`, shape (Q,).

        Args:
            missed_Q: what the law is expected to miss of each point because it lies beyond the table.

        Raises:
            InputError: the level is not between 0 and 1.
        """
        spread_Q = np.hypot(expected(draws_SxQ, self.noise, size_Q), missed_Q)
        times_Q = self._multiplier(spread_Q / (self.noise * size_Q), level)
        normal = norm.ppf((1 + level) / 2)
        # A law without a level knows less than one with it, so what is left out there may widen and not narrow.
        times_Q = np.where(np.asarray(missed_Q) > 0, np.maximum(times_Q, normal), times_Q)
        return np.maximum(times_Q * spread_Q, normal * self.seed * size_Q)

    def widening(self, draws_SxQ: np.ndarray, size_Q: np.ndarray, level: float, missed_Q=0.0) -> np.ndarray:
        """How much farther left-out rows fall from the law than normal errors of the expected spread, shape (Q,)."""
        spread_Q = np.hypot(expected(draws_SxQ, self.noise, size_Q), missed_Q)
        return self._multiplier(spread_Q / (self.noise * size_Q), level) / norm.ppf((1 + level) / 2)

    def _multiplier(self, over_noise_Q: np.ndarray, level: float) -> np.ndarray:
        """Quantile of the ratios of rows alike in reach, on a grid of reaches; constant beyond the last."""
        if not 0 < level < 1:
            raise InputError(f"level is {level:g}; give a share between 0 and 1, such as {LEVEL:g}")
        at_G = np.linspace(0.0, max(float(self.reach_R.max()), 1e-3), GRID)
        apart_GxR = np.abs(at_G[:, None] - self.reach_R)
        nearest = min(int(ALIKE * self.mates), len(self.reach_R)) - 1
        width_Gx1 = np.maximum(np.partition(apart_GxR, nearest, axis=1)[:, nearest, None], WIDTH)
        weight_GxR = np.exp(-0.5 * (apart_GxR / width_Gx1) ** 2)
        below_GxR = np.cumsum(weight_GxR, axis=1) / (weight_GxR.sum(axis=1, keepdims=True) + self.mates)
        return np.interp(
            np.log(over_noise_Q), at_G, [np.interp(level, below_R, self.ratio_R) for below_R in below_GxR]
        )


def about(inside_R: np.ndarray, outside_R: np.ndarray, size_R: np.ndarray) -> float:
    """Spread of a run about the law, relative to the loss, robustly, from fitted and left-out residuals."""
    return max(ROBUST * float(np.median(np.sqrt(np.abs(inside_R * outside_R)) / size_R)), 1e-12)


def expected(draws_SxR: np.ndarray, noise: float, size_R: np.ndarray) -> np.ndarray:
    """Standard deviation of a run about the law, by the draws and a run's own noise."""
    return np.hypot(draws_SxR.std(axis=0, ddof=1), noise * size_R)


def seed_spread(noise: float, seed: tuple[float, int] | None) -> float:
    """Standard deviation that a seed makes, shrunk towards that of the residuals as replicates are few."""
    if seed is None:
        return 0.0
    variance, freedom = seed
    return float(np.sqrt((freedom * variance + FEW * min(noise**2, variance)) / (freedom + FEW)))
