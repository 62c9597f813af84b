"""Fits any family to many problems at once: targets, starts, folds and resamples are one batch.

A problem is a vector of losses, a weight for each row (0 for a held-out row, a random number for a resample) and a
starting point. A batched Levenberg-Marquardt in JAX, float64, solves the batch; SciPy finishes the point fits. This
module sees arrays only, no table and no names.

`evaluate`, `fit_points`, `solve` and `leave_out` are what every kind of law answers to. They are written here for
families of formulas; `process` and `stack` register their own for a Gaussian process and for a mean of laws.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from mixscale.laws.families import Law, Points

HUBER = 1.345
"""Residuals beyond this many sigmas count linearly."""
STARTS = 6
ITERATIONS = 80
TOLERANCE, ROUGHLY = 1e-7, 1e-4
"""Share of the cost that a last step gains: in point fits, and in refits, whose cost is known to no such precision."""
SETTLED, AT_REST, PATIENCE = 1e-10, 0.3, 4
"""The same where basins are counted, the gain of a whole search that ends it, and how many searches there may be."""
ROW_MULTIPLE = 16
BATCH_BYTES = 2**25
"""Largest Jacobian of a batch, which decides how many problems are solved together."""


@functools.singledispatch
def evaluate(law: Law, theta_BxP: np.ndarray, points: Points) -> np.ndarray:
    """Losses of B parameter vectors at R points, float64, shape (B, R)."""
    count = points.count
    wide = points.padded(1 << max(3, (count - 1).bit_length()) if count < 4096 else 4096)
    with jax.enable_x64(True):
        parts = [
            np.asarray(_evaluator(law)(part, wide))
            for part in np.array_split(theta_BxP, max(1, -(-theta_BxP.shape[0] * wide.count // 2**23)))
        ]
    return np.concatenate(parts)[:, :count]


@functools.singledispatch
def solve(
    law: Law,
    points: Points,
    y_BxR: np.ndarray,
    weights_BxR: np.ndarray,
    sigma_B: np.ndarray,
    start_BxP: np.ndarray,
    on_batch=None,
) -> np.ndarray:
    """Parameters that fit each problem best, shape (B, P), from a start near by.

    Args:
        y_BxR: positive losses in units of order one. weights_BxR: non-negative. sigma_B: relative noise.
        on_batch: called with the number of problems after each batch.
    """
    return _minimise(law, points, y_BxR, weights_BxR, sigma_B, start_BxP, ROUGHLY, on_batch)[0]


@functools.singledispatch
def leave_out(
    law: Law, points: Points, y_TxR: np.ndarray, kept_FxR: np.ndarray, sigma_T: np.ndarray, theta_TxP: np.ndarray
) -> np.ndarray:
    """Parameters fitted to the rows that each fold keeps, shape (T, F, P), from those fitted to all rows."""
    targets, folds = len(y_TxR), len(kept_FxR)
    # To the end: a fit that stops near its start would remember the rows it should not know.
    theta_BxP, _ = _minimise(
        law,
        points,
        np.repeat(y_TxR, folds, axis=0),
        np.tile(kept_FxR, (targets, 1)),
        np.repeat(sigma_T, folds),
        np.repeat(theta_TxP, folds, axis=0),
    )
    return theta_BxP.reshape(targets, folds, -1)


@functools.singledispatch
def fit_points(law: Law, points: Points, y_TxR: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Point fits of every target: several starts, the noise from their residuals, then SciPy's last steps.

    Returns:
        theta_TxP and the relative noise sigma_T that the final fit assumed.
    """
    targets = len(y_TxR)
    theta_TxSxP, cost_TxS = _from_starts(law, points, y_TxR, seed)
    theta_TxP = theta_TxSxP[np.arange(targets), cost_TxS.argmin(axis=1)]
    ones, spread_T = np.ones_like(y_TxR), _spread(y_TxR)
    for _ in range(2):
        sigma_T = np.maximum(_noise(law, points, y_TxR, theta_TxP), 1e-3 * spread_T)
        theta_TxP, _ = _minimise(law, points, y_TxR, ones, sigma_T, theta_TxP)
    finished = [_finish(law, points, y, s, theta) for y, s, theta in zip(y_TxR, sigma_T, theta_TxP, strict=True)]
    return np.stack(finished), sigma_T


