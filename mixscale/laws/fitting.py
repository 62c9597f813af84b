"""Fits any law to many problems at once: targets, starts, folds and bootstrap draws are one batch.

A problem is a vector of losses, a weight for each row (0 for a held-out row) and a starting point. `least_squares`
solves the batch; SciPy finishes the point fits. This module sees arrays only, no table and no names. Every kind of law
implements `evaluate`, `fit_points`, `fold_starts` and `solve`: for formulas they are here, and `gp` and `stacking`
register theirs.
"""

from __future__ import annotations

import functools

import jax
import numpy as np
from scipy import optimize

from mixscale.laws.families import Law, Points
from mixscale.laws.least_squares import HUBER, MAD_TO_STD, ROW_MULTIPLE, TOLERANCE, jacobian, minimize

STARTS = 6
FINISH_STEPS = 40  # maximum number of SciPy's steps
LARGEST = 1e100  # largest scaled loss or parameter
AT_BOUND = 1e-5  # distance from a bound, in widths of the prior, that counts as on it
# In `basins`: the tolerance, the gain of a search below which it has converged, and the maximum of searches.
BASIN_TOLERANCE, CONVERGED, MAX_SEARCHES = 1e-10, 0.3, 4


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
    law: Law, points: Points, y_BxR, weights_BxR, sigma_B, start_BxP, tolerance, prior_shift_BxP=None, on_batch=None
) -> np.ndarray:
    """Parameters that fit each problem best, shape (B, P), from a start near by; arguments as `minimize`."""
    return minimize(law, points, y_BxR, weights_BxR, sigma_B, start_BxP, tolerance, prior_shift_BxP, on_batch)[0]


def solve_folds(
    law: Law, points: Points, y_BxR, kept_FxR, sigma_B, start_BxFxP, tolerance, prior_shift_BxP=None, on_batch=None
) -> np.ndarray:
    """Parameters fitted to the rows that each fold keeps, shape (B, F, P); arguments as `solve`."""
    count, folds = len(y_BxR), len(kept_FxR)
    theta_BxP = solve(
        law,
        points,
        np.repeat(y_BxR, folds, axis=0),
        np.tile(kept_FxR, (count, 1)),
        np.repeat(sigma_B, folds),
        start_BxFxP.reshape(count * folds, -1),
        tolerance,
        None if prior_shift_BxP is None else np.repeat(prior_shift_BxP, folds, axis=0),
        on_batch,
    )
    return theta_BxP.reshape(count, folds, -1)


@functools.singledispatch
def fold_starts(law: Law, points: Points, y_TxR, kept_FxR, theta_TxP: np.ndarray) -> np.ndarray:
    """Where `leave_out` starts, shape (T, F, P): for a formula the fit to all rows."""
    return np.repeat(theta_TxP[:, None], len(kept_FxR), axis=1)


def check_finite(*arrays: np.ndarray) -> None:
    """Raises FloatingPointError if a value is not finite or so large that its square may not be."""
    if not all((np.abs(array) < LARGEST).all() for array in arrays):
        raise FloatingPointError("its fit has values that are not finite")


def leave_out(
    law: Law, points: Points, y_TxR: np.ndarray, kept_FxR: np.ndarray, sigma_T: np.ndarray, theta_TxP: np.ndarray
) -> np.ndarray:
    """Parameters without each fold, shape (T, F, P), from the fit to all rows."""
    # With the full tolerance: a fit that stops near its start would leak the held-out rows.
    start_TxFxP = fold_starts(law, points, y_TxR, kept_FxR, theta_TxP)
    return solve_folds(law, points, y_TxR, kept_FxR, sigma_T, start_TxFxP, TOLERANCE)


