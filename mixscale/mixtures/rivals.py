"""Where the optimum may lie: the mixtures that the draws of a fit hold for the best, each draw its own.

Found by a search that asks for draws only, so that any predictor will do, whether or not it has slopes or is convex.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixscale.laws.result import LawFit
from mixscale.mixtures.candidates import around, corners, distinct, within

NEAREST = 5
"""Runners-up of each draw that count as rivals, together as much as its best."""
RIVALS = 150
"""Mixtures at most that may be the optimum, those that most draws hold for it."""
ROUNDS, BROOD = 3, 400
"""Of the search for each draw's optimum where it may lie anywhere within the bounds."""


@dataclass(frozen=True)
class Place:
    """Where the optimum is wanted: the objective, its bounds, and size and tokens for a law with scale."""

    weight_T: np.ndarray
    """of the targets, negative for a score"""
    low_K: np.ndarray
    high_K: np.ndarray
    n_params: float | None
    n_tokens: float | None

    def objective(self, fit: LawFit, h_QxK: np.ndarray) -> np.ndarray:
        """Objective of each mixture by each draw, shape (S, Q)."""
        return fit.draws(h_QxK, self.n_params, self.n_tokens) @ self.weight_T


def rivals(fit: LawFit, place: Place, among, rng) -> tuple[np.ndarray, np.ndarray]:
    """Mixtures that may be the optimum, the one that now seems so first, and the share of draws for each."""
    if among is not None:
        h_QxK = distinct(np.atleast_2d(np.asarray(among, dtype=np.float64)), 9)
        value_SxQ, spread = place.objective(fit, h_QxK), len(h_QxK)
    else:
        h_QxK, value_SxQ, spread = _searched(fit, place, rng)
    # The runners-up count as well: where all draws agree on the best, it is them that it may have to beat.
    near_SxB = np.argsort(value_SxQ[:, :spread], axis=1, kind="stable")[:, :NEAREST]
    near_SxB = np.column_stack([np.tile(value_SxQ.argmin(axis=1)[:, None], NEAREST), near_SxB])
    first = int(value_SxQ.mean(axis=0).argmin())
    count_Q = np.bincount(near_SxB.reshape(-1), minlength=len(h_QxK))
    often_Q = np.argsort(-count_Q, kind="stable")[: min(RIVALS, int((count_Q > 0).sum()))]
    kept_Q = np.concatenate([[first], often_Q[often_Q != first]])
    return h_QxK[kept_Q], count_Q[kept_Q] / count_Q[kept_Q].sum()


def _searched(fit: LawFit, place: Place, rng) -> tuple[np.ndarray, np.ndarray, int]:
    """Mixtures, their values (S, Q), and how many of them are spread out; the others close in, round by round, on the
    optimum of every draw."""
    low_K, high_K = place.low_K, place.high_K
    middle_K = within(np.full((1, len(low_K)), 1 / len(low_K)), low_K, high_K)[0]
    seen_RxK = within(distinct(fit.dataset.points.h_RxK), low_K, high_K)
    h_QxK = np.concatenate(
        [corners(middle_K, low_K, high_K, rng), seen_RxK, around(middle_K, low_K, high_K, 2 * BROOD, rng)]
    )
    value_SxQ, spread = place.objective(fit, h_QxK), len(h_QxK)
    for generation in range(ROUNDS):
        parents_PxK = h_QxK[value_SxQ.argmin(axis=1)]
        pair_2xB = rng.integers(len(parents_PxK), size=(2, BROOD))
        share_Bx1 = rng.uniform(0, 1, (BROOD, 1))
        child_BxK = share_Bx1 * parents_PxK[pair_2xB[0]] + (1 - share_Bx1) * parents_PxK[pair_2xB[1]]
        # Weights change by factors, so that a domain of a percent is searched as finely as one of half of everything.
        child_BxK *= np.exp(2.0**-generation * rng.standard_normal(child_BxK.shape))
        child_BxK = within(child_BxK / child_BxK.sum(axis=1, keepdims=True), low_K, high_K)
        h_QxK = np.concatenate([h_QxK, child_BxK])
        value_SxQ = np.concatenate([value_SxQ, place.objective(fit, child_BxK)], axis=1)
    return h_QxK, value_SxQ, spread
