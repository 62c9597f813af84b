"""Minimizes laws over mixtures under linear and convex constraints, many problems of one shape in one batch.

A primal-dual interior-point Newton method in JAX, float64, with exact derivatives; the global optimum if the laws are
convex. It sees arrays only; `problem` gives them their meaning.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.constraints import Curve
from mixscale.laws.families import Law, Points

ITERATIONS = 200
BARRIER = (1.0, 1e-11)  # first and last weight; the optimum is exact to (number of inequalities) times the last
TO_BOUNDARY = 0.995  # largest step, as a share of the way to the nearest constraint
LENGTHS, SHORTER = 8, 0.4  # lengths of a step that are tried, and the factor between them
TRUST = 1e8  # largest factor between a multiplier and the barrier's own estimate of it (Wächter and Biegler 2006)
MULTIPLES = {"X": 8, "E": 8, "L": 32, "C": 8, "Q": 8, "F": 4}  # axes are padded to these, so that few shapes compile
FILLED_WITH_ONE = ("pinned_X", "level_C", "limit_L")  # others are padded with zeros


class BatchedProblem(NamedTuple):
    """B problems: minimize `coef_F · f(h) + coef_E · e` over x = (h_K, e_E).

    Subject to `rows_LxX x <= limit_L`, `share_CxF f(h) - lift_CxE e <= level_C` and `equal_QxX x = equal_Q`. f holds
    M convex functions of the mixture (`curves`), then the scaled losses of F - M laws. All fields but the last three
    have a leading axis B.
    """

    start_X: np.ndarray  # strictly feasible
    pinned_X: np.ndarray  # 1 for a coordinate that the equalities determine, or that is padding
    theta_FxP: np.ndarray
    parameter_MxK: np.ndarray  # of the convex functions
    coef_F: np.ndarray
    coef_E: np.ndarray
    share_CxF: np.ndarray
    lift_CxE: np.ndarray
    level_C: np.ndarray
    rows_LxX: np.ndarray
    limit_L: np.ndarray
    equal_QxX: np.ndarray
    equal_Q: np.ndarray
    n: float  # n, d, unique_K: scaled size, tokens and unique tokens at which the laws are evaluated
    d: float
    unique_K: np.ndarray

    def part(self, index) -> BatchedProblem:
        """Some of the problems, or one without the leading axis."""
        return BatchedProblem(*(x[index] for x in self[:-3]), *self[-3:])


BATCHED = BatchedProblem(*(0,) * (len(BatchedProblem._fields) - 3), None, None, None)  # type: ignore


class SolverResult(NamedTuple):
    """Points, multipliers of the linear and the curved rows, and convergence of B problems."""

    x_BxX: np.ndarray
    multiplier_BxL: np.ndarray
    multiplier_BxC: np.ndarray
    converged_B: np.ndarray


def minimize(law: Law, curves: tuple[Curve, ...], batch: BatchedProblem) -> SolverResult:
    """Local minima from strictly feasible starts."""
    with jax.enable_x64(True):
        x_BxX, multiplier_BxR, converged_B = map(np.asarray, _minimizer(law, curves)(batch))
    linear = batch.limit_L.shape[1]
    return SolverResult(x_BxX, multiplier_BxR[:, :linear], multiplier_BxR[:, linear:], converged_B)


def losses(law: Law, curves: tuple[Curve, ...], batch: BatchedProblem, h_BxK: np.ndarray) -> np.ndarray:
    """f of every problem at its own mixture, shape (B, F)."""
    with jax.enable_x64(True):
        return np.asarray(_losses(law, curves)(_evaluated(batch), h_BxK))


def slopes(law: Law, curves: tuple[Curve, ...], one: BatchedProblem, h_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f and its derivative by the weights at a mixture of a single problem, shapes (F,), (F, K)."""
    with jax.enable_x64(True):
        return tuple(map(np.asarray, _slopes(law, curves)(_evaluated(one), h_K)))


def _evaluated(p: BatchedProblem) -> BatchedProblem:
    """Only what f depends on, so that batches with different constraints share compiled code."""
    kept = ("theta_FxP", "parameter_MxK", "n", "d", "unique_K")
    return BatchedProblem(*(x if name in kept else None for name, x in zip(p._fields, p, strict=True)))


