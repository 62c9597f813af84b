"""A Gaussian process over mixtures: a law without a formula, for tables of one model size and token count.

It predicts new mixtures best if there are many runs. The log loss is a constant plus a Matérn 5/2 process with one
length scale per domain, over weights raised to a small power: whether a domain is present matters more than whether
its weight is a fifth or a quarter. The length scales maximize the marginal likelihood (Rasmussen and Williams 2006,
chapter 5) times a weak prior, on at most `LEARNED_ON` rows.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from scipy import linalg, optimize
from threadpoolctl import threadpool_limits

from mixscale.laws import fitting
from mixscale.laws.families import LAWS, Points
from mixscale.laws.least_squares import TOLERANCE

OFFSET, POWER = 3e-4, 0.25  # weights enter as `(h + OFFSET)^POWER`
LEARNED_ON = 256
ITERATIONS = (60, 12)  # of the search for length scales: from the prior, and without a fold from the fit to all rows
MAX_RUNS = 1000  # the cost of a process grows with their cube
JITTER = 1e-8
MAX_CONDITION = 1e12  # of the kernel with its noise: largest ratio of the process's variance to that of the noise
WIDEST = 6.0  # hyperparameters stay within so many widths of their prior
MIN_LENGTH = 1e-4  # least centre of the prior of length scales, for mixtures that hardly differ
MAX_LOG = 100.0  # largest log of a scaled loss, so that a prediction far outside the table stays finite
STEP = 1e-4  # of finite differences in log hyperparameters
HEAD = 3  # parameters before the length scales: mean of the log loss, log variances of the process and of the noise


@dataclass(frozen=True, eq=False)
class Process:
    """A Gaussian process, bound to the mixtures that it is fitted to; it has the interface of `Law`.

    Its parameters are `c, log a, log s, log l (K,), w (R,)`: f(h) = exp(c + a Σ_r k(h, h_r) w_r), where
    `w = (a k + s)^-1 (log y - c)`.
    """

    anchors_RxK: np.ndarray | tuple = ()
    name = "gp"
    source = (
        "Gaussian process of the log loss, Matérn 5/2 with a length scale per domain on (h + 0.0003)^1/4; "
        "Rasmussen and Williams 2006"
    )
    uses_scale = uses_unique = exposures = convex = linear = False
    uses_mixture = auto = True

    def bound(self, points: Points) -> Process:
        """The same process over these mixtures."""
        return dataclasses.replace(self, anchors_RxK=np.asarray(points.h_RxK))

    def n_params(self, n_domains: int) -> int:
        """Hyperparameters; the weights of the runs are computed from them."""
        return HEAD + n_domains

    def names(self, domains: Sequence[str]) -> list[str]:
        return ["mean", "amplitude", "noise", *(f"length/{d}" for d in domains)]

    def natural(self, theta_P: np.ndarray, n_domains: int, units: dict[str, float]) -> np.ndarray:
        """Mean log loss; standard deviations of process and noise, relative to the loss; length scales."""
        tail_P = np.exp(theta_P[1 : HEAD + n_domains] * np.r_[0.5, 0.5, np.ones(n_domains)])
        return np.r_[theta_P[0] + np.log(units["loss"]), tail_P]

    def f(self, theta_P, x):
        """Losses of R rows for one parameter vector, in JAX."""
        k = x.h_RxK.shape[-1]
        scale_K = jnp.exp(-theta_P[HEAD : HEAD + k])
        kernel_QxR = _matern(_features(x.h_RxK) * scale_K, _features(self.anchors_RxK) * scale_K, jnp)[0]
        log_Q = theta_P[0] + jnp.exp(theta_P[1]) * kernel_QxR @ theta_P[HEAD + k :]
        return jnp.exp(jnp.clip(log_Q, -MAX_LOG, MAX_LOG))


@fitting.evaluate.register
def _(law: Process, theta_BxP: np.ndarray, points: Points) -> np.ndarray:
    """Parameter vectors with the same length scales share the kernel."""
    k = points.h_RxK.shape[1]
    loss_BxQ = np.empty((len(theta_BxP), points.count))
    for amplitude, _, length_K, rows_N in _grouped(theta_BxP[:, 1 : HEAD + k]):
        kernel_QxR = amplitude * _kernel(length_K, points.h_RxK, law.anchors_RxK)
        log_NxQ = theta_BxP[rows_N, :1] + theta_BxP[rows_N, HEAD + k :] @ kernel_QxR.T
        loss_BxQ[rows_N] = np.exp(np.clip(log_NxQ, -MAX_LOG, MAX_LOG))
    return loss_BxQ


@fitting.fit_points.register
def _(law: Process, points: Points, y_TxR: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The noise is that of the process."""
    some_N = _learned_on(points.count, seed)
    hyper_TxH = _learned(points, y_TxR, [some_N], None, ITERATIONS[0])[:, 0]
    theta_TxP = np.column_stack([np.zeros(len(y_TxR)), hyper_TxH, np.zeros_like(y_TxR)])
    sigma_T = np.exp(0.5 * hyper_TxH[:, 1])
    return fitting.solve(law, points, y_TxR, np.ones_like(y_TxR), sigma_T, theta_TxP, TOLERANCE), sigma_T


