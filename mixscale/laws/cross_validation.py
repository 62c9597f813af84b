"""Cross-validation of laws: folds that resemble later use, predictions of held-out rows, and the choice of a law.

Where mixtures are held out, rows of one mixture and all steps of a run stay on one side of a fold. This module knows a
law only by its predictions.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from mixscale.errors import InputError, did_you_mean
from mixscale.laws import fitting
from mixscale.laws.dataset import SCALES, Dataset, levels
from mixscale.laws.families import Law, Points

FOLDS = 10
HOLDOUTS = {  # in words
    "mixtures": "unseen mixtures",
    "larger-n": "larger sizes",
    "larger-d": "more tokens",
    "both": "larger sizes of unseen mixtures",
}
MAX_LEVELS = 3  # largest number of sizes, or of groups of token counts, that are held out one after another
MIN_TRAIN = 0.2  # smallest share of the rows that a fold may be fitted to

TIE_ERRORS, TIE_SHARE = 2.0, 0.02  # a law ties with the best within so many standard errors and this share
MIN_NAIVE = 0.1  # least naive error of the tested rows over that of all rows: similar rows give no scale for errors

SUM_WEIGHT = 1e3  # weight of the condition that hull coefficients sum to one, against the fit of the mixture
# Shares of the table's radius: nearer mixtures are one mixture (weights may be realized ones), or are not isolated.
DUPLICATE, MIN_SPACING = 0.02, 0.1
NEAREST = 8  # neighbours per domain that are tried first as corners of the hull


@dataclass(frozen=True)
class Split:
    """F folds."""

    kept_FxR: np.ndarray  # 1 for rows that the fold is fitted to, 0 for others
    fold_R: np.ndarray  # the fold that tests each row, -1: none
    count_R: np.ndarray  # weight of each row's mixture when laws are compared

    @property
    def tested_R(self) -> np.ndarray:
        return self.fold_R >= 0


def make_split(dataset: Dataset, holdout: str, seed: int) -> Split:
    """The folds that hold out `holdout` (a key of `HOLDOUTS`).

    Raises:
        InputError: no such holdout, or the table has only one size (or token count) where larger ones are held out.
    """
    if holdout not in HOLDOUTS:
        raise InputError(f"holdout '{holdout}' is unknown{did_you_mean(holdout, HOLDOUTS)}")
    if holdout == "larger-d":
        return _larger(_token_level(dataset.points), "n_tokens")
    if holdout == "larger-n":
        return _larger(_coarse_levels(dataset.points.n_R), "n_params")
    by_mixture = split_mixtures(dataset.group_R, seed)
    first_G = np.unique(dataset.group_R, return_index=True)[1]
    count_G = hull_weights(dataset.points.h_RxK[first_G], by_mixture.fold_R[first_G])
    by_mixture = dataclasses.replace(by_mixture, count_R=count_G[dataset.group_R])
    if holdout == "mixtures":
        return by_mixture
    return _crossed(_larger(_coarse_levels(dataset.points.n_R), "n_params"), by_mixture)


def split_mixtures(group_R: np.ndarray, seed: int) -> Split:
    """Groups of rows, shuffled into at most FOLDS folds with almost equal numbers of groups."""
    groups = int(group_R.max()) + 1
    if groups < 2:
        raise InputError("all rows have one mixture or run, so none can be held out to test a law; add runs")
    fold_G = np.arange(groups) % min(FOLDS, groups)
    fold_R = np.random.default_rng(seed).permutation(fold_G)[group_R]
    kept_FxR = (fold_R != np.arange(int(fold_R.max()) + 1)[:, None]).astype(np.float64)
    return Split(kept_FxR, fold_R, np.ones(len(fold_R)))


def _coarse_levels(value_R: np.ndarray) -> np.ndarray:
    """Number of each row's level, ascending; many values are grouped into a few levels."""
    rank_R = levels(value_R)
    count = int(rank_R.max()) + 1
    return rank_R if count <= 2 * MAX_LEVELS else rank_R * 2 * MAX_LEVELS // count


