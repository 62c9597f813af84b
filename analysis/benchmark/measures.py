"""Compares predictions with what was measured; every number of the result tables is computed here."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from benchmark.methods import Bounds

SAME = 1e-12
"""Predictions closer than this are one; a choice among them is a draw."""


def measures(y_QxT: np.ndarray, p_QxT: np.ndarray, bounds: Bounds, order_only: bool, one_scale: bool) -> dict:
    """Means over targets of each measure.

    Args:
        order_only: the rows are of another scale than the fit, so that only their order can be compared.
        one_scale: the rows are of one size and token count, so that a mixture can be chosen among them.
    """
    found = {"rho": _mean([spearman(p_Q, y_Q) for p_Q, y_Q in zip(p_QxT.T, y_QxT.T, strict=True)])}
    if one_scale:
        found |= choice(y_QxT.mean(axis=1), p_QxT.mean(axis=1))
    if order_only:
        return found
    found["mae"] = _mean(np.abs(p_QxT - y_QxT))
    found["relative"] = _mean(np.abs(p_QxT - y_QxT) / np.abs(y_QxT))
    square_T, about_T = ((y_QxT - p_QxT) ** 2).sum(axis=0), ((y_QxT - y_QxT.mean(axis=0)) ** 2).sum(axis=0)
    found["r2"] = _mean(1 - square_T / np.maximum(about_T, 1e-300))
    if bounds is not None:
        lo_QxT, hi_QxT = bounds
        found["coverage"] = _mean((lo_QxT <= y_QxT) & (y_QxT <= hi_QxT))
        found["width"] = _mean(hi_QxT - lo_QxT)
    return found


def spearman(p_Q: np.ndarray, y_Q: np.ndarray) -> float:
    """Rank correlation; 0 where the prediction is constant."""
    if np.ptp(p_Q) <= SAME or len(p_Q) < 2 or np.ptp(y_Q) <= SAME:
        return 0.0
    return float(np.corrcoef(rankdata(p_Q), rankdata(y_Q))[0, 1])


def choice(y_Q: np.ndarray, p_Q: np.ndarray) -> dict:
    """Of the mixture with the lowest predicted mean target: how much worse it is than the best that exists, and its
    rank among them, 1 the best. Equal predictions are a draw, so both are means over it."""
    best_Q = p_Q <= p_Q.min() + SAME
    rank_Q = rankdata(y_Q, method="min")
    return {"regret": float(y_Q[best_Q].mean() - y_Q.min()), "rank": float(rank_Q[best_Q].mean())}


def _mean(values) -> float:
    return float(np.mean(values))
