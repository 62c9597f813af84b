"""A weighted mean of laws: each is wrong in its own way, so their mean is wrong by less.

The weights are not negative and sum to one (stacked regression, Breiman 1996), so a mean of convex laws is convex.
They are chosen for what each law predicts of rows it has not seen: halfway between what is best for a target alone,
which few runs tell badly, and what is best for all targets together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from mixscale.laws import fitting
from mixscale.laws.families import Points

LEAST = 0.05
"""A law with less weight is left out."""
SMOOTH = 0.05
"""Errors below this share of the typical one count quadratically when weights are sought."""


@dataclass(frozen=True, eq=False)
class Stack:
    """A mean of laws that answers to the engine like a family.

    Its parameters are the weights (M,), the noise that each member's fit assumed (M,), and those of its members.
    """

    members: tuple

    @property
    def name(self) -> str:
        return f"stack({', '.join(m.name for m in self.members)})"

    @property
    def source(self) -> str:
        return f"weighted mean of {' and '.join(m.name for m in self.members)}, by stacking (Breiman 1996)"

    @property
    def uses_scale(self) -> bool:
        return any(m.uses_scale for m in self.members)

    @property
    def uses_mixture(self) -> bool:
        return any(m.uses_mixture for m in self.members)

    @property
    def uses_unique(self) -> bool:
        return any(m.uses_unique for m in self.members)

    @property
    def convex(self) -> bool:
        return all(m.convex for m in self.members)

    @property
    def linear(self) -> bool:
        return False

    @property
    def exposures(self) -> bool:
        return all(m.exposures for m in self.members)

    def bound(self, points: Points) -> Stack:
        return dataclasses.replace(self, members=tuple(m.bound(points) for m in self.members))

    def n_params(self, n_domains: int) -> int:
        return len(self.members) - 1 + sum(m.n_params(n_domains) for m in self.members)

    def names(self, domains: Sequence[str]) -> list[str]:
        return [f"weight/{m.name}" for m in self.members] + [
            f"{m.name}.{n}" for m in self.members for n in m.names(domains)
        ]

    def natural(self, theta_P: np.ndarray, n_domains: int, units: dict[str, float]) -> np.ndarray:
        own = [
            m.natural(theta_P[at], n_domains, units) for m, at in zip(self.members, self.parts(n_domains), strict=True)
        ]
        return np.concatenate([theta_P[: len(self.members)], *own])

    def f(self, theta_P, x):
        """Losses of R rows for one parameter vector, in JAX."""
        parts = self.parts(x.h_RxK.shape[-1])
        return sum(theta_P[i] * m.f(theta_P[at], x) for i, (m, at) in enumerate(zip(self.members, parts, strict=True)))

    def parts(self, n_domains: int) -> list[slice]:
        """Where each member's parameters stand; a process has one more for each run it is bound to."""
        at, slices = 2 * len(self.members), []
        for member in self.members:
            size = _length(member, n_domains)
            slices.append(slice(at, at + size))
            at += size
        return slices


def _length(member, n_domains: int) -> int:
    anchors = getattr(member, "anchors_RxK", None)
    return member.n_params(n_domains) + (0 if anchors is None else len(anchors))


def joined(weight: np.ndarray, sigma_TxM: np.ndarray, thetas: Sequence[np.ndarray]) -> np.ndarray:
    """Parameters of a stack from those of its members, shape (T, P) or (T, F, P) like theirs but for the last axis.

    Args:
        weight: of the members, shape (T, M) or (T, F, M). sigma_TxM: the noise that their fits assumed.
    """
    sigma = np.broadcast_to(sigma_TxM.reshape(len(sigma_TxM), *(1,) * (weight.ndim - 2), -1), weight.shape)
    return np.concatenate([weight, sigma, *thetas], axis=-1)


