"""Candidate mixtures: draws around a centre, corners and edges, moved within bounds.

Arrays are in the order of the domains. This module knows nothing of losses or of how candidates are chosen.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

CORNER_SHARES = (1.0, 0.7)  # share of a corner or of the middle of an edge in a candidate, against the centre
MAX_EDGES = 200  # most edges of the simplex whose middles are candidates
HULL_FACTOR = 1.25  # by which the hull of the trained mixtures is enlarged, from their mean, for candidates


def around(centre_K: np.ndarray, low_K: np.ndarray, high_K: np.ndarray, count: int, rng: np.random.Generator):
    """Draws of Dirichlet(centre · s), s log-uniform from 1 to 2 K, moved within bounds, shape (count, K).

    Small s draws mixtures of few domains, large s mixtures near the centre, as RegMix draws them (arXiv 2407.01492).
    """
    strength_Qx1 = np.exp(rng.uniform(0.0, np.log(2 * len(centre_K)), (count, 1)))
    gamma_QxK = rng.standard_gamma(np.maximum(centre_K, 1e-3) * strength_Qx1) + 1e-12
    return within(gamma_QxK / gamma_QxK.sum(axis=1, keepdims=True), low_K, high_K)


def corners(centre_K: np.ndarray, low_K: np.ndarray, high_K: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The centre, vertices, middles of edges, and these mixed with the centre, within bounds, shape (Q, K)."""
    eye_KxK = np.eye(len(centre_K))
    first_E, second_E = np.triu_indices(len(centre_K), 1)
    if len(first_E) > MAX_EDGES:
        chosen_E = rng.choice(len(first_E), MAX_EDGES, replace=False)
        first_E, second_E = first_E[chosen_E], second_E[chosen_E]
    pure_QxK = np.concatenate([eye_KxK, 0.5 * (eye_KxK[first_E] + eye_KxK[second_E])])
    parts = [share * pure_QxK + (1 - share) * centre_K for share in CORNER_SHARES]
    return within(np.concatenate([centre_K[None], *parts]), low_K, high_K)


def near_hull(points_QxK: np.ndarray, trained_RxK: np.ndarray) -> np.ndarray:
    """Points moved towards the mean of the trained mixtures until they lie in their enlarged hull, shape (Q, K).

    A linear program finds the largest s for which mean + s (point - mean) is a convex combination of trained mixtures.
    """
    mean_K, count = trained_RxK.mean(axis=0), len(trained_RxK)
    moved_QxK = points_QxK.copy()
    for q, ray_K in enumerate(points_QxK - mean_K):
        found = optimize.linprog(
            np.r_[np.zeros(count), -1.0],
            A_eq=np.block([[trained_RxK.T, -ray_K[:, None]], [np.ones((1, count)), np.zeros((1, 1))]]),
            b_eq=np.r_[mean_K, 1.0],
            bounds=[(0, None)] * count + [(0, 1 / HULL_FACTOR)],
        )
        moved_QxK[q] = mean_K + min(1.0, HULL_FACTOR * found.x[-1]) * ray_K
    return moved_QxK


def within(points_QxK: np.ndarray, low_K: np.ndarray, high_K: np.ndarray) -> np.ndarray:
    """Nearest mixtures (Euclidean) within bounds, shape (Q, K), by bisection on a shift of all weights."""
    left, right = np.full((len(points_QxK), 1), -2.0), np.full((len(points_QxK), 1), 2.0)
    for _ in range(60):
        middle = 0.5 * (left + right)
        over = np.clip(points_QxK - middle, low_K, high_K).sum(axis=1, keepdims=True) > 1
        left, right = np.where(over, middle, left), np.where(over, right, middle)
    return np.clip(points_QxK - 0.5 * (left + right), low_K, high_K)


def distinct(points_QxK: np.ndarray, decimals: int = 4) -> np.ndarray:
    """The points without copies, in the order of their first occurrence."""
    _, first = np.unique(np.round(points_QxK, decimals), axis=0, return_index=True)
    return points_QxK[np.sort(first)]