def _token_level(points: Points) -> np.ndarray:
    """Number of each row's level in tokens, or in epochs where that is relatively higher.

    More tokens of the same text are more epochs, so the rows that are kept must have fewer of both.
    """
    tokens_R = _coarse_levels(points.d_R)
    epochs_R = _coarse_levels(np.exp((points.h_RxK * points.log_epochs_RxK).sum(axis=1)))
    if tokens_R.max() == 0 or epochs_R.max() == 0:
        return tokens_R
    higher_R = np.maximum(tokens_R / tokens_R.max(), epochs_R / epochs_R.max())
    return np.unique(higher_R, return_inverse=True)[1].reshape(-1)


def _larger(level_R: np.ndarray, column: str) -> Split:
    """One fold for each of the highest levels, fitted to the rows below it; the highest first."""
    top = int(level_R.max())
    steps = [v for v in range(top, 0, -1) if (level_R < v).mean() >= MIN_TRAIN][:MAX_LEVELS]
    if not steps:
        raise InputError(
            f"predictions at a larger {SCALES[column]} cannot be tested: the table has too few rows below its largest "
            f"{column}; hold out mixtures instead (--holdout mixtures)"
        )
    fold_R = np.full(len(level_R), -1)
    for fold, level in enumerate(steps):
        fold_R[level_R == level] = fold
    return Split(np.stack([(level_R < v).astype(np.float64) for v in steps]), fold_R, np.ones(len(fold_R)))


def _crossed(larger: Split, by_mixture: Split) -> Split:
    """Folds that test larger rows of unseen mixtures and keep rows that are neither."""
    folds = len(by_mixture.kept_FxR)
    kept_FxR = (larger.kept_FxR[:, None] * by_mixture.kept_FxR).reshape(-1, len(larger.fold_R))
    fold_R = np.where(larger.tested_R, larger.fold_R * folds + by_mixture.fold_R, -1)
    fold_R[~kept_FxR.any(axis=1)[fold_R]] = -1  # nothing is left to fit
    if not (fold_R >= 0).any():
        raise InputError(
            "predictions at a larger n_params of unseen mixtures cannot be tested: no row has another mixture and a "
            "smaller size; hold out mixtures instead (--holdout mixtures)"
        )
    testing_F, fold_N = np.unique(fold_R[fold_R >= 0], return_inverse=True)
    fold_R[fold_R >= 0] = fold_N
    return Split(kept_FxR[testing_F], fold_R, by_mixture.count_R)


def hull_weights(h_GxK: np.ndarray, fold_G: np.ndarray) -> np.ndarray:
    """Weight, 0 to 1, of each of G mixtures when held out with its fold, by its distance from the others' convex hull.

    An isolated mixture (a vertex above all) is informative when fitted, but when held out it needs an extrapolation
    that later predictions do not, and one such error would decide the comparison of laws. The weight is 1 within the
    hull of the kept mixtures, or within the usual spacing `s` of neighbours; at a hull distance d > s it is `(s/d)^2`.
    Fold -1 is never held out.
    """
    weight_G = np.ones(len(h_GxK))
    if not (fold_G >= 0).any():
        return weight_G
    radius = float(np.median(np.linalg.norm(h_GxK - h_GxK.mean(axis=0), axis=1)))
    nearest_G, spacing_G = np.full(len(h_GxK), np.nan), np.full(len(h_GxK), np.nan)
    for fold in range(int(fold_G.max()) + 1):
        distance_NxC = cdist(h_GxK[fold_G == fold], h_GxK[fold_G != fold])
        nearest_G[fold_G == fold] = distance_NxC.min(axis=1)
        distance_NxC[distance_NxC < DUPLICATE * radius] = np.inf
        spacing_G[fold_G == fold] = distance_NxC.min(axis=1)
    spacing = max(float(np.nanmedian(spacing_G)), MIN_SPACING * radius)
    # No hull is farther away than its nearest corner.
    for g in np.flatnonzero(nearest_G > spacing):
        distance = _hull_distance(h_GxK[g], h_GxK[fold_G != fold_G[g]], spacing)
        weight_G[g] = min(1.0, spacing / max(distance, 1e-12)) ** 2
    return weight_G


