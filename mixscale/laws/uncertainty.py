"""How sure a fit is: parameter draws from a bootstrap, and intervals calibrated on runs left out.

The draws say what the data leave open about the law; held-out residuals say how far a new run falls from it. An
interval joins both, for one target or for any weighted sum of targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixscale.laws import engine
from mixscale.laws.observations import Observations
from mixscale.laws.selection import Candidate

MOST_LEVERAGE = 0.95
ROBUST = 1.4826
"""Standard deviation of a normal variable over the median of its size."""
TAIL = 3.0


def resample(chosen: Candidate, seen: Observations, resamples: int, seed: int, on_batch=None) -> np.ndarray:
    """Parameters refitted to resampled losses, shape (S, T, P).

    A parametric bootstrap: each resample is the fitted law plus normal errors, relative to the loss, with the
    covariance between targets that the residuals have, so that errors stay correlated. A residual is the geometric
    mean of the fitted and the left-out one, which undoes what leverage hides (HC2). Rows of one mixture share as much
    of their error as their residuals do. Unlike drawing runs with replacement it never loses the only run that shows
    a domain.

    Args:
        on_batch: called with the number of fits after each batch.
    """
    y_TxR = seen.y_scaled_TxR
    targets, rows = y_TxR.shape
    fitted_TxR = engine.evaluate(chosen.law, chosen.theta_TxP, seen.points)
    inside_TxR, outside_TxR = y_TxR - fitted_TxR, y_TxR - chosen.held_TxR
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
    drawn_SxTxR = fitted_TxR * (1 + drawn_SxTxR)
    theta_BxP, _ = engine.solve(
        chosen.law,
        seen.points,
        np.maximum(drawn_SxTxR, 0.1 * y_TxR).reshape(-1, rows),
        np.ones((resamples * targets, rows)),
        np.tile(chosen.sigma_T, resamples),
        np.tile(chosen.theta_TxP, (resamples, 1)),
        on_batch,
    )
    return theta_BxP.reshape(resamples, targets, -1)


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

    Normalised conformal with cross-validated residuals (Papadopoulos 2008; Barber et al. 2021): the residual of each
    left-out row is divided by the spread expected there, and the quantile of these ratios is the multiplier. A row's
    leverage h is the variance of the draws over that of the noise; left out, it is expected to miss by
    noise / sqrt(1 - h), as in linear regression, so that vertices do not widen the interval of an inner mixture.
    """

    noise: float
    """spread of a run about the law, absolute"""
    ratios_R: np.ndarray
    """|left-out residual| over expected spread, sorted"""

    @classmethod
    def of(cls, inside_R: np.ndarray, outside_R: np.ndarray, draws_SxR: np.ndarray) -> Calibration:
        """From fitted and left-out residuals and the draws at the same rows."""
        noise = max(ROBUST * float(np.median(np.sqrt(np.abs(inside_R * outside_R)))), 1e-12)
        leverage_R = np.minimum(draws_SxR.var(axis=0) / noise**2, MOST_LEVERAGE)
        return cls(noise, np.sort(np.abs(outside_R) * np.sqrt(1 - leverage_R) / noise))

    def half_width(self, draws_SxQ: np.ndarray, level: float) -> np.ndarray:
        """Half width of an interval that holds a new run with probability `level`, shape (Q,)."""
        count = len(self.ratios_R)
        at = min(int(np.ceil((count + 1) * level)), count) - 1
        return self.ratios_R[at] * np.sqrt(draws_SxQ.var(axis=0) + self.noise**2)
