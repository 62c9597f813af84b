"""Minimizes laws over mixtures under linear and convex constraints: many problems of one shape in one batch.

A primal-dual interior-point Newton method in JAX, float64, with exact derivatives. It sees arrays only: what they mean
is decided by `programme`. Where the laws are convex its end is the global optimum, to within the last barrier.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.laws.families import Law, Points

ITERATIONS = 200
BARRIER = (1.0, 1e-11)
"""First and last weight of the barrier; a convex optimum is within (number of inequalities) times the last."""
TO_BOUNDARY = 0.995
"""Share of the way to the nearest constraint that a step may go."""
LENGTHS, SHORTER = 8, 0.4
"""Lengths of a step that are tried, each so much shorter than the one before."""
TRUST = 1e8
"""How far a multiplier may leave the barrier's own estimate of it, as a factor (Wächter and Biegler 2006)."""


class Programme(NamedTuple):
    """B problems: minimize `price_F · f(h) + slope_E · e` over x = (h_K, v, e), of which all but h are E numbers.

    Subject to `rows_LxX x <= limit_L`, `share_CxF f(h) - raise_CxE e <= level_C` and `equal_QxX x = equal_Q`. f holds
    the scaled losses of F - 1 laws and, last, the divergence KL(h || prior) in nats. Every field but the last three
    has a leading axis B.

    Attributes:
        start_X: a point inside of all inequalities. pinned_X: 1 where equalities leave a number no choice, or where it
            occurs nowhere.
        n, d, unique_K: scaled size, tokens and unique tokens at which the laws are evaluated.
    """

    start_X: np.ndarray
    pinned_X: np.ndarray
    theta_FxP: np.ndarray
    price_F: np.ndarray
    slope_E: np.ndarray
    share_CxF: np.ndarray
    raise_CxE: np.ndarray
    level_C: np.ndarray
    rows_LxX: np.ndarray
    limit_L: np.ndarray
    equal_QxX: np.ndarray
    equal_Q: np.ndarray
    prior_K: np.ndarray
    n: float
    d: float
    unique_K: np.ndarray

    def part(self, index) -> Programme:
        """Some of the problems, or one without the leading axis."""
        return Programme(*(x[index] for x in self[:-3]), *self[-3:])


BATCHED = Programme(*(0,) * (len(Programme._fields) - 3), None, None, None)  # type: ignore


class Ends(NamedTuple):
    """Where B problems ended: points, multipliers of linear and of curved rows, whether they converged."""

    x_BxX: np.ndarray
    multiplier_BxL: np.ndarray
    multiplier_BxC: np.ndarray
    converged_B: np.ndarray


def minimize(law: Law, batch: Programme) -> Ends:
    """Local minima from the starts of a batch, which must keep all inequalities with room to spare."""
    with jax.enable_x64(True):
        x_BxX, multiplier_BxR, converged_B = map(np.asarray, _minimizer(law)(batch))
    linear = batch.limit_L.shape[1]
    return Ends(x_BxX, multiplier_BxR[:, :linear], multiplier_BxR[:, linear:], converged_B)


def losses(law: Law, batch: Programme, h_BxK: np.ndarray) -> np.ndarray:
    """f of every problem at its own mixture, shape (B, F)."""
    with jax.enable_x64(True):
        f_BxF = np.asarray(_losses(law)(batch.theta_FxP, h_BxK, batch.n, batch.d, batch.unique_K))
    return np.concatenate([f_BxF, divergence(h_BxK, batch.prior_K)[:, None]], axis=1)