@fitting.solve.register
def _(
    law: Process, points, y_BxR, weights_BxR, sigma_B, start_BxP, tolerance, prior_shift_BxP=None, on_batch=None
) -> np.ndarray:
    """Keeps the hyperparameters of the start; a row with any weight above zero counts fully."""
    k = points.h_RxK.shape[1]
    theta_BxP = start_BxP.copy()
    for amplitude, noise, length_K, of_B in _grouped(start_BxP[:, 1 : HEAD + k]):
        kernel_RxR = amplitude * _kernel(length_K, points.h_RxK, points.h_RxK)
        kept_NxR, which_B = np.unique(weights_BxR[of_B] > 0, axis=0, return_inverse=True)
        for fold, kept_R in enumerate(kept_NxR):
            rows_N = of_B[which_B.reshape(-1) == fold]
            log_NxR = np.log(y_BxR[rows_N][:, kept_R])
            mean_Nx1 = log_NxR.mean(axis=1, keepdims=True)
            matrix_RxR = kernel_RxR[np.ix_(kept_R, kept_R)] + _nugget(amplitude, noise) * np.eye(kept_R.sum())
            with threadpool_limits(1):
                weight_RxN = linalg.cho_solve(linalg.cho_factor(matrix_RxR, lower=True), (log_NxR - mean_Nx1).T)
            tail_NxR = np.zeros((len(rows_N), points.count))
            tail_NxR[:, kept_R] = weight_RxN.T
            theta_BxP[rows_N, 0] = mean_Nx1[:, 0]
            theta_BxP[rows_N, HEAD + k :] = tail_NxR
        if on_batch:
            on_batch(len(of_B))
    return theta_BxP


@fitting.fold_starts.register
def _(law: Process, points: Points, y_TxR, kept_FxR, theta_TxP: np.ndarray) -> np.ndarray:
    """Learns the length scales again without each fold, starting from those of all rows."""
    hyper = slice(1, HEAD + points.h_RxK.shape[1])
    rows = [
        np.random.default_rng(fold).permutation(np.flatnonzero(kept_R))[:LEARNED_ON]
        for fold, kept_R in enumerate(kept_FxR > 0)
    ]
    start_TxFxP = np.repeat(theta_TxP[:, None], len(rows), axis=1)
    start_TxFxP[:, :, hyper] = _learned(points, y_TxR, rows, theta_TxP[:, hyper], ITERATIONS[1])
    return start_TxFxP