@functools.singledispatch
def fit_points(law: Law, points: Points, y_TxR: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Point fit of every target and its relative noise: several starts, their residuals' noise, SciPy's last steps."""
    theta_TxSxP, cost_TxS = _from_starts(law, points, y_TxR, seed)
    theta_TxP = theta_TxSxP[np.arange(len(y_TxR)), cost_TxS.argmin(axis=1)]
    ones, spread_T = np.ones_like(y_TxR), _spread(y_TxR)
    for _ in range(2):
        sigma_T = np.maximum(_noise(law, points, y_TxR, theta_TxP), 1e-3 * spread_T)
        theta_TxP, _ = minimize(law, points, y_TxR, ones, sigma_T, theta_TxP)
    finished = [_finish(law, points, y, s, theta) for y, s, theta in zip(y_TxR, sigma_T, theta_TxP, strict=True)]
    return np.stack(finished), sigma_T


def basins(
    law: Law, points: Points, y_TxR: np.ndarray, sigma_T: np.ndarray, theta_TxP: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Costs after longer searches from the fit, shape (T,), and from the starts of `fit_points`, shape (T, STARTS).

    They are negative log posteriors up to a constant, so a difference of one half is one standard error.
    """
    begin_TxSxP = np.concatenate([theta_TxP[:, None], _from_starts(law, points, y_TxR, seed)[0]], axis=1)
    targets, starts, _ = begin_TxSxP.shape
    y_BxR, sigma_B = np.repeat(y_TxR, starts, axis=0), np.repeat(sigma_T, starts)
    theta_BxP, cost_B = begin_TxSxP.reshape(targets * starts, -1), np.full(targets * starts, np.inf)
    moving_N = np.arange(len(cost_B))
    for _ in range(MAX_SEARCHES):
        y_NxR = y_BxR[moving_N]
        theta_BxP[moving_N], cost_N = minimize(
            law, points, y_NxR, np.ones_like(y_NxR), sigma_B[moving_N], theta_BxP[moving_N], BASIN_TOLERANCE
        )
        gained_N = cost_B[moving_N] - cost_N
        cost_B[moving_N] = cost_N
        # Starts that stop part of the way along a flat valley would look like many basins.
        moving_N = moving_N[gained_N > CONVERGED]
        if not len(moving_N):
            break
    cost_TxS = cost_B.reshape(targets, starts)
    return cost_TxS[:, 0], cost_TxS[:, 1:]


def linearize(law: Law, points: Points, y_TxR: np.ndarray, theta_TxP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Relative residuals of each target, shape (T, R), and their derivatives by its parameters, shape (T, R, P)."""
    with jax.enable_x64(True):
        rows = [_slopes(law)(theta_P, points) for theta_P in theta_TxP]
        loss_TxR, slope_TxRxP = (np.stack([np.asarray(x) for x in parts]) for parts in zip(*rows, strict=True))
    return loss_TxR / y_TxR - 1, slope_TxRxP / y_TxR[..., None]


def _from_starts(law: Law, points: Points, y_TxR: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Minimum from each start with a rough noise, shape (T, STARTS, P), and its cost, shape (T, STARTS)."""
    targets = len(y_TxR)
    starts_SxP = law.starts(np.random.default_rng(seed), points.h_RxK.shape[1], STARTS)
    y_BxR = np.repeat(y_TxR, STARTS, axis=0)
    rough_B = np.repeat(np.maximum(0.05 * _spread(y_TxR), 1e-6), STARTS)
    theta_BxP, cost_B = minimize(law, points, y_BxR, np.ones_like(y_BxR), rough_B, np.tile(starts_SxP, (targets, 1)))
    return theta_BxP.reshape(targets, STARTS, -1), cost_B.reshape(targets, STARTS)


def _spread(y_TxR: np.ndarray) -> np.ndarray:
    """Standard deviation of each target over its mean, shape (T,)."""
    return np.std(y_TxR / y_TxR.mean(axis=1, keepdims=True), axis=1)


def _noise(law: Law, points: Points, y_TxR: np.ndarray, theta_TxP: np.ndarray) -> np.ndarray:
    """Robust relative scale of the residuals, corrected for the number of parameters, shape (T,)."""
    residual_TxR = (evaluate(law, theta_TxP, points) - y_TxR) / y_TxR
    rows, params = y_TxR.shape[1], theta_TxP.shape[1]
    correction = np.sqrt(rows / max(rows - params, rows / 4))
    return MAD_TO_STD * np.median(np.abs(residual_TxR), axis=1) * correction


def _finish(law: Law, points: Points, y_R: np.ndarray, sigma: float, theta_P: np.ndarray) -> np.ndarray:
    """The better of the batched solution and of SciPy's trust region from there.

    The batched active set is slow along a flat valley that ends at a bound; SciPy scales by the distance from bounds.
    """
    wide = points.padded(ROW_MULTIPLE)
    lower_P, upper_P, mean_P, std_P = law.priors(points.h_RxK.shape[1])
    rows = points.count

    with jax.enable_x64(True):
        slopes = _slopes(law)

        def linear(theta_P):
            loss_R, slope_RxP = (np.asarray(x)[:rows] for x in slopes(theta_P, wide))
            residual_N = np.r_[(loss_R / y_R - 1) / sigma, (theta_P - mean_P) / std_P]
            return residual_N, np.concatenate([slope_RxP / (y_R * sigma)[:, None], np.diag(1 / std_P)])

        def robust(square_N):
            """Huber's function for the residuals, the identity for the prior: twice the cost and its derivatives."""
            size_R = np.sqrt(square_N[:rows])
            far_R = size_R > HUBER
            size_R = np.where(far_R, size_R, 1.0)
            rho_3xN = np.stack([square_N, np.ones_like(square_N), np.zeros_like(square_N)])
            bent_3xR = np.stack([2 * HUBER * size_R - HUBER**2, HUBER / size_R, -0.5 * HUBER / size_R**3])
            rho_3xN[:, :rows] = np.where(far_R, bent_3xR, rho_3xN[:, :rows])
            return rho_3xN

        margin_P = 1e-9 * (upper_P - lower_P)
        found = optimize.least_squares(
            lambda theta_P: linear(theta_P)[0],
            np.clip(theta_P, lower_P + margin_P, upper_P - margin_P),
            lambda theta_P: linear(theta_P)[1],
            bounds=(lower_P, upper_P),
            x_scale=std_P,
            loss=robust,
            max_nfev=FINISH_STEPS,
        )
        # The trust region never reaches a bound, so move parameters close to one onto it.
        near_2xP = np.abs(found.x - np.stack([lower_P, upper_P])) < AT_BOUND * std_P
        placed_P = np.select(list(near_2xP), [lower_P, upper_P], found.x)
        tried = (placed_P, found.x, theta_P)
        return min(tried, key=lambda theta_P: robust(linear(theta_P)[0] ** 2)[0].sum())


@functools.cache
def _slopes(law: Law):
    return jax.jit(jacobian(law))


@functools.cache
def _evaluator(law: Law):
    return jax.jit(jax.vmap(law.f, in_axes=(0, None)))
