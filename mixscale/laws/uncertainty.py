"""How sure a fit is: parameter draws from a bootstrap, and intervals calibrated on runs left out.

The draws say what the data leave open about the law; held-out residuals say how far a new run falls from it. An
interval joins both, for one target or for any weighted sum of targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from mixscale.errors import InputError
from mixscale.laws import engine
from mixscale.laws.observations import Observations
from mixscale.laws.selection import Candidate, left_out
from mixscale.laws.splits import Split

LEVEL = 0.9
"""Of every interval, where nothing else is asked for."""
APART = 20
"""One refit without each fold for so many with all."""
WIDTH, ALIKE, GRID = 0.5, 20, 41
"""Kernel over the log of the spread, in which at least so many mixtures count, and points at which it is computed."""
ROBUST = 1.4826
"""Standard deviation of a normal variable over the median of its size."""
TAIL = 3.0


def refits(resamples: int, split: Split, targets: int) -> int:
    """How many fits of one target `resample` makes."""
    return (resamples + _draws_apart(resamples) * len(split.kept_FxR)) * targets


def _draws_apart(resamples: int) -> int:
    return max(2, resamples // APART)


def resample(
    chosen: Candidate, seen: Observations, resamples: int, seed: int, on_batch=None
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters refitted to resampled losses, and what such refits predict of rows they lack.

    A parametric bootstrap: each resample is the fitted law plus normal errors, relative to the loss, with the
    covariance between targets that the residuals have, so that errors stay correlated. A residual is the geometric
    mean of the fitted and the left-out one, which undoes what leverage hides (HC2). Rows of one mixture share as much
    of their error as their residuals do. Unlike drawing runs with replacement it never loses the only run that shows
    a domain.

    Args:
        on_batch: called with the number of fits after each batch.

    Returns:
        theta_SxTxP, and apart_VxTxR, scaled: each row by refits of the first resamples without its fold; NaN for rows
        that no fold tests.
    """
    y_TxR = seen.y_scaled_TxR
    targets, rows = y_TxR.shape
    fitted_TxR = engine.evaluate(chosen.law, chosen.theta_TxP, seen.points)
    inside_TxR = y_TxR - fitted_TxR
    outside_TxR = np.where(chosen.split.tested_R, y_TxR - chosen.held_TxR, inside_TxR)
    error_TxR = np.sqrt(np.abs(inside_TxR * outside_TxR)) * np.sign(inside_TxR) / fitted_TxR
    # At a vertex the left-out residual is an extrapolation's, not noise; the limit keeps a few from ruling the rest.
    limit_Tx1 = TAIL * ROBUST * np.median(np.abs(error_TxR), axis=1, keepdims=True)
    error_TxR = np.clip(error_TxR, -limit_Tx1, limit_Tx1)
    shared = _shared(error_TxR, seen.group_R)
    rng = np.random.default_rng(seed)
    # Normal sums of the residuals have their covariance, without a factorisation that few rows would not allow.
    of_row_SxTxR = _normal(rng, error_TxR, resamples, rows)
    of_group_SxTxG = _normal(rng, error_TxR, resamples, int(seen.group_R.max()) + 1)
    drawn_SxTxR = np.sqrt(1 - shared) * of_row_SxTxR + np.sqrt(shared) * of_group_SxTxG[..., seen.group_R]
    drawn_SxTxR = np.maximum(fitted_TxR * (1 + drawn_SxTxR), 0.1 * y_TxR)
    theta_BxP = engine.solve(
        chosen.law,
        seen.points,
        drawn_SxTxR.reshape(-1, rows),
        np.ones((resamples * targets, rows)),
        np.tile(chosen.sigma_T, resamples),
        np.tile(chosen.theta_TxP, (resamples, 1)),
        on_batch,
    )
    return theta_BxP.reshape(resamples, targets, -1), _apart(
        chosen, seen, drawn_SxTxR[: _draws_apart(resamples)], on_batch
    )


