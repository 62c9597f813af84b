"""Minimises a law over the simplex with bounds: many laws (targets, resamples) and many starts in one batch.

A linear law is filled up exactly; any other goes through a barrier Newton method in JAX, float64, whose error is
bounded by the last barrier where the law is convex. Arrays only, but for the names that a contradiction is told by.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.errors import InputError, nearest
from mixscale.laws.families import UNLIMITED, Law, Points

STEPS = 60
BARRIER = (1e-1, 1e-11)
"""First and last weight of the barrier, in units of the objective; a convex optimum is within 2 K times the last."""
SNAP = 1e-6
"""A weight this near its bound is put on it where that is no worse."""


def bounds(
    domains: tuple[str, ...], lower: Mapping[str, float] | None, upper: Mapping[str, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest weight of every domain in the order of `domains`, shapes (K,), (K,).

    Raises:
        InputError: an unknown domain, a bound outside 0..1, or bounds that no mixture can keep.
    """
    low_K, high_K = np.zeros(len(domains)), np.ones(len(domains))
    for kind, given, bound_K in (("lower", lower, low_K), ("upper", upper, high_K)):
        for domain, value in (given or {}).items():
            if domain not in domains:
                raise InputError(f"{kind} bound of '{domain}', which the fit has not{nearest(domain, domains)}")
            if not 0 <= value <= 1:
                raise InputError(f"{kind} bound of '{domain}' is {value:g}; bounds of weights lie in 0 to 1")
            bound_K[domains.index(domain)] = value
    for domain, low, high in zip(domains, low_K, high_K, strict=True):
        if low > high:
            raise InputError(f"bounds of '{domain}' contradict each other: lower {low:g} is above upper {high:g}")
    if low_K.sum() > 1 + 1e-9:
        listed = " + ".join(f"{d} {v:g}" for d, v in zip(domains, low_K, strict=True) if v > 0)
        raise InputError(f"lower bounds contradict each other: {listed} = {low_K.sum():.4g}, which is more than 1")
    if high_K.sum() < 1 - 1e-9:
        listed = " + ".join(f"{d} {v:g}" for d, v in zip(domains, high_K, strict=True))
        raise InputError(f"upper bounds contradict each other: {listed} = {high_K.sum():.4g}, which is less than 1")
    return low_K, high_K


def within(points_QxK: np.ndarray, low_K: np.ndarray, high_K: np.ndarray) -> np.ndarray:
    """Nearest mixtures (Euclidean) that keep the bounds, shape (Q, K), by bisection on the shift of all weights."""
    shape = (len(points_QxK), 1)
    left, right = np.full(shape, -2.0), np.full(shape, 2.0)
    for _ in range(60):
        middle = 0.5 * (left + right)
        over = np.clip(points_QxK - middle, low_K, high_K).sum(axis=1, keepdims=True) > 1
        left, right = np.where(over, middle, left), np.where(over, right, middle)
    return np.clip(points_QxK - 0.5 * (left + right), low_K, high_K)


def cheapest(price_K: np.ndarray, low_K: np.ndarray, high_K: np.ndarray) -> np.ndarray:
    """Exact minimum of a linear objective: fill domains up to their bounds, cheapest first."""
    h_K, left = low_K.copy(), 1.0 - low_K.sum()
    for k in np.argsort(price_K, kind="stable"):
        step = min(left, high_K[k] - low_K[k])
        h_K[k] += step
        left -= step
    return h_K


def descend(law: Law, theta_BxTxP, unit_T, n: float, d: float, start_BxK, low_K, high_K) -> np.ndarray:
    """Local minima of `Σ_t unit_t f(theta_t, h)` within bounds from B starts, shape (B, K).

    Newton steps on the objective with a logarithmic barrier at the bounds, which shrinks from step to step (Boyd and
    Vandenberghe 2004, chapter 11). The result is never worse than the start.
    """
    room = float((high_K - low_K).sum())
    share = (1.0 - float(low_K.sum())) / room if room > 0 else 0.0
    if share < 1e-9 or share > 1 - 1e-9:
        return np.tile(within(((low_K + high_K) / 2)[None], low_K, high_K), (len(start_BxK), 1))
    # Bounds that meet leave the barrier no room, so they are held a hair apart and closed again at the end.
    gap_K = np.maximum(high_K - low_K, 1e-8)
    centre_K = low_K + share * gap_K
    inside_BxK = 0.9 * start_BxK + 0.1 * centre_K
    with jax.enable_x64(True):
        found_BxK = np.asarray(_newton(law)(theta_BxTxP, unit_T, n, d, inside_BxK, low_K, low_K + gap_K))
    found_BxK = within(found_BxK, low_K, high_K)
    near_BxK = np.where(found_BxK < low_K + SNAP, low_K, np.where(found_BxK > high_K - SNAP, high_K, found_BxK))
    choices_CxBxK = np.stack([within(near_BxK, low_K, high_K), found_BxK, start_BxK])
    value_CxB = np.stack([values(law, theta_BxTxP, unit_T, n, d, h_BxK) for h_BxK in choices_CxBxK])
    return choices_CxBxK[value_CxB.argmin(axis=0), np.arange(len(start_BxK))]


