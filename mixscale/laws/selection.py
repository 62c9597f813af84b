"""Chooses a family by cross-validation: folds by mixture, one law for all targets, with the noise of the comparison.

Every run of a mixture, and every step of a run, stays in one fold, because rows that share a mixture are not
independent. It knows families only by what they predict.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from mixscale.errors import InputError, nearest
from mixscale.laws import engine
from mixscale.laws.families import LAWS, Law
from mixscale.laws.observations import Observations

FOLDS = 10


@dataclass(frozen=True)
class Candidate:
    """One family fitted to one table: point fit, assumed noise, and what each row was predicted to be unseen."""

    law: Law
    theta_TxP: np.ndarray
    sigma_T: np.ndarray
    theta_TxFxP: np.ndarray
    """parameters without each fold"""
    fold_R: np.ndarray
    held_TxR: np.ndarray
    """out-of-fold predictions, scaled"""


def named(name: str) -> Law:
    """The registered law of that name.

    Raises:
        InputError: there is none.
    """
    if name not in LAWS:
        raise InputError(f"law '{name}' is not known{nearest(name, [*LAWS, 'auto'])}")
    return LAWS[name]


def check_runs(law: Law, seen: Observations) -> str | None:
    """Why a law has too many parameters for these rows, or None."""
    needed = law.n_params(len(seen.domains))
    if seen.distinct >= needed:
        return None
    what = "mixtures at a size and token count" if law.uses_scale else "mixtures"
    return (
        f"fewer runs than parameters: law '{law.name}' has {needed} parameters for {len(seen.domains)} domains, "
        f"and the table has {seen.distinct} distinct {what}"
    )


def candidate(law: Law, seen: Observations, seed: int) -> Candidate:
    """Fit a law to all rows, then once more without each fold, starting from the whole fit."""
    y_TxR = seen.y_scaled_TxR
    theta_TxP, sigma_T = engine.fit_points(law, seen.points, y_TxR, seed)
    fold_R = folds(seen.group_R, seed)
    count, targets = int(fold_R.max()) + 1, len(y_TxR)
    kept_FxR = kept_rows(fold_R)
    theta_BxP, _ = engine.solve(
        law,
        seen.points,
        np.repeat(y_TxR, count, axis=0),
        np.tile(kept_FxR, (targets, 1)),
        np.repeat(sigma_T, count),
        np.repeat(theta_TxP, count, axis=0),
    )
    theta_TxFxP = theta_BxP.reshape(targets, count, -1)
    return Candidate(law, theta_TxP, sigma_T, theta_TxFxP, fold_R, left_out(law, theta_TxFxP, fold_R, seen))


def left_out(law: Law, theta_TxFxP: np.ndarray, fold_R: np.ndarray, seen: Observations) -> np.ndarray:
    """What each row is predicted to be by the fit without its fold, scaled, shape (T, R)."""
    targets, count, params = theta_TxFxP.shape
    loss_BxR = engine.evaluate(law, theta_TxFxP.reshape(-1, params), seen.points)
    return loss_BxR.reshape(targets, count, -1)[:, fold_R, np.arange(len(fold_R))]


def kept_rows(fold_R: np.ndarray) -> np.ndarray:
    """Weight of each row in the fit without each fold, 0 or 1, shape (F, R)."""
    return (fold_R != np.arange(int(fold_R.max()) + 1)[:, None]).astype(np.float64)


def folds(group_R: np.ndarray, seed: int) -> np.ndarray:
    """Fold of each row, shape (R,): groups shuffled into at most FOLDS folds of near equal numbers of groups."""
    groups = int(group_R.max()) + 1
    fold_G = np.arange(groups) % min(FOLDS, groups)
    return np.random.default_rng(seed).permutation(fold_G)[group_R]


def rank(candidates: list[Candidate], seen: Observations) -> tuple[pd.DataFrame, Candidate, str]:
    """Order candidates by their error on unseen mixtures.

    The error of a law on a target is its mean absolute error over that of the target's median; `error` is the mean
    over targets. `worse_by` and its standard error `noise` come from paired differences to the best, by mixture.

    Returns:
        the ranking (law, parameters, error, worse_by, noise, rho; best first), the best, and the reason in words.
    """
    y_TxR = seen.y_scaled_TxR
    naive_T = np.abs(y_TxR - np.median(y_TxR, axis=1, keepdims=True)).mean(axis=1)
    error_CxR = np.stack([(np.abs(c.held_TxR - y_TxR) / naive_T[:, None]).mean(axis=0) for c in candidates])
    order = np.argsort(error_CxR.mean(axis=1), kind="stable")
    best = order[0]
    counts_G = np.bincount(seen.group_R)
    rows = []
    for i in order:
        extra_R = error_CxR[i] - error_CxR[best]
        extra_G = np.bincount(seen.group_R, extra_R - extra_R.mean())
        noise = float(np.sqrt((extra_G**2).sum()) / counts_G.sum())
        rows.append(
            {
                "law": candidates[i].law.name,
                "parameters": candidates[i].law.n_params(len(seen.domains)),
                "error": float(error_CxR[i].mean()),
                "worse_by": float(extra_R.mean()),
                "noise": noise,
                "rho": _mean_spearman(candidates[i].held_TxR, y_TxR),
            }
        )
    ranking = pd.DataFrame(rows)
    return ranking, candidates[best], _reason(ranking)


def _reason(ranking: pd.DataFrame) -> str:
    best = ranking.iloc[0]
    text = f"'{best['law']}' has the smallest error on unseen mixtures ({best['error']:.1%} of the naive error)"
    if len(ranking) == 1:
        return text + "; no other law was compared"
    second = ranking.iloc[1]
    tie = second["worse_by"] < 2 * second["noise"]
    return text + (
        f"; '{second['law']}' is worse by {second['worse_by']:.2%} ± {second['noise']:.2%}, "
        + ("which is not distinguishable" if tie else "which is beyond the noise")
    )


def _mean_spearman(predicted_TxR: np.ndarray, y_TxR: np.ndarray) -> float:
    pairs = zip(predicted_TxR, y_TxR, strict=True)
    return float(np.mean([np.corrcoef(rankdata(p), rankdata(y))[0, 1] if np.ptp(p) > 0 else 0.0 for p, y in pairs]))
