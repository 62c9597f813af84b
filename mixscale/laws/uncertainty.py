"""How sure a fit is: parameter draws from a bootstrap, the same without each fold, and what the law misses beyond.

The draws say what the data leave open about the law; held-out residuals say how far a new run falls from it. An
interval joins both (`calibration`), for one target or for any weighted sum of targets.
"""

from __future__ import annotations

import numpy as np

from mixscale.laws import extrapolation, fitting
from mixscale.laws.calibration import ROBUST, about, expected
from mixscale.laws.dataset import Dataset
from mixscale.laws.selection import Candidate, left_out
from mixscale.laws.splits import Split

APART, EACH = 20, 2
"""Refits without each fold: one for so many with all, and where folds are few, as many as make a share of all."""
TAIL = 3.0


def refits(bootstrap: int, split: Split, targets: int) -> int:
    """How many fits of one target `resample` makes."""
    return (bootstrap + _draws_apart(bootstrap, len(split.kept_FxR)) * len(split.kept_FxR)) * targets


def _draws_apart(bootstrap: int, folds: int) -> int:
    return max(2, bootstrap // APART, bootstrap // (EACH * folds))


def resample(
    chosen: Candidate, dataset: Dataset, bootstrap: int, seed: int, on_batch=None
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters refitted to resampled losses, and what such refits predict of rows they lack.

    A parametric bootstrap: each resample is the fitted law plus normal errors, relative to the loss, with the
    covariance between targets that the residuals have, so that errors stay correlated. A residual is the geometric
    mean of the fitted and the left-out one, which undoes what leverage hides (HC2). Rows of one mixture share as much
    of their error as their residuals do. Unlike drawing runs with replacement it never loses the only run that shows
    a domain. The prior of a formula is drawn anew as well: its mean is a normal draw from the prior itself (randomized
    maximum likelihood: Oliver, He and Reynolds 1996), so that what the data leave open spreads as widely as the prior
    lets it.

    Args:
        on_batch: called with the number of fits after each batch.

    Returns:
        theta_SxTxP, and apart_VxTxR, scaled: each row by refits of the first resamples without its fold; NaN for rows
        that no fold tests.
    """
    y_TxR = dataset.y_scaled_TxR
    targets, rows = y_TxR.shape
    fitted_TxR = fitting.evaluate(chosen.law, chosen.theta_TxP, dataset.points)
    inside_TxR = y_TxR - fitted_TxR
    outside_TxR = np.where(chosen.split.tested_R, y_TxR - chosen.oof_pred_TxR, inside_TxR)
    error_TxR = np.sqrt(np.abs(inside_TxR * outside_TxR)) * np.sign(inside_TxR) / fitted_TxR
    # At a vertex the left-out residual is an extrapolation's, not noise; the limit keeps a few from ruling the rest.
    limit_Tx1 = TAIL * ROBUST * np.median(np.abs(error_TxR), axis=1, keepdims=True)
    error_TxR = np.clip(error_TxR, -limit_Tx1, limit_Tx1)
    shared = _shared(error_TxR, dataset.group_R)
    rng = np.random.default_rng(seed)
    of_row_SxTxR = _normal(rng, error_TxR, bootstrap, rows)
    of_group_SxTxG = _normal(rng, error_TxR, bootstrap, int(dataset.group_R.max()) + 1)
    drawn_SxTxR = np.sqrt(1 - shared) * of_row_SxTxR + np.sqrt(shared) * of_group_SxTxG[..., dataset.group_R]
    drawn_SxTxR = np.maximum(fitted_TxR * (1 + drawn_SxTxR), 0.1 * y_TxR)
    away_SxTxP = rng.standard_normal((bootstrap, *chosen.theta_TxP.shape))
    theta_BxP = fitting.solve(
        chosen.law,
        dataset.points,
        drawn_SxTxR.reshape(-1, rows),
        np.ones((bootstrap * targets, rows)),
        np.tile(chosen.sigma_T, bootstrap),
        np.tile(chosen.theta_TxP, (bootstrap, 1)),
        away_SxTxP.reshape(len(away_SxTxP) * targets, -1),
        on_batch,
    )
    few = _draws_apart(bootstrap, len(chosen.split.kept_FxR))
    oof_bootstrap_VxTxR = _apart(chosen, dataset, drawn_SxTxR[:few], away_SxTxP[:few], on_batch)
    return theta_BxP.reshape(bootstrap, targets, -1), oof_bootstrap_VxTxR


def _apart(
    chosen: Candidate, dataset: Dataset, drawn_VxTxR: np.ndarray, away_VxTxP: np.ndarray, on_batch
) -> np.ndarray:
    """What each row is predicted to be by refits without its fold, scaled, shape (V, T, R)."""
    kept_FxR = chosen.split.kept_FxR
    (draws, targets, rows), folds = drawn_VxTxR.shape, len(kept_FxR)
    theta_BxP = fitting.solve(
        chosen.law,
        dataset.points,
        np.repeat(drawn_VxTxR.reshape(-1, rows), folds, axis=0),
        np.tile(kept_FxR, (draws * targets, 1)),
        np.tile(np.repeat(chosen.sigma_T, folds), draws),
        np.tile(chosen.theta_TxFxP.reshape(targets * folds, -1), (draws, 1)),
        np.repeat(away_VxTxP.reshape(draws * targets, -1), folds, axis=0),
        on_batch,
    )
    theta_VTxFxP = theta_BxP.reshape(draws * targets, folds, -1)
    return left_out(chosen.law, theta_VTxFxP, chosen.split, dataset).reshape(draws, targets, rows)


def drift(chosen: Candidate, dataset: Dataset, oof_bootstrap_VxTxR: np.ndarray, away_TxR: np.ndarray) -> float:
    """`beyond.drift` of a law, by what it misses of left-out rows that its draws and a run's noise do not expect."""
    y_TxR, tested_R = dataset.y_scaled_TxR, chosen.split.tested_R
    fitted_TxR = fitting.evaluate(chosen.law, chosen.theta_TxP, dataset.points)[:, tested_R]
    inside_TxR, outside_TxR = y_TxR[:, tested_R] - fitted_TxR, (y_TxR - chosen.oof_pred_TxR)[:, tested_R]
    each = zip(inside_TxR, outside_TxR, fitted_TxR, oof_bootstrap_VxTxR[:, :, tested_R].swapaxes(0, 1), strict=True)
    spread_TxR = np.stack([expected(v, about(i, o, np.abs(f)), np.abs(f)) for i, o, f, v in each])
    return extrapolation.drift(outside_TxR, spread_TxR, away_TxR[:, tested_R], chosen.split.fold_R[tested_R])


def _normal(rng: np.random.Generator, error_TxR: np.ndarray, bootstrap: int, count: int) -> np.ndarray:
    """Normal vectors over targets with the covariance of the errors, shape (S, T, count)."""
    # A root of the covariance by its eigenvectors, since fewer rows than targets leave it without a Cholesky factor.
    value_T, vector_TxT = np.linalg.eigh(error_TxR @ error_TxR.T / error_TxR.shape[1])
    root_TxT = vector_TxT * np.sqrt(np.maximum(value_T, 0.0))
    return root_TxT @ rng.standard_normal((bootstrap, len(value_T), count))


def _shared(error_TxR: np.ndarray, group_R: np.ndarray) -> float:
    """Share of the error's variance that rows of one mixture have in common, 0 to 1."""
    counts_G = np.bincount(group_R)
    pairs = float((counts_G * (counts_G - 1)).sum())
    if pairs == 0:
        return 0.0
    square_T = (error_TxR**2).sum(axis=1)
    product_T = np.stack([np.bincount(group_R, e) ** 2 for e in error_TxR]).sum(axis=1) - square_T
    return float(np.clip(np.mean(product_T / pairs / (square_T / len(group_R))), 0.0, 1.0))
