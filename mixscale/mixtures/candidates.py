"""Mixtures that might be run: draws of every breadth around a centre, and corners, moved within bounds.

Arrays in the order of the domains; it knows nothing of losses or of how a choice among them is made.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

from mixscale.mixture import Mixture

CORNER_SHARES = (1.0, 0.7)
"""How much of a corner or an edge a near-corner keeps; the rest is the centre."""
PAIRS = 200
"""Edges of the simplex at most whose middle is offered."""
INFLATED = 1.25
"""How much farther from the middle of the mixtures that were run, than their hull is, a mixture may lie."""


def around(centre_K: np.ndarray, low_K: np.ndarray, high_K: np.ndarray, count: int, rng: np.random.Generator):
    """Draws of Dirichlet(centre · s), s log-uniform from 1 to 2 K, moved within bounds, shape (count, K).

    Small s draws mixtures of few domains, large s mixtures near the centre, as RegMix draws them (arXiv 2407.01492).
    """
    strength_Qx1 = np.exp(rng.uniform(0.0, np.log(2 * len(centre_K)), (count, 1)))
    gamma_QxK = rng.standard_gamma(np.maximum(centre_K, 1e-3) * strength_Qx1) + 1e-12
    return within(gamma_QxK / gamma_QxK.sum(axis=1, keepdims=True), low_K, high_K)


def corners(centre_K: np.ndarray, low_K: np.ndarray, high_K: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The centre, vertices, middles of edges, and the same mixed with the centre, within bounds, shape (Q, K)."""
    k = len(centre_K)
    eye_KxK = np.eye(k)
    first_E, second_E = np.triu_indices(k, 1)
    if len(first_E) > PAIRS:
        chosen_E = rng.choice(len(first_E), PAIRS, replace=False)
        first_E, second_E = first_E[chosen_E], second_E[chosen_E]
    pure_QxK = np.concatenate([eye_KxK, 0.5 * (eye_KxK[first_E] + eye_KxK[second_E])])
    parts = [share * pure_QxK + (1 - share) * centre_K for share in CORNER_SHARES]
    return within(np.concatenate([centre_K[None], *parts]), low_K, high_K)


def covered(points_QxK: np.ndarray, seen_RxK: np.ndarray) -> np.ndarray:
    """Points drawn towards the mean of the seen mixtures until they lie in their hull, inflated, shape (Q, K).

    How far the ray to a point stays in the hull is a linear programme: the largest s for which mean + s (point - mean)
    is a mean of seen mixtures.
    """
    mean_K, count = seen_RxK.mean(axis=0), len(seen_RxK)
    moved_QxK = points_QxK.copy()
    for q, away_K in enumerate(points_QxK - mean_K):
        found = optimize.linprog(
            np.r_[np.zeros(count), -1.0],
            A_eq=np.block([[seen_RxK.T, -away_K[:, None]], [np.ones((1, count)), np.zeros((1, 1))]]),
            b_eq=np.r_[mean_K, 1.0],
            bounds=[(0, None)] * count + [(0, 1 / INFLATED)],
        )
        moved_QxK[q] = mean_K + min(1.0, INFLATED * found.x[-1]) * away_K
    return moved_QxK


def centre(domains: tuple[str, ...], natural: Mixture | None) -> np.ndarray:
    """What draws are spread around, shape (K,): the natural mixture flattened by a square root, or the uniform one."""
    if natural is None:
        return np.full(len(domains), 1 / len(domains))
    return natural.tempered(0.5).array(domains)


def within(points_QxK: np.ndarray, low_K: np.ndarray, high_K: np.ndarray) -> np.ndarray:
    """Nearest mixtures (Euclidean) that keep the bounds, shape (Q, K), by bisection on the shift of all weights."""
    left, right = np.full((len(points_QxK), 1), -2.0), np.full((len(points_QxK), 1), 2.0)
    for _ in range(60):
        middle = 0.5 * (left + right)
        over = np.clip(points_QxK - middle, low_K, high_K).sum(axis=1, keepdims=True) > 1
        left, right = np.where(over, middle, left), np.where(over, right, middle)
    return np.clip(points_QxK - 0.5 * (left + right), low_K, high_K)


def distinct(points_QxK: np.ndarray, decimals: int = 4) -> np.ndarray:
    """The points with copies left out, in the order in which they first come."""
    _, first = np.unique(np.round(points_QxK, decimals), axis=0, return_index=True)
    return points_QxK[np.sort(first)]