def values(law: Law, theta_BxTxP, unit_T, n: float, d: float, h_BxK) -> np.ndarray:
    """The objective of each of B laws at its own mixture, less its constant, shape (B,)."""
    with jax.enable_x64(True):
        return np.asarray(_value(law)(theta_BxTxP, unit_T, n, d, h_BxK))


def _objective(law, theta_TxP, unit_T, n, d, h_K):
    x = Points(h_K[None], jnp.full(1, n), jnp.full(1, d), jnp.full((1, len(h_K)), UNLIMITED))
    return unit_T @ jax.vmap(lambda theta_P: law.f(theta_P, x)[0])(theta_TxP)


@functools.cache
def _value(law: Law):
    return jax.jit(jax.vmap(functools.partial(_objective, law), in_axes=(0, None, None, None, 0)))


@functools.cache
def _newton(law: Law):
    """Jitted barrier Newton over a batch of (theta, start)."""

    def one(theta_TxP, unit_T, n, d, start_K, low_K, high_K):
        def objective(h_K):
            return _objective(law, theta_TxP, unit_T, n, d, h_K)

        def with_barrier(h_K, barrier):
            left_K, right_K = h_K - low_K, high_K - h_K
            inside = (left_K > 0) & (right_K > 0)
            logs_K = jnp.where(inside, jnp.log(jnp.where(inside, left_K * right_K, 1.0)), -jnp.inf)
            value = objective(h_K) - barrier * logs_K.sum()
            return jnp.where(jnp.isfinite(value), value, jnp.inf)

        def step(count, h_K):
            barrier = BARRIER[0] * (BARRIER[1] / BARRIER[0]) ** (jnp.minimum(count, STEPS - 6) / (STEPS - 6))
            left_K, right_K = h_K - low_K, high_K - h_K
            gradient_K = jax.grad(objective)(h_K) - barrier * (1 / left_K - 1 / right_K)
            curve_KxK = jax.hessian(objective)(h_K)
            if not law.convex:
                values_K, vectors_KxK = jnp.linalg.eigh(curve_KxK)
                curve_KxK = (vectors_KxK * jnp.abs(values_K)) @ vectors_KxK.T
            # Scaled by the distance to the bounds, so that a weight of 1e-10 does not spoil the conditioning.
            near_K = jnp.minimum(left_K, right_K)
            matrix_KxK = near_K[:, None] * curve_KxK * near_K
            matrix_KxK += jnp.diag(barrier * ((near_K / left_K) ** 2 + (near_K / right_K) ** 2))
            factor = (jnp.linalg.cholesky(matrix_KxK + 1e-15 * jnp.eye(len(h_K))), True)
            slope_K = near_K * jax.scipy.linalg.cho_solve(factor, near_K * gradient_K)
            ones_K = near_K * jax.scipy.linalg.cho_solve(factor, near_K)
            move_K = ones_K * (slope_K.sum() / ones_K.sum()) - slope_K
            move_K = jnp.where(jnp.isfinite(move_K).all(), move_K - move_K.mean(), 0.0)
            room_K = jnp.where(move_K < 0, left_K, right_K) / jnp.maximum(jnp.abs(move_K), 1e-300)
            longest = jnp.minimum(1.0, 0.98 * room_K.min())
            lengths_L = jnp.concatenate([longest * 0.5 ** jnp.arange(12.0), jnp.zeros(1)])
            trials_LxK = h_K + lengths_L[:, None] * move_K
            return trials_LxK[jnp.argmin(jax.vmap(with_barrier, in_axes=(0, None))(trials_LxK, barrier))]

        return jax.lax.fori_loop(0, STEPS, step, start_K)

    return jax.jit(jax.vmap(one, in_axes=(0, None, None, None, 0, None, None)))
