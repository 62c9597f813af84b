"""Where descents start, and how many resamples can be paid for.

A convex law has one valley, so one start will do. Any other is followed from the best of many mixtures.
"""

from __future__ import annotations

import numpy as np

from mixscale.laws.result import LawFit
from mixscale.optimization.question import Question

RANDOM = 2000
FOLLOWED = 8
"""Starts that are followed to the end where the law is not convex."""
AFTER = 2
"""Ends of these from which each resample starts."""
BUDGET = 5e6
"""Parameters times weights differentiated at each Newton step over all resamples: about 2 s on two cores."""
FEWEST = 20


def starts(question: Question, rng: np.random.Generator) -> np.ndarray:
    """Mixtures to start from that keep the linear constraints, shape (Q, K); one for a convex law.

    They are the best, by the fitted law, of the vertices, the centre, the mixtures that were run, the one in use and
    random ones, each pulled towards the middle of what is allowed until it is allowed.
    """
    body = question.polytope
    middle_1xK = body.mixtures(body.centre_F[None])
    if question.fit.family.convex:
        return middle_1xK
    k = len(question.fit.domains)
    wide_QxK = rng.dirichlet(np.ones(k), RANDOM // 2)
    sparse_QxK = rng.dirichlet(np.full(k, 0.2), RANDOM // 2)
    known = [x for x in (question.current_K, question.prior_K) if x is not None]
    seen_GxK = np.unique(question.fit.dataset.points.h_RxK, axis=0)
    pool_QxK = np.concatenate(
        [np.eye(k), np.full((1, k), 1 / k), seen_GxK, wide_QxK, sparse_QxK, *(x[None] for x in known)]
    )
    inside_QxK = np.maximum(body.mixtures(body.inside(pool_QxK)), 0)
    value_Q = question.values(question.fit.theta_TxP[None], inside_QxK)[0]
    if ceilings := question.ceilings:
        cost_QxT = question.costs(question.fit.theta_TxP[None], inside_QxK)[0]
        f_QxT = (cost_QxT - question.offset_T) / question.unit_T
        over_Q = (f_QxT @ ceilings.share_CxT.T - ceilings.limit_BxC[0]).max(axis=1)
        value_Q = value_Q + 10 * question.size * np.maximum(over_Q, 0)
    return inside_QxK[np.argsort(value_Q, kind="stable")[:FOLLOWED]]


def affordable(fit: LawFit, each: int) -> np.ndarray:
    """Which resamples are solved when each takes so many descents: all, or as many as the budget allows.

    A Newton step differentiates every target's law by every weight, at a cost that grows with its parameters. A law of
    a few dozen parameters always affords all its resamples; one of several hundred that is not convex does not.
    """
    _, targets, parameters = fit.theta_SxTxP.shape
    count = int(BUDGET / (each * targets * parameters * len(fit.domains)))
    return np.arange(min(len(fit.theta_SxTxP), max(FEWEST, count)))
