"""How much a mixture that is left out counts, when laws are compared by what they predict of it.

A question is asked of mixtures among those of the table. A run far from all others, a vertex above all, says a lot to
the law that is fitted to it; left out, it asks the law for an extrapolation that nobody will ask for, misses by more
than all others together, and would choose the law by luck. Knows mixtures only.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

FIRM = 1e3
"""Weight of the condition that shares sum to one beside those that they make up the mixture."""


def counts(h_GxK: np.ndarray, fold_G: np.ndarray) -> np.ndarray:
    """Weight of each of G mixtures that are left out with their fold, 0 to 1; fold -1 is never left out.

    One where the mixtures that stay in surround it, or are as near as mixtures of the table usually are to the next,
    `s`; where their convex hull is farther away, at `d`, `(s/d)^2`.
    """
    tested_G = fold_G >= 0
    weight_G = np.ones(len(h_GxK))
    apart_GxG = np.linalg.norm(h_GxK[:, None] - h_GxK, axis=-1)
    apart_GxG[fold_G[:, None] == fold_G] = np.inf
    next_G = apart_GxG.min(axis=1)
    usual = float(np.median(next_G[tested_G]))
    # No hull is farther away than its nearest corner.
    for g in np.flatnonzero(tested_G & (next_G > usual)):
        away = _from_hull(h_GxK[g], h_GxK[fold_G != fold_G[g]])
        weight_G[g] = min(1.0, usual / max(away, 1e-12)) ** 2
    return weight_G


def _from_hull(h_K: np.ndarray, corners_CxK: np.ndarray) -> float:
    """Distance of a mixture from the convex hull of others."""
    ones_1xC = np.full((1, len(corners_CxK)), FIRM)
    share_C, _ = nnls(np.vstack([corners_CxK.T, ones_1xC]), np.append(h_K, FIRM))
    return float(np.linalg.norm(share_C @ corners_CxK / share_C.sum() - h_K))
