"""How a run would tell the rivals for the optimum apart: covariances of candidates and contrasts, by a fit's draws.

Draws say what the data leave open about the law. What no draw of a law can say, where the law itself is wrong, is a
smooth random function given the mixtures that were run; its size is taken from the residuals.
"""

from __future__ import annotations

import numpy as np

from mixscale.laws.calibration import ROBUST
from mixscale.laws.result import LawFit
from mixscale.mixtures.candidates import distinct
from mixscale.mixtures.doubt import Doubt
from mixscale.mixtures.optimal import smooth_covariance
from mixscale.mixtures.rivals import Place

LARGEST = 3e7
"""Entries of all covariances; where candidates would make more, those that teach most by themselves are kept."""
MISFIT = 0.5
"""Share of the residual variance that is the law's own error rather than a run's, where no run was repeated."""
REACH = 0.7
"""Standard deviation of a run that the law explains less well the less is known of it, over the draws' spread there:
what a law says of a far corner counts less for mixtures near the optimum than a true law's draws have it."""
LEAST = 0.2
"""Share of the left-out residuals' variance that is a run's and the law's own error at least."""


def contrasts(fit: LawFit, place: Place, goal_QxK, share_Q, h_NxK, n_N, d_N) -> tuple[Doubt, np.ndarray]:
    """The doubt about contrasts with the first goal, and which candidates are in it, shape (N',).

    Each target is an unknown of its own, weighted by the square of its weight: their errors are taken for independent.

    Args:
        share_Q: how much each goal counts, summing to one. n_N, d_N: size and tokens of each candidate.
    """
    counts_T = place.weight_T != 0
    goal_MxSxQ = _spread(fit, counts_T, goal_QxK, place.n_params, place.n_tokens)
    goal_MxSxQ = goal_MxSxQ - goal_MxSxQ[:, :, :1]
    run_MxSxN = _spread(fit, counts_T, h_NxK, n_N, d_N)
    noise_M, misfit_M = (value_T[counts_T] for value_T in _errors(fit))
    misfit_Mx1x1 = misfit_M[:, None, None] ** 2
    scale_MxQ = np.abs(place.weight_T[counts_T])[:, None] * np.sqrt(share_Q)

    smooth_QxQ, smooth_QxN = _unseen(fit, goal_QxK, goal_QxK), _unseen(fit, goal_QxK, h_NxK)
    cross_MxQxN = goal_MxSxQ.transpose(0, 2, 1) @ run_MxSxN + misfit_Mx1x1 * (smooth_QxN - smooth_QxN[0])
    cross_MxQxN *= scale_MxQ[:, :, None]
    contrast_Q = np.diag(smooth_QxQ) + smooth_QxQ[0, 0] - 2 * smooth_QxQ[0]
    variance_MxQ = (goal_MxSxQ**2).sum(axis=1) + misfit_M[:, None] ** 2 * contrast_Q
    left = float((variance_MxQ * scale_MxQ**2).sum())

    spread_MxN = (run_MxSxN**2).sum(axis=1)
    noise_MxN = noise_M[:, None] ** 2 + REACH**2 * spread_MxN
    own_MxN = spread_MxN + misfit_M[:, None] ** 2 + noise_MxN
    alone_N = (cross_MxQxN**2 / own_MxN[:, None, :]).sum(axis=(0, 1))
    kept_N = np.sort(np.argsort(-alone_N, kind="stable")[: int(np.sqrt(LARGEST / len(noise_M)))])
    run_MxSxN = run_MxSxN[:, :, kept_N]
    runs_MxNxN = run_MxSxN.transpose(0, 2, 1) @ run_MxSxN + misfit_Mx1x1 * _unseen(fit, h_NxK[kept_N], h_NxK[kept_N])
    return Doubt(runs_MxNxN, cross_MxQxN[:, :, kept_N], left, noise_MxN[:, kept_N]), kept_N


def _spread(fit: LawFit, counts_T: np.ndarray, h_QxK, n_params, n_tokens) -> np.ndarray:
    """Draws of the losses of targets that count, less their mean; squares sum to variances, shape (M, S, Q)."""
    scale = (n_params, n_tokens) if fit.uses_scale else (None, None)
    draws_MxSxQ = fit.draws(h_QxK, *scale)[:, :, counts_T].transpose(2, 0, 1)
    return (draws_MxSxQ - draws_MxSxQ.mean(axis=1, keepdims=True)) / np.sqrt(draws_MxSxQ.shape[1] - 1)


def _errors(fit: LawFit) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of a run about its law, and of the law about the truth, in the targets' units, (T,).

    From left-out residuals, less what the draws that lack the mixture as well already hold in doubt.
    """
    tested_R = np.isfinite(fit.oof_pred_TxR[0])
    known_TxR = np.abs(fit.dataset.y_TxR - fit.oof_pred_TxR)[:, tested_R]
    outside_T = np.maximum(ROBUST * np.median(known_TxR, axis=1), 1e-6 * np.abs(fit.dataset.y_TxR).max(axis=1))
    drawn_T = np.median(fit.oof_bootstrap_VxTxR[:, :, tested_R].var(axis=0, ddof=1), axis=1)
    residual_T = np.sqrt(np.maximum(outside_T**2 - drawn_T, LEAST * outside_T**2))
    seed_T = [fit.noise[t] for t in fit.targets]
    if any(s is None for s in seed_T):
        return residual_T * np.sqrt(1 - MISFIT), residual_T * np.sqrt(MISFIT)
    noise_T = np.maximum(np.array(seed_T, dtype=np.float64), 1e-3 * residual_T)
    return noise_T, np.sqrt(np.maximum(residual_T**2 - noise_T**2, 0.0))


def _unseen(fit: LawFit, h_GxK: np.ndarray, h_NxK: np.ndarray) -> np.ndarray:
    """Covariance of the smooth random function at two sets of mixtures, given those that were run, shape (G, N)."""
    seen_RxK = distinct(fit.dataset.points.h_RxK, 9)
    factor_RxR = np.linalg.cholesky(smooth_covariance(seen_RxK) + MISFIT * np.eye(len(seen_RxK)))
    part_RxG, part_RxN = (np.linalg.solve(factor_RxR, smooth_covariance(seen_RxK, h_AxK)) for h_AxK in (h_GxK, h_NxK))
    return smooth_covariance(h_GxK, h_NxK) - part_RxG.T @ part_RxN