def basins(
    law: Law, points: Points, y_TxR: np.ndarray, sigma_T: np.ndarray, theta_TxP: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where the fit and the starts of `fit_points` end with the noise that the fit assumed, and more patience.

    Returns:
        the cost from the fit, shape (T,), and from each start, shape (T, STARTS): negative log posteriors but for a
        constant, so a difference of one half is one standard error.
    """
    begin_TxSxP = np.concatenate([theta_TxP[:, None], _from_starts(law, points, y_TxR, seed)[0]], axis=1)
    targets, starts, _ = begin_TxSxP.shape
    y_BxR, sigma_B = np.repeat(y_TxR, starts, axis=0), np.repeat(sigma_T, starts)
    theta_BxP, cost_B = begin_TxSxP.reshape(targets * starts, -1), np.full(targets * starts, np.inf)
    moving_N = np.arange(len(cost_B))
    for _ in range(PATIENCE):
        y_NxR = y_BxR[moving_N]
        theta_BxP[moving_N], cost_N = _minimise(
            law, points, y_NxR, np.ones_like(y_NxR), sigma_B[moving_N], theta_BxP[moving_N], SETTLED
        )
        gained_N = cost_B[moving_N] - cost_N
        cost_B[moving_N] = cost_N
        # A long valley looks like many basins to starts that were stopped on their way along it.
        moving_N = moving_N[gained_N > AT_REST]
        if not len(moving_N):
            break
    cost_TxS = cost_B.reshape(targets, starts)
    return cost_TxS[:, 0], cost_TxS[:, 1:]


def linearised(law: Law, points: Points, y_TxR: np.ndarray, theta_TxP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Relative residuals of each target, shape (T, R), and their derivatives by its parameters, shape (T, R, P)."""
    with jax.enable_x64(True):
        both = jax.jit(_jacobian(law))
        rows = [both(theta_P, points) for theta_P in theta_TxP]
        loss_TxR, slope_TxRxP = (np.stack([np.asarray(x) for x in parts]) for parts in zip(*rows, strict=True))
    return loss_TxR / y_TxR - 1, slope_TxRxP / y_TxR[..., None]


def _from_starts(law: Law, points: Points, y_TxR: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each start ends with a rough guess of the noise, shape (T, STARTS, P), and its cost, shape (T, STARTS)."""
    targets = len(y_TxR)
    starts_SxP = law.starts(np.random.default_rng(seed), points.h_RxK.shape[1], STARTS)
    y_BxR = np.repeat(y_TxR, STARTS, axis=0)
    rough_B = np.repeat(np.maximum(0.05 * _spread(y_TxR), 1e-6), STARTS)
    theta_BxP, cost_B = _minimise(law, points, y_BxR, np.ones_like(y_BxR), rough_B, np.tile(starts_SxP, (targets, 1)))
    return theta_BxP.reshape(targets, STARTS, -1), cost_B.reshape(targets, STARTS)


def _spread(y_TxR: np.ndarray) -> np.ndarray:
    """Standard deviation of each target over its mean, shape (T,)."""
    return np.std(y_TxR / y_TxR.mean(axis=1, keepdims=True), axis=1)


def _minimise(
    law: Law,
    points: Points,
    y_BxR: np.ndarray,
    weights_BxR: np.ndarray,
    sigma_B: np.ndarray,
    start_BxP: np.ndarray,
    tolerance: float = TOLERANCE,
    on_batch=None,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise, for each problem, `Σ_i w_i huber((f - y_i)/y_i; 2σ) / 2σ² + Σ_p ((θ_p - mean_p)/std_p)² / 2`.

    Returns:
        theta_BxP within the law's bounds, and the cost, shape (B,).
    """
    problems, k = len(y_BxR), points.h_RxK.shape[1]
    wide = points.padded(ROW_MULTIPLE)
    extra = wide.count - points.count
    y_BxR = np.pad(y_BxR, ((0, 0), (0, extra)), constant_values=1.0)
    weights_BxR = np.pad(weights_BxR, ((0, 0), (0, extra)))
    size = int(np.clip(BATCH_BYTES // (8 * wide.count * start_BxP.shape[1]), 4, 64))
    limits = [law.spread(field, k) for field in ("lower", "upper", "mean", "std")]
    thetas, costs = [], []
    with jax.enable_x64(True):
        for at in range(0, problems, size):
            index = np.minimum(np.arange(at, at + size), problems - 1)
            batch = (y_BxR[index], weights_BxR[index], sigma_B[index], start_BxP[index])
            theta_BxP, cost_B = _solver(law)(wide, *limits, tolerance, *batch)
            thetas.append(np.asarray(theta_BxP))
            costs.append(np.asarray(cost_B))
            if on_batch:
                on_batch(min(size, problems - at))
    return np.concatenate(thetas)[:problems], np.concatenate(costs)[:problems]


def _noise(law: Law, points: Points, y_TxR: np.ndarray, theta_TxP: np.ndarray) -> np.ndarray:
    """Robust relative scale of the residuals, corrected for the parameters spent, shape (T,)."""
    residual_TxR = (evaluate(law, theta_TxP, points) - y_TxR) / y_TxR
    rows, spent = y_TxR.shape[1], theta_TxP.shape[1]
    freedom = np.sqrt(rows / max(rows - spent, rows / 4))
    return 1.4826 * np.median(np.abs(residual_TxR), axis=1) * freedom


def _finish(law: Law, points: Points, y_R: np.ndarray, sigma: float, theta_P: np.ndarray) -> np.ndarray:
    """SciPy's L-BFGS-B from the batched solution, with exact derivatives; keeps the better of the two."""
    wide = points.padded(ROW_MULTIPLE)
    extra = wide.count - points.count
    k = points.h_RxK.shape[1]
    lower_P, upper_P, mean_P, std_P = (law.spread(f, k) for f in ("lower", "upper", "mean", "std"))
    fixed = (wide, mean_P, std_P, np.pad(y_R, (0, extra), constant_values=1.0))
    weights_R = np.pad(np.ones(points.count), (0, extra))
    with jax.enable_x64(True):
        slope = _slope(law)

        def cost_and_gradient(theta):
            cost, gradient_P = slope(theta, *fixed, weights_R, sigma)
            return float(cost), np.asarray(gradient_P)

        begin = cost_and_gradient(theta_P)[0]
        found = optimize.minimize(
            cost_and_gradient,
            theta_P,
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([lower_P, upper_P], axis=1),
            options={"maxiter": 50},
        )
    return found.x if found.fun < begin else theta_P


def _huber(r: jax.Array, delta: jax.Array) -> jax.Array:
    size = jnp.abs(r)
    return jnp.where(size <= delta, 0.5 * r**2, delta * (size - 0.5 * delta))


def _cost(law, theta_P, points, mean_P, std_P, y_R, w_R, sigma):
    r_R = (law.f(theta_P, points) - y_R) / y_R / sigma
    return w_R @ _huber(r_R, HUBER) + 0.5 * jnp.sum(((theta_P - mean_P) / std_P) ** 2)


@functools.cache
def _slope(law: Law):
    return jax.jit(jax.value_and_grad(functools.partial(_cost, law)))


@functools.cache
def _evaluator(law: Law):
    return jax.jit(jax.vmap(law.f, in_axes=(0, None)))


def _jacobian(law: Law):
    """Losses of all rows and their derivatives by the parameters."""

    def row(theta_P, point):
        return law.f(theta_P, jax.tree.map(lambda x: x[None], point))[0]

    # Rows do not depend on each other, so a gradient a row is the whole Jacobian at the price of three losses.
    return jax.vmap(jax.value_and_grad(row), in_axes=(None, 0))


@functools.cache
def _solver(law: Law):
    """Jitted Levenberg-Marquardt over a batch; bounds by an active set, Huber by reweighting."""
    jacobian = _jacobian(law)

    def solve_one(points, lower_P, upper_P, mean_P, std_P, tolerance, y_R, w_R, sigma, start_P):
        def model(theta_P):
            loss_R, slope_RxP = jacobian(theta_P, points)
            r_R = (loss_R - y_R) / y_R / sigma
            slope_RxP = slope_RxP / (y_R * sigma)[:, None]
            weight_R = w_R * jnp.minimum(1.0, HUBER / jnp.maximum(jnp.abs(r_R), 1e-30))
            prior_P = (theta_P - mean_P) / std_P
            cost = w_R @ _huber(r_R, HUBER) + 0.5 * jnp.sum(prior_P**2)
            gradient_P = (weight_R * r_R) @ slope_RxP + prior_P / std_P
            hessian_PxP = (slope_RxP * weight_R[:, None]).T @ slope_RxP + jnp.diag(std_P**-2)
            return jnp.where(jnp.isfinite(cost), cost, jnp.inf), gradient_P, hessian_PxP

        def step(state):
            theta_P, cost, gradient_P, hessian_PxP, damping, count, _ = state
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
            done = (better & small) | (damping > 1e7)
            keep = functools.partial(jnp.where, better)
            return (
                keep(trial_P, theta_P),
                keep(trial_cost, cost),
                keep(trial_gradient_P, gradient_P),
                keep(trial_hessian_PxP, hessian_PxP),
                jnp.where(better, damping / 6, damping * 5),
                count + 1,
                done,
            )

        begin = (start_P, *model(start_P), jnp.asarray(1e-2), jnp.asarray(0), jnp.asarray(False))
        end = jax.lax.while_loop(lambda s: ~s[-1] & (s[-2] < ITERATIONS), step, begin)
        return end[0], end[1]

    return jax.jit(jax.vmap(solve_one, in_axes=(None,) * 6 + (0,) * 4))