def _hull_distance(h_K: np.ndarray, corners_CxK: np.ndarray, enough: float) -> float:
    """Distance of a mixture from the convex hull of others; any value up to `enough` if it is at most that."""
    few = NEAREST * len(h_K)
    if len(corners_CxK) > 2 * few:
        near_N = np.argpartition(np.linalg.norm(corners_CxK - h_K, axis=1), few)[:few]
        # The hull of a subset is no nearer than that of all.
        if (distance := _hull_distance(h_K, corners_CxK[near_N], enough)) <= enough:
            return distance
    ones_1xC = np.full((1, len(corners_CxK)), SUM_WEIGHT)
    share_C, _ = nnls(np.vstack([corners_CxK.T, ones_1xC]), np.append(h_K, SUM_WEIGHT))
    return float(np.linalg.norm(share_C @ corners_CxK / share_C.sum() - h_K))


@dataclass(frozen=True)
class Candidate:
    """One law fitted to one table."""

    law: Law
    theta_TxP: np.ndarray
    sigma_T: np.ndarray  # relative noise of the fit
    theta_TxFxP: np.ndarray  # parameters without each fold
    split: Split
    oof_pred_TxR: np.ndarray  # out-of-fold predictions, scaled; NaN for rows that no fold tests


def cross_validate(law: Law, dataset: Dataset, split: Split, seed: int) -> Candidate:
    """Fits a law to all rows, then without each fold, starting from the fit to all.

    Raises:
        ArithmeticError, ValueError: the numbers of the table are such that the law cannot be fitted.
    """
    law, y_TxR = law.bound(dataset.points), dataset.y_scaled_TxR
    theta_TxP, sigma_T = fitting.fit_points(law, dataset.points, y_TxR, seed)
    theta_TxFxP = fitting.leave_out(law, dataset.points, y_TxR, split.kept_FxR, sigma_T, theta_TxP)
    oof_pred_TxR = oof_predictions(law, theta_TxFxP, split, dataset)
    fitting.check_finite(theta_TxP, sigma_T, theta_TxFxP, oof_pred_TxR[:, split.tested_R])
    return Candidate(law, theta_TxP, sigma_T, theta_TxFxP, split, oof_pred_TxR)


def oof_predictions(law: Law, theta_BxFxP: np.ndarray, split: Split, dataset: Dataset) -> np.ndarray:
    """Prediction of each row by the fit without its fold, scaled, shape (B, R); NaN for rows that no fold tests."""
    oof_pred_BxR = np.full((len(theta_BxFxP), dataset.points.count), np.nan)
    for fold in range(len(split.kept_FxR)):
        rows_N = np.flatnonzero(split.fold_R == fold)
        oof_pred_BxR[:, rows_N] = fitting.evaluate(law, theta_BxFxP[:, fold], dataset.points.rows(rows_N))
    return oof_pred_BxR


def mixture_oof_predictions(chosen: Candidate, dataset: Dataset, seed: int) -> np.ndarray | None:
    """Prediction of each row by a fit without its mixture, scaled, shape (T, R).

    None where the candidate's own out-of-fold predictions are these; NaN where the table has only one mixture.
    """
    split, group_R, y_TxR = chosen.split, dataset.group_R, dataset.y_scaled_TxR
    folds = enumerate(split.kept_FxR > 0)
    mixed = any(np.isin(group_R[split.fold_R == fold], group_R[kept_R]).any() for fold, kept_R in folds)
    if not (mixed and chosen.law.uses_mixture):
        return None
    if group_R.max() == 0:
        return np.full(y_TxR.shape, np.nan)
    by_mixture = split_mixtures(group_R, seed)
    theta_TxFxP = fitting.leave_out(
        chosen.law, dataset.points, y_TxR, by_mixture.kept_FxR, chosen.sigma_T, chosen.theta_TxP
    )
    return oof_predictions(chosen.law, theta_TxFxP, by_mixture, dataset)