def useful(error_MxTxR: np.ndarray, count_R: np.ndarray) -> np.ndarray:
    """Which laws have a part in the best mean for all targets together, ascending; the others would have under LEAST.

    Args:
        error_MxTxR: what each predicts of rows it has not seen, less what was measured, each target in units of its
            own typical error. count_R: how much each row counts.
    """
    kept_M = np.arange(len(error_MxTxR))
    while True:
        weight_M = _weights(error_MxTxR[kept_M], count_R)
        if weight_M.min() >= LEAST:
            return kept_M
        # One at a time: what a law leaves goes to those it is most like.
        kept_M = np.delete(kept_M, weight_M.argmin())


def weights(error_MxTxR: np.ndarray, count_R: np.ndarray) -> np.ndarray:
    """Weights of M laws for each target, shape (T, M), from errors as `useful` takes them."""
    alone_TxM = np.stack([_weights(error_MxTxR[:, t : t + 1], count_R) for t in range(error_MxTxR.shape[1])])
    return 0.5 * (alone_TxM + _weights(error_MxTxR, count_R))


def _weights(error_MxTxR: np.ndarray, count_R: np.ndarray) -> np.ndarray:
    """Weights for the smallest mean absolute error of the mean of laws, shape (M,)."""
    count = len(error_MxTxR)
    flat_MxN = error_MxTxR.reshape(count, -1)
    share_N = np.tile(count_R / count_R.sum(), error_MxTxR.shape[1]) / error_MxTxR.shape[1]
    smooth = SMOOTH * float((np.abs(flat_MxN) @ share_N).min()) + 1e-12

    def cost(weight_M):
        mean_N = weight_M @ flat_MxN
        size_N = np.hypot(mean_N, smooth)
        return float(share_N @ size_N), flat_MxN @ (share_N * mean_N / size_N)

    found = optimize.minimize(
        cost,
        np.full(count, 1 / count),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-9},
    )
    return np.clip(found.x, 0, 1) / np.clip(found.x, 0, 1).sum()


@fitting.evaluate.register
def _(law: Stack, theta_BxP: np.ndarray, points: Points) -> np.ndarray:
    parts = law.parts(points.h_RxK.shape[1])
    return sum(
        theta_BxP[:, i : i + 1] * fitting.evaluate(member, theta_BxP[:, at], points)
        for i, (member, at) in enumerate(zip(law.members, parts, strict=True))
    )


@fitting.leave_out.register
def _(law: Stack, points, y_TxR, kept_FxR, sigma_T, theta_TxP) -> np.ndarray:
    """As `engine.leave_out`: each member by itself, with the noise of its own fit and the weights of the whole."""
    count = len(law.members)
    theta_TxFxP = np.repeat(theta_TxP[:, None], len(kept_FxR), axis=1)
    for i, (member, at) in enumerate(zip(law.members, law.parts(points.h_RxK.shape[1]), strict=True)):
        theta_TxFxP[:, :, at] = fitting.leave_out(
            member, points, y_TxR, kept_FxR, theta_TxP[:, count + i], theta_TxP[:, at]
        )
    return theta_TxFxP


@fitting.solve.register
def _(law: Stack, points, y_BxR, weights_BxR, sigma_B, start_BxP, away_BxP=None, on_batch=None) -> np.ndarray:
    """As `engine.solve`: each member by itself, with the noise of its own fit and the weights of the start."""
    count, theta_BxP = len(law.members), start_BxP.copy()
    for i, (member, at) in enumerate(zip(law.members, law.parts(points.h_RxK.shape[1]), strict=True)):
        # Progress counts problems of the stack, so the last member tells of it.
        told = on_batch if i == count - 1 else None
        theta_BxP[:, at] = fitting.solve(
            member,
            points,
            y_BxR,
            weights_BxR,
            start_BxP[:, count + i],
            start_BxP[:, at],
            None if away_BxP is None else away_BxP[:, at],
            told,
        )
    return theta_BxP