def _apart(chosen: Candidate, seen: Observations, drawn_VxTxR: np.ndarray, on_batch) -> np.ndarray:
    """What each row is predicted to be by refits without its fold, scaled, shape (V, T, R)."""
    kept_FxR = chosen.split.kept_FxR
    (draws, targets, rows), folds = drawn_VxTxR.shape, len(kept_FxR)
    theta_BxP = engine.solve(
        chosen.law,
        seen.points,
        np.repeat(drawn_VxTxR.reshape(-1, rows), folds, axis=0),
        np.tile(kept_FxR, (draws * targets, 1)),
        np.tile(np.repeat(chosen.sigma_T, folds), draws),
        np.tile(chosen.theta_TxFxP.reshape(targets * folds, -1), (draws, 1)),
        on_batch,
    )
    theta_VTxFxP = theta_BxP.reshape(draws * targets, folds, -1)
    return left_out(chosen.law, theta_VTxFxP, chosen.split, seen).reshape(draws, targets, rows)


def _normal(rng: np.random.Generator, error_TxR: np.ndarray, resamples: int, count: int) -> np.ndarray:
    """Normal vectors over targets with the covariance of the errors, shape (S, T, count)."""
    rows = error_TxR.shape[1]
    return np.stack([error_TxR @ rng.standard_normal((rows, count)) for _ in range(resamples)]) / np.sqrt(rows)


def _shared(error_TxR: np.ndarray, group_R: np.ndarray) -> float:
    """Share of the error's variance that rows of one mixture have in common, 0 to 1."""
    counts_G = np.bincount(group_R)
    pairs = float((counts_G * (counts_G - 1)).sum())
    if pairs == 0:
        return 0.0
    square_T = (error_TxR**2).sum(axis=1)
    product_T = np.stack([np.bincount(group_R, e) ** 2 for e in error_TxR]).sum(axis=1) - square_T
    return float(np.clip(np.mean(product_T / pairs / (square_T / len(group_R))), 0.0, 1.0))


@dataclass(frozen=True)
class Calibration:
    """Turns the spread of the draws at a point into the half width of an interval for a new run there.

    Normalised conformal with left-out residuals (Papadopoulos 2008), localised (Guan 2023). The residual of each row,
    predicted without its mixture, is divided by the spread expected there: a run's noise, relative to the loss, and
    the spread of draws that lack the mixture as well. A vertex, left out, is an extrapolation and is expected to miss
    by much, so it does not widen the interval of an inner mixture. What the draws do not know of (a law that bends
    the wrong way) grows with the extrapolation too, so the quantile of the ratios counts rows by how like their reach
    is to that of the point asked for.
    """

    noise: float
    """spread of a run about the law, relative to the loss"""
    ratio_R: np.ndarray
    """|left-out residual| over expected spread, ascending"""
    reach_R: np.ndarray
    """log of the expected spread over the noise in the same order: 0 where the other rows leave no doubt"""
    mates: float
    """rows a mixture; a new mixture weighs as much"""

    @classmethod
    def of(cls, inside_R, outside_R, apart_VxR, size_R, group_R) -> Calibration:
        """From fitted and left-out residuals, left-out draws and fitted losses of the same rows.

        Rows that were never left out (NaN) say nothing.
        """
        known_R = np.isfinite(outside_R)
        inside_R, outside_R, size_R, group_R = (x[known_R] for x in (inside_R, outside_R, size_R, group_R))
        apart_VxR = apart_VxR[:, known_R]
        both_R = np.sqrt(np.abs(inside_R * outside_R))
        noise = max(ROBUST * float(np.median(both_R / size_R)), 1e-12)
        spread_R = np.hypot(apart_VxR.std(axis=0, ddof=1), noise * size_R)
        ratio_R = np.abs(outside_R) / spread_R
        order_R = np.argsort(ratio_R, kind="stable")
        reach_R = np.log(spread_R / (noise * size_R))
        return cls(noise, ratio_R[order_R], reach_R[order_R], len(group_R) / len(np.unique(group_R)))

    def half_width(self, draws_SxQ: np.ndarray, size_Q: np.ndarray, level: float) -> np.ndarray:
        """Half width of an interval that holds a new run with probability `level`, shape (Q,).

        Raises:
            InputError: the level is not between 0 and 1.
        """
        spread_Q = np.hypot(draws_SxQ.std(axis=0, ddof=1), self.noise * size_Q)
        return self._multiplier(spread_Q / (self.noise * size_Q), level) * spread_Q

    def widening(self, draws_SxQ: np.ndarray, size_Q: np.ndarray, level: float) -> np.ndarray:
        """How much farther left-out rows fall from the law than normal errors of the expected spread, shape (Q,)."""
        spread_Q = np.hypot(draws_SxQ.std(axis=0, ddof=1), self.noise * size_Q)
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