def oof_errors(candidates: list[Candidate], dataset: Dataset, of_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Out-of-fold errors on the N rows of a mask, over the target's mean absolute deviation from its median there.

    Returns:
        errors (C, T, N), and weights of the rows (N,): the rows of a mixture together have the weight that the split
        gives it, so a run with a hundred checkpoints counts as one run.
    """
    y_TxN, group_N = dataset.y_scaled_TxR[:, of_R], dataset.group_R[of_R]
    count_N = candidates[0].split.count_R[of_R] / np.bincount(group_N)[group_N]
    naive_Tx1, naive_all_Tx1 = (
        np.average(np.abs(y - np.median(y, axis=1, keepdims=True)), axis=1, weights=w, keepdims=True)
        for y, w in ((y_TxN, count_N), (dataset.y_scaled_TxR, None))
    )
    naive_Tx1 = np.maximum(naive_Tx1, MIN_NAIVE * naive_all_Tx1)
    return np.stack([(c.oof_pred_TxR[:, of_R] - y_TxN) / naive_Tx1 for c in candidates]), count_N


def rank(candidates: list[Candidate], dataset: Dataset, holdout: str) -> tuple[pd.DataFrame, Candidate, str]:
    """Ranks candidates by their error on held-out rows and chooses one for all targets.

    `error` is the mean absolute error over that of the target's median, averaged over targets, then over mixtures by
    their weights. `worse_by` and its `standard_error` are paired differences to the best law, by mixture.

    Returns:
        the ranking (best first), the chosen law (the simplest of those that tie with the best), and the reason.
    """
    tested_R = candidates[0].split.tested_R
    y_TxR, group_R = dataset.y_scaled_TxR[:, tested_R], dataset.group_R[tested_R]
    error_CxTxR, count_R = oof_errors(candidates, dataset, tested_R)
    count_G = np.bincount(group_R, count_R)
    count_G, tested_G = count_G[count_G > 0], count_G > 0
    error_CxG = np.stack([np.bincount(group_R, count_R * e_R) for e_R in np.abs(error_CxTxR).mean(axis=1)])
    error_CxG = error_CxG[:, tested_G] / count_G
    share_G = count_G / count_G.sum()
    order = np.argsort(error_CxG @ share_G, kind="stable")
    rows = []
    for i in order:
        extra_G = error_CxG[i] - error_CxG[order[0]]
        rows.append(
            {
                "law": candidates[i].law.name,
                "parameters": candidates[i].law.n_params(len(dataset.domains)),
                "error": float(share_G @ error_CxG[i]),
                "worse_by": float(share_G @ extra_G),
                "standard_error": float(np.linalg.norm(share_G * (extra_G - share_G @ extra_G))),
                "rho": _mean_spearman(candidates[i].oof_pred_TxR[:, tested_R], y_TxR),
            }
        )
    ranking = pd.DataFrame(rows)
    chosen = _simplest_tie(ranking, [candidates[i].law for i in order])
    return ranking, candidates[order[chosen]], _reason(ranking, chosen, holdout)


def _simplest_tie(ranking: pd.DataFrame, laws: list[Law]) -> int:
    """Index of the simplest law that ties with the best: convex before others, then by parameters."""
    extra, error = ranking["worse_by"], ranking["standard_error"]
    tied = np.flatnonzero((extra <= TIE_ERRORS * error) & (extra <= TIE_SHARE * ranking["error"].iloc[0]))
    return int(min(tied, key=lambda at: (not laws[at].convex, ranking["parameters"].iloc[at])))


def _reason(ranking: pd.DataFrame, chosen: int, holdout: str) -> str:
    best = ranking.iloc[0]
    text = f"'{best['law']}' has the smallest error on {HOLDOUTS[holdout]} ({best['error']:.1%} of the naive error)"
    if len(ranking) == 1:
        return text + "; no other law was compared"
    other = ranking.iloc[max(chosen, 1)]
    text += f"; '{other['law']}' is worse by {other['worse_by']:.2%} ± {other['standard_error']:.2%}, "
    if chosen > 0:
        return text + "which is not significant, and it is simpler"
    tie = other["worse_by"] < TIE_ERRORS * other["standard_error"]
    return text + ("which is not significant" if tie else "which is significant")


def _mean_spearman(predicted_TxR: np.ndarray, y_TxR: np.ndarray) -> float:
    pairs = zip(predicted_TxR, y_TxR, strict=True)
    return float(np.mean([np.corrcoef(rankdata(p), rankdata(y))[0, 1] if np.ptp(p) > 0 else 0.0 for p, y in pairs]))