def stack(batches: Sequence[BatchedProblem]) -> BatchedProblem:
    """One batch, padded to a common shape; the padding is never active."""
    sizes: dict[str, int] = {}
    for batch in batches:
        for name, value in zip(batch._fields[:-3], batch[:-3], strict=True):
            sizes |= {a: max(n, sizes.get(a, 0)) for a, n in zip(_axes(name), value.shape[1:], strict=True)}
    sizes |= {axis: -(-sizes[axis] // multiple) * multiple for axis, multiple in MULTIPLES.items()}
    # X holds the weights and E.
    sizes["X"] = max(sizes["X"], sizes["E"] + len(batches[0].unique_K))
    sizes["E"] = sizes["X"] - len(batches[0].unique_K)
    sizes["T"] = sizes["F"] - sizes["M"]
    filled = []
    for batch in batches:
        values = []
        for name, value in zip(batch._fields[:-3], batch[:-3], strict=True):
            gaps = [(0, 0), *((0, sizes[a] - n) for a, n in zip(_axes(name), value.shape[1:], strict=True))]
            how = {"mode": "edge"} if name == "theta_FxP" else {"constant_values": float(name in FILLED_WITH_ONE)}
            values.append(np.pad(value, gaps, **how))
        filled.append(values)
    return BatchedProblem(*(np.concatenate(parts) for parts in zip(*filled, strict=True)), *batches[0][-3:])


def _axes(name: str) -> str:
    """The axes of a field but the first; T are those of F that are laws."""
    return "TP" if name == "theta_FxP" else name.rsplit("_", 1)[1].replace("x", "")


def unstack(result: SolverResult, at: slice, batch: BatchedProblem) -> SolverResult:
    """The results of one of the stacked batches, without padding."""
    x, linear, curved = batch.start_X.shape[1], batch.limit_L.shape[1], batch.level_C.shape[1]
    return SolverResult(
        result.x_BxX[at, :x], result.multiplier_BxL[at, :linear], result.multiplier_BxC[at, :curved],
        result.converged_B[at],
    )  # fmt: skip


def _functions(law: Law, curves: tuple[Curve, ...], p: BatchedProblem) -> list:
    """The convex functions, and the laws as one function of (parameters, mixture)."""

    def loss(theta_P, h_K):
        return law.f(theta_P, Points(h_K[None], jnp.full(1, p.n), jnp.full(1, p.d), p.unique_K[None]))[0]

    return [lambda h_K, m=m, c=c: c(h_K, p.parameter_MxK[m], jnp) for m, c in enumerate(curves)], loss


def _every(law: Law, curves: tuple[Curve, ...], p: BatchedProblem, h_K):
    """f of one problem, shape (F,)."""
    of_mixture, loss = _functions(law, curves, p)
    f_F = jax.vmap(lambda theta_P: loss(theta_P, h_K))(p.theta_FxP)
    return jnp.concatenate([jnp.stack([c(h_K) for c in of_mixture]), f_F]) if curves else f_F


@functools.cache
def _losses(law: Law, curves: tuple[Curve, ...]):
    return jax.jit(jax.vmap(functools.partial(_every, law, curves), in_axes=(BATCHED, 0)))


@functools.cache
def _slopes(law: Law, curves: tuple[Curve, ...]):
    def both(p, h_K):
        every = functools.partial(_every, law, curves, p)
        return every(h_K), jax.jacrev(every)(h_K)

    return jax.jit(both)


def _slack(p: BatchedProblem, x_X, f_F):
    """Slack of every inequality, linear ones first, shape (R,)."""
    curved_C = p.level_C + p.lift_CxE @ x_X[len(p.unique_K) :] - p.share_CxF @ f_F
    return jnp.concatenate([p.limit_L - p.rows_LxX @ x_X, curved_C])


@functools.cache
def _minimizer(law: Law, curves: tuple[Curve, ...]):
    """Jitted primal-dual method over a batch (Boyd and Vandenberghe 2004, §11.7).

    The step solves the Newton system of the perturbed optimality conditions. Its length minimizes the barrier function
    over a few lengths, so that a law that is not convex descends too. The barrier shrinks once a step gains little.
    """
    every = functools.partial(_every, law, curves)

    def expansion(p: BatchedProblem, h_K):
        """Value, gradient and Hessian of every f by the weights: forward over reverse mode."""

        def slope(value):
            def both(h_K):
                f, slope_K = jax.value_and_grad(value)(h_K)
                return slope_K, (f, slope_K)

            curve_KxK, (f, slope_K) = jax.jacfwd(both, has_aux=True)(h_K)
            return f, slope_K, curve_KxK

        of_mixture, loss = _functions(law, curves, p)
        laws = jax.vmap(lambda theta_P: slope(functools.partial(loss, theta_P)))(p.theta_FxP)
        first = [slope(curve) for curve in of_mixture]
        if not first:
            return laws
        return tuple(jnp.concatenate([jnp.stack(a), b]) for a, b in zip(zip(*first, strict=True), laws, strict=True))

    def newton(p: BatchedProblem, x_X, multiplier_R, mu):
        """Step, change of the multipliers, and what a full step would gain of the barrier function."""
        k, linear = len(p.unique_K), len(p.limit_L)
        f_F, slope_FxK, curve_FxKxK = expansion(p, x_X[:k])
        slack_R = _slack(p, x_X, f_F)
        curved_CxX = jnp.concatenate([p.share_CxF @ slope_FxK, -p.lift_CxE], axis=1)
        use_RxX = jnp.concatenate([p.rows_LxX, curved_CxX])
        gradient_X = jnp.concatenate([p.coef_F @ slope_FxK, p.coef_E]) + use_RxX.T @ (mu / slack_R)
        weight_F = p.coef_F + multiplier_R[linear:] @ p.share_CxF
        curve_KxK = jnp.tensordot(weight_F, curve_FxKxK, 1)
        if not law.convex:
            value_K, vector_KxK = jnp.linalg.eigh(curve_KxK)
            curve_KxK = (vector_KxK * jnp.abs(value_K)) @ vector_KxK.T
        matrix_XxX = ((use_RxX.T * (multiplier_R / slack_R)) @ use_RxX).at[:k, :k].add(curve_KxK)
        # A pinned coordinate does not move, so any positive weight will do.
        diagonal_X = jnp.diag(matrix_XxX) + p.pinned_X * (1 + jnp.abs(jnp.diag(matrix_XxX)))
        matrix_XxX = jnp.where(jnp.eye(len(x_X)) > 0, diagonal_X, matrix_XxX)
        # A unit diagonal keeps the system well conditioned at a weight of 1e-10.
        scale_X = 1 / jnp.sqrt(diagonal_X)
        matrix_XxX = matrix_XxX * scale_X * scale_X[:, None] + 1e-14 * jnp.eye(len(x_X))
        sides_Xx1Q = scale_X[:, None] * jnp.column_stack([-gradient_X, p.equal_QxX.T])
        factor = (jnp.linalg.cholesky(matrix_XxX), True)
        solved_Xx1Q = scale_X[:, None] * jax.scipy.linalg.cho_solve(factor, sides_Xx1Q)
        free_X, along_XxQ = solved_Xx1Q[:, 0], solved_Xx1Q[:, 1:]
        miss_Q = p.equal_QxX @ (x_X + free_X) - p.equal_Q
        filler_Q = jnp.all(p.equal_QxX == 0, axis=1).astype(float)
        move_X = free_X - along_XxQ @ jnp.linalg.solve(p.equal_QxX @ along_XxQ + jnp.diag(filler_Q), miss_Q)
        move_X = jnp.where(jnp.isfinite(move_X).all(), move_X, 0.0)
        change_R = mu / slack_R - multiplier_R + multiplier_R / slack_R * (use_RxX @ move_X)
        return move_X, change_R, -gradient_X @ move_X

    def trial(p: BatchedProblem, mu, x_X):
        """The barrier function and the slack at a point."""
        f_F = every(p, x_X[: len(p.unique_K)])
        slack_R = _slack(p, x_X, f_F)
        inside_R = slack_R > 0
        value = p.coef_F @ f_F + p.coef_E @ x_X[len(p.unique_K) :]
        value = value - mu * jnp.sum(jnp.log(jnp.where(inside_R, slack_R, 1.0)))
        return jnp.where(inside_R.all() & jnp.isfinite(value), value, jnp.inf), slack_R

    def step(p: BatchedProblem, state):
        x_X, multiplier_R, mu, count, fresh, _ = state
        move_X, change_R, gain = newton(p, x_X, multiplier_R, mu)
        use_L, slack_L = p.rows_LxX @ move_X, p.limit_L - p.rows_LxX @ x_X
        reach = jnp.min(jnp.where(use_L > 0, slack_L / jnp.where(use_L > 0, use_L, 1.0), jnp.inf), initial=jnp.inf)
        length_T = jnp.append(jnp.minimum(1.0, TO_BOUNDARY * reach) * SHORTER ** jnp.arange(float(LENGTHS)), 0.0)
        trial_TxX = x_X + length_T[:, None] * move_X
        value_T, slack_TxR = jax.vmap(functools.partial(trial, p, mu))(trial_TxX)
        best = jnp.argmin(value_T)
        slack_R = slack_TxR[best]
        shrink_R = jnp.where(change_R < 0, multiplier_R / jnp.where(change_R < 0, -change_R, 1.0), jnp.inf)
        length = jnp.minimum(1.0, TO_BOUNDARY * shrink_R.min(initial=jnp.inf))
        multiplier_R = multiplier_R + length * change_R
        multiplier_R = jnp.clip(multiplier_R, mu / slack_R / TRUST, mu / slack_R * TRUST)
        # Multipliers far from the barrier's estimate can spoil a step; with the estimate, every step descends.
        stuck = best == LENGTHS
        multiplier_R = jnp.where(stuck, mu / slack_R, multiplier_R)
        settled = (gain <= 0.1 * mu * len(slack_R)) | (stuck & fresh)
        done = (mu <= BARRIER[1]) & ((gain <= 1e-3 * mu) | (stuck & fresh))
        mu = jnp.where(settled, jnp.maximum(BARRIER[1], 0.2 * mu), mu)
        return trial_TxX[best], multiplier_R, mu, count + 1, stuck & ~fresh, done

    def one(p: BatchedProblem):
        slack_R = _slack(p, p.start_X, every(p, p.start_X[: len(p.unique_K)]))
        start = (p.start_X, BARRIER[0] / slack_R, *map(jnp.asarray, (BARRIER[0], 0, True, False)))
        x_X, multiplier_R, mu, count, _, done = jax.lax.while_loop(
            lambda s: ~s[-1] & (s[3] < ITERATIONS), functools.partial(step, p), start
        )
        return x_X, multiplier_R, done | (mu <= 10 * BARRIER[1])

    return jax.jit(jax.vmap(one, in_axes=(BATCHED,)))