def curvature(
    points: Points, y_R: np.ndarray, theta_P: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The marginal likelihood around the log hyperparameters (amplitude, noise, lengths) of a fit with this seed.

    Returns:
        width of the prior, gradient of the prior and of the likelihood, shape (H,) each, and the Hessian of their sum.
    """
    some_N = _learned_on(points.count, seed)
    feature_NxK, log_N = _features(points.h_RxK[some_N]), np.log(y_R[some_N])
    mean_H, std_H = _prior(feature_NxK, log_N)
    log_H = theta_P[1 : HEAD + points.h_RxK.shape[1]]

    def gradient(log_H):
        return _evidence(feature_NxK, log_N - log_N.mean(), mean_H, std_H, log_H)[1]

    steps_HxH = STEP * np.eye(len(log_H))
    hessian_HxH = np.stack([(gradient(log_H + h) - gradient(log_H - h)) / (2 * STEP) for h in steps_HxH])
    prior_H = (log_H - mean_H) / std_H**2
    return std_H, prior_H, gradient(log_H) - prior_H, (hessian_HxH + hessian_HxH.T) / 2


def _learned_on(rows: int, seed: int) -> np.ndarray:
    """Numbers of the rows that the length scales are learned from."""
    return np.random.default_rng(seed).permutation(rows)[:LEARNED_ON]


def _hyper(log_H: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Variances of the process and of the noise, and length scales, shape (K,)."""
    return float(np.exp(log_H[0])), float(np.exp(log_H[1])), np.exp(log_H[2:])


def _nugget(amplitude: float, noise: float) -> float:
    """What is added to the diagonal of the kernel."""
    return max(noise + JITTER, amplitude / MAX_CONDITION)


def _within(log_H: np.ndarray, mean_H: np.ndarray, std_H: np.ndarray) -> np.ndarray:
    """Log hyperparameters within their bounds."""
    return np.clip(log_H, mean_H - WIDEST * std_H, mean_H + WIDEST * std_H)


def _grouped(log_BxH: np.ndarray):
    """Distinct hyperparameters, each with the rows that have them."""
    unique_GxH, of_B = np.unique(log_BxH, axis=0, return_inverse=True)
    for g, log_H in enumerate(unique_GxH):
        yield *_hyper(log_H), np.flatnonzero(of_B.reshape(-1) == g)


def _features(h_RxK):
    return (h_RxK + OFFSET) ** POWER


def _kernel(length_K: np.ndarray, h_QxK: np.ndarray, h_RxK: np.ndarray) -> np.ndarray:
    return _matern(_features(h_QxK) / length_K, _features(h_RxK) / length_K, np)[0]


def _matern(x_QxK, x_RxK, xp):
    """Matérn 5/2 correlation, and the factor of `(x_q - x_r)²` in its derivative by log length scales; (Q, R) each."""
    square_QxR = (x_QxK**2).sum(-1)[:, None] + (x_RxK**2).sum(-1) - 2 * x_QxK @ x_RxK.T
    r_QxR = xp.sqrt(5 * xp.maximum(square_QxR, 0.0) + 1e-12)
    decay_QxR = xp.exp(-r_QxR)
    return (1 + r_QxR + r_QxR**2 / 3) * decay_QxR, 5 / 3 * (1 + r_QxR) * decay_QxR


def _prior(feature_NxK: np.ndarray, log_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and width of a weak prior of the log hyperparameters, shapes (H,), (H,)."""
    variance = max(float(log_N.var()), 1e-12)
    length = np.log(5 * max(feature_NxK.std(axis=0).mean(), MIN_LENGTH))
    k = feature_NxK.shape[1]
    return np.r_[np.log(variance), np.log(0.03 * variance), np.full(k, length)], np.r_[2.0, 2.0, np.full(k, 1.5)]


def _learned(points: Points, y_TxR: np.ndarray, rows_F: list, start_TxH: np.ndarray | None, iterations: int):
    """Log hyperparameters of maximal posterior, from each of F sets of rows, shape (T, F, H)."""

    def learn(job):
        t, some_N = job
        feature_NxK, log_N = _features(points.h_RxK[some_N]), np.log(y_TxR[t, some_N])
        prior_2xH = _prior(feature_NxK, log_N)
        cost = functools.partial(_evidence, feature_NxK, log_N - log_N.mean(), *prior_2xH)
        start_H = prior_2xH[0] if start_TxH is None else start_TxH[t]
        found = optimize.minimize(cost, start_H, jac=True, method="L-BFGS-B", options={"maxiter": iterations})
        return _within(found.x, *prior_2xH)

    # One thread per core: a single small matrix gains nothing from more.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(learn, itertools.product(range(len(y_TxR)), rows_F)))
    return np.reshape(found, (len(y_TxR), len(rows_F), -1))


def _evidence(feature_NxK, centred_N, mean_H, std_H, log_H) -> tuple[float, np.ndarray]:
    """Negative log marginal likelihood and prior, and the gradient (Rasmussen and Williams 2006, equation 5.9)."""
    inside_H = _within(log_H, mean_H, std_H)
    (amplitude, noise, length_K), count = _hyper(inside_H), len(centred_N)
    x_NxK = feature_NxK / length_K
    kernel_NxN, slope_NxN = _matern(x_NxK, x_NxK, np)
    matrix_NxN = amplitude * kernel_NxN
    matrix_NxN[np.diag_indices(count)] += _nugget(amplitude, noise)
    factor_NxN, failed = linalg.lapack.dpotrf(matrix_NxN, lower=1)
    if failed:
        return 1e10, np.zeros_like(log_H)
    weight_N = linalg.cho_solve((factor_NxN, True), centred_N)
    inverse_NxN = linalg.lapack.dpotri(factor_NxN, lower=1)[0]
    inverse_NxN = np.tril(inverse_NxN) + np.tril(inverse_NxN, -1).T
    residual_NxN = inverse_NxN - np.outer(weight_N, weight_N)
    scaled_NxN = amplitude * residual_NxN * slope_NxN
    # Σ_ij B_ij (x_ik - x_jk)² / 2, without the array of all differences.
    of_length_K = scaled_NxN.sum(axis=1) @ x_NxK**2 - np.einsum("nk,nk->k", x_NxK, scaled_NxN @ x_NxK)
    of_amplitude = 0.5 * amplitude * (residual_NxN * kernel_NxN).sum()
    of_noise = 0.5 * noise * np.trace(residual_NxN)
    offset_H = (log_H - mean_H) / std_H
    value = 0.5 * centred_N @ weight_N + np.log(np.diag(factor_NxN)).sum() + 0.5 * offset_H @ offset_H
    # Beyond a bound only the prior changes, which leads back.
    likelihood_H = np.where(inside_H == log_H, np.r_[of_amplitude, of_noise, of_length_K], 0.0)
    return value, likelihood_H + offset_H / std_H


GP = LAWS.register("gp")(Process())
