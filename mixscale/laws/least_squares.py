"""Levenberg-Marquardt for many least-squares problems at once, in JAX and float64.

One compiled program runs many lanes, one problem a lane. A lane that has converged takes the next problem after a few
steps, so a slow problem does not delay the others. This module sees arrays only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.laws.families import Law, Points

HUBER = 1.345  # residuals beyond this many sigmas count linearly
MAD_TO_STD = 1.4826  # standard deviation of a normal variable over its median absolute deviation
TOLERANCE = 1e-7
ITERATIONS, STRIDE = 80, 8  # maximum number of steps of a problem, and of steps between refills of the lanes
DAMPING, MAX_DAMPING = 1e-2, 1e7
MAX_PRIOR_SHIFT = 2.0  # a prior mean shifts by no more than this; a wider prior only bounds the search
ROW_MULTIPLE = 16
LANE_BYTES, LANES = 2**23, (8, 64)  # memory for the Jacobians of all lanes, and the bounds of the number of lanes


def minimize(
    law: Law,
    points: Points,
    y_BxR: np.ndarray,
    weights_BxR: np.ndarray,
    sigma_B: np.ndarray,
    start_BxP: np.ndarray,
    tolerance: float = TOLERANCE,
    prior_shift_BxP: np.ndarray | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimum of B problems within the law's bounds, shape (B, P), and the cost of each, shape (B,).

    The cost is `Σ_i w_i huber((f - y_i)/y_i; 2σ) / 2σ² + Σ_p ((θ_p - mean_p)/std_p)² / 2`.

    Args:
        y_BxR: positive losses in units of order one. weights_BxR: non-negative. sigma_B: relative noise.
        tolerance: stop after a step that lowers the cost by less than this share.
        prior_shift_BxP: shift of each problem's prior mean, in standard deviations of the prior or `MAX_PRIOR_SHIFT`.
        on_batch: called with the number of problems that have ended.
    """
    count, width = start_BxP.shape
    wide = points.padded(ROW_MULTIPLE)
    extra = ((0, 0), (0, wide.count - points.count))
    y_BxR, weights_BxR = np.pad(y_BxR, extra, constant_values=1.0), np.pad(weights_BxR, extra)
    lanes = int(np.clip(LANE_BYTES // (8 * wide.count * width), *LANES))
    lower_P, upper_P, mean_P, std_P = law.priors(wide.h_RxK.shape[1])
    mean_BxP = np.tile(mean_P, (count, 1))
    if prior_shift_BxP is not None:
        mean_BxP += prior_shift_BxP * np.minimum(1.0, MAX_PRIOR_SHIFT / std_P) * std_P
    theta_BxP, cost_B = np.array(start_BxP, dtype=np.float64), np.empty(count)
    waiting = list(range(count))[::-1]
    of_L, steps_L = np.zeros(lanes, dtype=int), np.zeros(lanes, dtype=int)
    damping_L, live_L = np.full(lanes, DAMPING), np.zeros(lanes, dtype=bool)
    # One program at a time: two batched factorizations deadlock in XLA's thread pool.
    with jax.enable_x64(True):
        while waiting or live_L.any():
            for lane in np.flatnonzero(~live_L)[: len(waiting)]:
                of_L[lane], steps_L[lane], damping_L[lane], live_L[lane] = waiting.pop(), 0, DAMPING, True
            batch = (y_BxR[of_L], weights_BxR[of_L], sigma_B[of_L], mean_BxP[of_L], theta_BxP[of_L])
            found = _stride(law)(wide, lower_P, upper_P, std_P, tolerance, *batch, damping_L, steps_L, ~live_L)
            theta_LxP, cost_L, damping_L, steps_L, done_L = map(np.array, found)
            theta_BxP[of_L[live_L]], cost_B[of_L[live_L]] = theta_LxP[live_L], cost_L[live_L]
            ended_L = live_L & (done_L | (steps_L >= ITERATIONS))
            live_L &= ~ended_L
            if on_batch and ended_L.any():
                on_batch(int(ended_L.sum()))
    return theta_BxP, cost_B


def _huber(r: jax.Array) -> jax.Array:
    size = jnp.abs(r)
    return jnp.where(size <= HUBER, 0.5 * r**2, HUBER * (size - 0.5 * HUBER))


def jacobian(law: Law):
    """Function of the losses of all rows and their derivatives by the parameters."""

    def row(theta_P, point):
        return law.f(theta_P, jax.tree.map(lambda x: x[None], point))[0]

    # Rows are independent, so one gradient a row gives the Jacobian for the cost of three losses.
    return jax.vmap(jax.value_and_grad(row), in_axes=(None, 0))


@functools.cache
def _stride(law: Law):
    """Jitted: up to STRIDE steps of every lane; bounds by an active set, Huber by reweighting."""
    slopes = jacobian(law)

    def solve_one(points, lower_P, upper_P, std_P, tolerance, y_R, w_R, sigma, mean_P, theta_P, damping, steps, done):
        def model(theta_P):
            loss_R, slope_RxP = slopes(theta_P, points)
            r_R = (loss_R - y_R) / y_R / sigma
            root_R = jnp.sqrt(w_R * jnp.minimum(1.0, HUBER / jnp.maximum(jnp.abs(r_R), 1e-30)))
            # Without the barrier XLA recomputes the slopes for every product, which takes four times as long.
            slope_RxP = jax.lax.optimization_barrier(slope_RxP * (root_R / (y_R * sigma))[:, None])
            prior_P = (theta_P - mean_P) / std_P
            cost = w_R @ _huber(r_R) + 0.5 * jnp.sum(prior_P**2)
            gradient_P = (root_R * r_R) @ slope_RxP + prior_P / std_P
            hessian_PxP = slope_RxP.T @ slope_RxP + jnp.diag(std_P**-2)
            return jnp.where(jnp.isfinite(cost), cost, jnp.inf), gradient_P, hessian_PxP

        def step(state):
            theta_P, cost, gradient_P, hessian_PxP, damping, steps, _ = state
            pinned_P = ((theta_P <= lower_P) & (gradient_P > 0)) | ((theta_P >= upper_P) & (gradient_P < 0))
            free_P = ~pinned_P
            diagonal_P = jnp.diag(hessian_PxP)
            matrix_PxP = jnp.where(free_P[:, None] & free_P, hessian_PxP, 0.0)
            matrix_PxP = matrix_PxP + jnp.diag(jnp.where(free_P, damping * diagonal_P, 1.0))
            move_P = jax.scipy.linalg.cho_solve(
                (jnp.linalg.cholesky(matrix_PxP), True), jnp.where(free_P, -gradient_P, 0.0)
            )
            trial_P = jnp.clip(theta_P + move_P, lower_P, upper_P)
            trial_cost, trial_gradient_P, trial_hessian_PxP = model(trial_P)
            better = trial_cost < cost
            small = (cost - trial_cost) < tolerance * (1e-3 + jnp.abs(cost))
            keep = functools.partial(jnp.where, better)
            return (
                keep(trial_P, theta_P),
                keep(trial_cost, cost),
                keep(trial_gradient_P, gradient_P),
                keep(trial_hessian_PxP, hessian_PxP),
                jnp.where(better, damping / 6, damping * 5),
                steps + 1,
                (better & small) | (damping > MAX_DAMPING),
            )

        last = jnp.minimum(steps + STRIDE, ITERATIONS)
        begin = (theta_P, *model(theta_P), damping, steps, done)
        end = jax.lax.while_loop(lambda s: ~s[-1] & (s[-2] < last), step, begin)
        return end[0], end[1], *end[4:]

    return jax.jit(jax.vmap(solve_one, in_axes=(None,) * 5 + (0,) * 8))