def slopes(law: Law, one: Programme, h_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f and its derivative by the weights at a mixture of a single problem, shapes (F,), (F, K)."""
    with jax.enable_x64(True):
        f_F, slope_FxK = map(np.asarray, _slopes(law)(one.theta_FxP, h_K, one.n, one.d, one.unique_K))
    there_K = (h_K > 0) & (one.prior_K > 0)
    kl_K = np.where(there_K, 1 + np.log(np.where(there_K, h_K, 1.0) / np.where(there_K, one.prior_K, 1.0)), 0.0)
    return np.append(f_F, divergence(h_K[None], one.prior_K)), np.concatenate([slope_FxK, kl_K[None]])


def divergence(h_QxK: np.ndarray, prior_K: np.ndarray) -> np.ndarray:
    """KL(h || prior) in nats, shape (Q,), for priors of shape (K,) or (Q, K); infinite outside of the prior."""
    there_QxK = h_QxK > 0
    with np.errstate(divide="ignore"):
        ratio_QxK = np.where(there_QxK, h_QxK, 1.0) / np.where(there_QxK, prior_K, 1.0)
    return np.where(there_QxK, h_QxK * np.log(ratio_QxK), 0.0).sum(axis=1)


def _loss(law: Law, theta_P, h_K, n, d, unique_K):
    return law.f(theta_P, Points(h_K[None], jnp.full(1, n), jnp.full(1, d), unique_K[None]))[0]


@functools.cache
def _losses(law: Law):
    each = jax.vmap(functools.partial(_loss, law), in_axes=(0, None, None, None, None))
    return jax.jit(jax.vmap(each, in_axes=(0, 0, None, None, None)))


@functools.cache
def _slopes(law: Law):
    slope = jax.value_and_grad(functools.partial(_loss, law), argnums=1)
    return jax.jit(jax.vmap(slope, in_axes=(0, None, None, None, None)))


def _divergence(p: Programme, h_K):
    """KL(h || prior) over the domains that both have: a domain that the prior has not is held at zero."""
    there_K = (h_K > 0) & (p.prior_K > 0)
    ratio_K = jnp.where(there_K, h_K, 1.0) / jnp.where(there_K, p.prior_K, 1.0)
    return jnp.sum(jnp.where(there_K, h_K, 0.0) * jnp.log(ratio_K))


def _room(p: Programme, x_X, f_F):
    """Room that a point leaves to every inequality, linear ones first, shape (R,)."""
    curved_C = p.level_C + p.raise_CxE @ x_X[len(p.unique_K) :] - p.share_CxF @ f_F
    return jnp.concatenate([p.limit_L - p.rows_LxX @ x_X, curved_C])


@functools.cache
def _minimizer(law: Law):
    """Jitted primal-dual method over a batch (Boyd and Vandenberghe 2004, §11.7).

    The step solves the Newton system of the perturbed optimality conditions; its length minimizes the barrier function
    over a few lengths, so that a law that is not convex goes down as well; the barrier shrinks once a full step would
    gain little of it.
    """

    def every(p: Programme, h_K):
        f_F = jax.vmap(lambda theta_P: _loss(law, theta_P, h_K, p.n, p.d, p.unique_K))(p.theta_FxP)
        return jnp.append(f_F, _divergence(p, h_K))

    def expansion(p: Programme, h_K):
        """Value, slope and curvature of every f over y: a forward pass over one backward pass a law."""

        def slope(value):
            def both(h_K):
                f, slope_K = jax.value_and_grad(value)(h_K)
                return slope_K, (f, slope_K)

            curve_KxK, (f, slope_K) = jax.jacfwd(both, has_aux=True)(h_K)
            return f, slope_K, curve_KxK

        laws = jax.vmap(lambda theta_P: slope(lambda h_K: _loss(law, theta_P, h_K, p.n, p.d, p.unique_K)))(p.theta_FxP)
        last = slope(functools.partial(_divergence, p))
        return tuple(jnp.concatenate([a, b[None]]) for a, b in zip(laws, last, strict=True))

    def newton(p: Programme, x_X, multiplier_R, mu):
        """Step, its multipliers' change, and how much a full step would gain of the barrier."""
        k, linear = len(p.unique_K), len(p.limit_L)
        f_F, slope_FxK, curve_FxKxK = expansion(p, x_X[:k])
        room_R = _room(p, x_X, f_F)
        curved_CxX = jnp.concatenate([p.share_CxF @ slope_FxK, -p.raise_CxE], axis=1)
        use_RxX = jnp.concatenate([p.rows_LxX, curved_CxX])
        gradient_X = jnp.concatenate([p.price_F @ slope_FxK, p.slope_E]) + use_RxX.T @ (mu / room_R)
        weight_F = p.price_F + multiplier_R[linear:] @ p.share_CxF
        curve_KxK = jnp.tensordot(weight_F, curve_FxKxK, 1)
        if not law.convex:
            value_K, vector_KxK = jnp.linalg.eigh(curve_KxK)
            curve_KxK = (vector_KxK * jnp.abs(value_K)) @ vector_KxK.T
        matrix_XxX = ((use_RxX.T * (multiplier_R / room_R)) @ use_RxX).at[:k, :k].add(curve_KxK)
        # What equalities pin has no barrier of its own; any weight will do, since it does not move.
        diagonal_X = jnp.diag(matrix_XxX) + p.pinned_X * (1 + jnp.abs(jnp.diag(matrix_XxX)))
        matrix_XxX = jnp.where(jnp.eye(len(x_X)) > 0, diagonal_X, matrix_XxX)
        # Scaled to a unit diagonal, so that a weight of 1e-10 does not spoil the conditioning.
        scale_X = 1 / jnp.sqrt(diagonal_X)
        matrix_XxX = matrix_XxX * scale_X * scale_X[:, None] + 1e-14 * jnp.eye(len(x_X))
        sides_Xx1Q = scale_X[:, None] * jnp.column_stack([-gradient_X, p.equal_QxX.T])
        factor = (jnp.linalg.cholesky(matrix_XxX), True)
        solved_Xx1Q = scale_X[:, None] * jax.scipy.linalg.cho_solve(factor, sides_Xx1Q)
        free_X, along_XxQ = solved_Xx1Q[:, 0], solved_Xx1Q[:, 1:]
        miss_Q = p.equal_QxX @ (x_X + free_X) - p.equal_Q
        # Rows of zeros only fill the shape.
        filler_Q = jnp.all(p.equal_QxX == 0, axis=1).astype(float)
        move_X = free_X - along_XxQ @ jnp.linalg.solve(p.equal_QxX @ along_XxQ + jnp.diag(filler_Q), miss_Q)
        move_X = jnp.where(jnp.isfinite(move_X).all(), move_X, 0.0)
        change_R = mu / room_R - multiplier_R + multiplier_R / room_R * (use_RxX @ move_X)
        return move_X, change_R, -gradient_X @ move_X

    def trial(p: Programme, mu, x_X):
        """The barrier function and the room at a point."""
        f_F = every(p, x_X[: len(p.unique_K)])
        room_R = _room(p, x_X, f_F)
        inside_R = room_R > 0
        value = p.price_F @ f_F + p.slope_E @ x_X[len(p.unique_K) :]
        value = value - mu * jnp.sum(jnp.log(jnp.where(inside_R, room_R, 1.0)))
        return jnp.where(inside_R.all() & jnp.isfinite(value), value, jnp.inf), room_R

    def step(p: Programme, state):
        x_X, multiplier_R, mu, count, fresh, _ = state
        move_X, change_R, gain = newton(p, x_X, multiplier_R, mu)
        use_L, room_L = p.rows_LxX @ move_X, p.limit_L - p.rows_LxX @ x_X
        reach = jnp.min(jnp.where(use_L > 0, room_L / jnp.where(use_L > 0, use_L, 1.0), jnp.inf), initial=jnp.inf)
        length_T = jnp.append(jnp.minimum(1.0, TO_BOUNDARY * reach) * SHORTER ** jnp.arange(float(LENGTHS)), 0.0)
        trial_TxX = x_X + length_T[:, None] * move_X
        value_T, room_TxR = jax.vmap(functools.partial(trial, p, mu))(trial_TxX)
        best = jnp.argmin(value_T)
        room_R = room_TxR[best]
        shrink_R = jnp.where(change_R < 0, multiplier_R / jnp.where(change_R < 0, -change_R, 1.0), jnp.inf)
        length = jnp.minimum(1.0, TO_BOUNDARY * shrink_R.min(initial=jnp.inf))
        multiplier_R = multiplier_R + length * change_R
        multiplier_R = jnp.clip(multiplier_R, mu / room_R / TRUST, mu / room_R * TRUST)
        # Multipliers far from the barrier's own estimate can spoil a step; from the estimate every step goes down.
        stuck = best == LENGTHS
        multiplier_R = jnp.where(stuck, mu / room_R, multiplier_R)
        settled = (gain <= 0.1 * mu * len(room_R)) | (stuck & fresh)
        done = (mu <= BARRIER[1]) & ((gain <= 1e-3 * mu) | (stuck & fresh))
        mu = jnp.where(settled, jnp.maximum(BARRIER[1], 0.2 * mu), mu)
        return trial_TxX[best], multiplier_R, mu, count + 1, stuck & ~fresh, done

    def one(p: Programme):
        room_R = _room(p, p.start_X, every(p, p.start_X[: len(p.unique_K)]))
        begin = (
            p.start_X,
            BARRIER[0] / room_R,
            jnp.asarray(BARRIER[0]),
            jnp.asarray(0),
            jnp.asarray(True),
            jnp.asarray(False),
        )
        x_X, multiplier_R, mu, count, _, done = jax.lax.while_loop(
            lambda s: ~s[-1] & (s[3] < ITERATIONS), functools.partial(step, p), begin
        )
        return x_X, multiplier_R, done | (mu <= 10 * BARRIER[1])

    return jax.jit(jax.vmap(one, in_axes=(BATCHED,)))
