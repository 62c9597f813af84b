"""Solves a fitted law for the mixture with the smallest weighted mean of targets, within bounds, with its doubt.

Reads a `LawFit` and nothing else. The optimum is solved once more for each resample of the fit, which gives the
region of weights that the data cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mixscale.errors import InputError
from mixscale.laws.result import LawFit
from mixscale.laws.uncertainty import LEVEL
from mixscale.mixture import Mixture
from mixscale.optimum.result import Optimum, widened
from mixscale.optimum.solver import bounds, cheapest, descend, values, within

__all__ = ["Optimum", "solve"]

RANDOM_STARTS = 2000
POLISHED = 8
"""Starts that are followed to the end where the law is not convex; of a convex law all lead to one place."""


def solve(
    fit: LawFit,
    weights: Mapping[str, float] | None = None,
    lower: Mapping[str, float] | None = None,
    upper: Mapping[str, float] | None = None,
    n_params: float | None = None,
    n_tokens: float | None = None,
    seed: int = 0,
) -> Optimum:
    """The mixture within bounds that minimises the weighted mean of the fit's targets.

    Args:
        weights: of the targets, by name; None: all equal. lower, upper: bounds of domains, by name; 0 and 1 where
            nothing is said.
        n_params, n_tokens: where to solve a law with scale.
        seed: of the random starts.

    Raises:
        InputError: a domain or target is unknown, bounds contradict each other, a scale is missing, or the seed is
            negative.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; seeds are not negative")
    low_K, high_K = bounds(fit.domains, lower, upper)
    weight_T = fit.target_weights(weights)
    starts_QxK = _starts(fit, low_K, high_K, np.random.default_rng(seed))
    value_Q = fit.predict(starts_QxK, n_params, n_tokens) @ weight_T
    first_QxK = starts_QxK[np.argsort(value_Q, kind="stable")[: 1 if fit.family.convex else POLISHED]]
    point = fit.points(first_QxK[:1], n_params, n_tokens)
    price_T = fit.seen.scale.unit_T * weight_T
    if fit.family.linear:
        best_K = cheapest(price_T @ fit.theta_TxP, low_K, high_K)
        draws_SxK = np.stack([cheapest(price_T @ theta, low_K, high_K) for theta in fit.theta_SxTxP])
    else:
        at = (price_T, float(point.n_R[0]), float(point.d_R[0]))
        every_SxTxP = np.concatenate([fit.theta_TxP[None], fit.theta_SxTxP])
        best_K, *draws = _lowest(fit, every_SxTxP, at, first_QxK, low_K, high_K)
        draws_SxK = np.stack(draws)
    return _described(fit, best_K, draws_SxK, weights, low_K, high_K, n_params, n_tokens)


def _described(fit, best_K, draws_SxK, weights, low_K, high_K, n_params, n_tokens) -> Optimum:
    domains, at = fit.domains, {"n_params": n_params, "n_tokens": n_tokens}
    mixture = Mixture.from_array(domains, best_K)
    h_1xK = mixture.array()[None]
    predicted_T = fit.predict(h_1xK, **at)[0]
    lo_1xT, hi_1xT = fit.interval(h_1xK, LEVEL, **at)
    edges_2xK = widened(fit.widening(h_1xK, weights, LEVEL, **at), best_K, draws_SxK, LEVEL)
    edges_2xK = np.clip(edges_2xK, low_K, high_K)
    return Optimum(
        mixture=mixture,
        objective=tuple(float(v[0]) for v in fit.objective(h_1xK, weights, LEVEL, **at)),
        predicted={
            t: (float(predicted_T[i]), float(lo_1xT[0, i]), float(hi_1xT[0, i])) for i, t in enumerate(fit.targets)
        },
        interval={d: (float(edges_2xK[0, k]), float(edges_2xK[1, k])) for k, d in enumerate(domains)},
        draws_SxK=draws_SxK,
        convex=fit.family.convex,
        law=fit.law,
        weights=dict(zip(fit.targets, map(float, fit.target_weights(weights)), strict=True)),
        lower=dict(zip(domains, map(float, low_K), strict=True)),
        upper=dict(zip(domains, map(float, high_K), strict=True)),
        fit=fit,
        **at,
    )


def _starts(fit: LawFit, low_K: np.ndarray, high_K: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vertices, centre, the mixtures that were run, and random ones, moved within bounds; shape (Q, K)."""
    k = len(low_K)
    wide_QxK = rng.dirichlet(np.ones(k), RANDOM_STARTS // 2)
    sparse_QxK = rng.dirichlet(np.full(k, 0.2), RANDOM_STARTS // 2)
    seen_GxK = np.unique(fit.seen.points.h_RxK, axis=0)
    points_QxK = np.concatenate([np.eye(k), np.full((1, k), 1 / k), seen_GxK, wide_QxK, sparse_QxK])
    return within(points_QxK, low_K, high_K)


def _lowest(fit, theta_SxTxP, at, starts_QxK, low_K, high_K) -> np.ndarray:
    """For each of S laws the best end of Q descents, shape (S, K)."""
    resamples, starts = len(theta_SxTxP), len(starts_QxK)
    theta_BxTxP = np.repeat(theta_SxTxP, starts, axis=0)
    h_BxK = descend(fit.family, theta_BxTxP, *at, np.tile(starts_QxK, (resamples, 1)), low_K, high_K)
    h_SxQxK = h_BxK.reshape(resamples, starts, -1)
    price_T, n, d = at
    best_S = values(fit.family, theta_BxTxP, price_T, n, d, h_BxK).reshape(resamples, starts).argmin(axis=1)
    return h_SxQxK[np.arange(resamples), best_S]
