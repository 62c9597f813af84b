"""How much a mixture that is left out counts, when laws are compared by what they predict of it.

A question is asked of mixtures among those of the table. A run far from all others, a vertex above all, says a lot to
the law that is fitted to it; left out, it asks the law for an extrapolation that nobody will ask for, misses by more
than all others together, and would choose the law by luck. Knows mixtures only.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls
from scipy.spatial.distance import cdist

FIRM = 1e3
"""Weight of the condition that shares sum to one beside those that they make up the mixture."""
TWINS, USUAL = 0.02, 0.1
"""Shares of the table's radius: two mixtures nearer than the first are one run again, as where weights are those that
were realized; and no mixture that is nearer to the others than the second is far from them."""
NEAREST = 8
"""Neighbours a domain that are tried first as the corners that surround a mixture."""


def counts(h_GxK: np.ndarray, fold_G: np.ndarray) -> np.ndarray:
    """Weight of each of G mixtures that are left out with their fold, 0 to 1; fold -1 is never left out.

    One where the mixtures that stay in surround it, or are as near as mixtures of the table usually are to the next,
    `s`; where their convex hull is farther away, at `d`, `(s/d)^2`. Memory is that of one fold's distances, and most
    mixtures take no more than the distances to the others.
    """
    weight_G = np.ones(len(h_GxK))
    if not (fold_G >= 0).any():
        return weight_G
    radius = float(np.median(np.linalg.norm(h_GxK - h_GxK.mean(axis=0), axis=1)))
    next_G, apart_G = np.full(len(h_GxK), np.nan), np.full(len(h_GxK), np.nan)
    for fold in range(int(fold_G.max()) + 1):
        apart_NxC = cdist(h_GxK[fold_G == fold], h_GxK[fold_G != fold])
        next_G[fold_G == fold] = apart_NxC.min(axis=1)
        apart_G[fold_G == fold] = np.where(apart_NxC < TWINS * radius, np.inf, apart_NxC).min(axis=1)
    usual = max(float(np.nanmedian(apart_G)), USUAL * radius)
    # No hull is farther away than its nearest corner.
    for g in np.flatnonzero(next_G > usual):
        away = _from_hull(h_GxK[g], h_GxK[fold_G != fold_G[g]], usual)
        weight_G[g] = min(1.0, usual / max(away, 1e-12)) ** 2
    return weight_G


def _from_hull(h_K: np.ndarray, corners_CxK: np.ndarray, enough: float) -> float:
    """Distance of a mixture from the convex hull of others, or some distance below `enough` where it is."""
    few = NEAREST * len(h_K)
    if len(corners_CxK) > 2 * few:
        near_N = np.argpartition(np.linalg.norm(corners_CxK - h_K, axis=1), few)[:few]
        # The hull of some of them is no nearer than that of all.
        if (away := _from_hull(h_K, corners_CxK[near_N], enough)) <= enough:
            return away
    ones_1xC = np.full((1, len(corners_CxK)), FIRM)
    share_C, _ = nnls(np.vstack([corners_CxK.T, ones_1xC]), np.append(h_K, FIRM))
    return float(np.linalg.norm(share_C @ corners_CxK / share_C.sum() - h_K))
