"""A weighted mean of laws: their errors differ, so those of the mean are smaller.

The weights are not negative and sum to one (stacked regression, Breiman 1996), so a mean of convex laws is convex.
They are halfway between those that minimize the error on held-out rows for a target alone, which few runs determine
poorly, and for all targets together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import optimize

from mixscale.laws import fitting
from mixscale.laws.cross_validation import Candidate, oof_errors, oof_predictions
from mixscale.laws.dataset import Dataset
from mixscale.laws.families import Law, Points

MIN_WEIGHT = 0.05  # a law with less weight is left out
SMOOTHING = 0.05  # errors below this share of the typical one count quadratically in the search for weights


def _of_members(combine: Callable, name: str) -> property:
    return property(lambda self: combine(getattr(m, name) for m in self.members))


@dataclass(frozen=True, eq=False)
class Stack:
    """A weighted mean of laws; it has the interface of `Law`.

    Its parameters are the weights (M,), the noise of each member's fit (M,), and those of its members.
    """

    members: tuple[Law, ...]
    linear = False
    uses_scale = _of_members(any, "uses_scale")
    uses_mixture = _of_members(any, "uses_mixture")
    uses_unique = _of_members(any, "uses_unique")
    convex = _of_members(all, "convex")
    exposures = _of_members(all, "exposures")

    @property
    def name(self) -> str:
        return f"stack({', '.join(m.name for m in self.members)})"

    @property
    def source(self) -> str:
        return f"weighted mean of {' and '.join(m.name for m in self.members)}, by stacking (Breiman 1996)"

    def bound(self, points: Points) -> Stack:
        return dataclasses.replace(self, members=tuple(m.bound(points) for m in self.members))

    def n_params(self, n_domains: int) -> int:
        return len(self.members) - 1 + sum(m.n_params(n_domains) for m in self.members)

    def names(self, domains: Sequence[str]) -> list[str]:
        weights = [f"weight/{m.name}" for m in self.members]
        return weights + [f"{m.name}.{n}" for m in self.members for n in m.names(domains)]

    def natural(self, theta_P: np.ndarray, n_domains: int, units: dict[str, float]) -> np.ndarray:
        own = [m.natural(theta_P[at], n_domains, units) for m, at in self.parts(n_domains)]
        return np.concatenate([theta_P[: len(self.members)], *own])

    def f(self, theta_P, x):
        """Losses of R rows for one parameter vector, in JAX."""
        parts = self.parts(x.h_RxK.shape[-1])
        return sum(theta_P[i] * member.f(theta_P[at], x) for i, (member, at) in enumerate(parts))

    def parts(self, n_domains: int) -> list[tuple[Law, slice]]:
        """Each member with the slice of its parameters; a process has one more for each run it is bound to."""
        sizes = [m.n_params(n_domains) + len(getattr(m, "anchors_RxK", ())) for m in self.members]
        ends = np.cumsum([2 * len(self.members), *sizes])
        return [(m, slice(*at)) for m, at in zip(self.members, pairwise(ends), strict=True)]


def stack(candidates: list[Candidate], dataset: Dataset, prune: bool = True) -> Candidate | None:
    """The stack of candidates, or None where one of them alone is best or there is only one fold.

    Each fold is tested with weights that are fitted to the rows of the other folds.

    Args:
        prune: leave out candidates of little weight.
    """
    if len(candidates) < 2 or len(candidates[0].split.kept_FxR) < 2:
        return None
    split = candidates[0].split
    kept_M = useful(*oof_errors(candidates, dataset, split.tested_R)) if prune else np.arange(len(candidates))
    if len(kept_M) < 2:
        return None
    members = [candidates[m] for m in kept_M]
    weight_TxM = weights(*oof_errors(members, dataset, split.tested_R))
    others_FxR = split.tested_R & (split.fold_R != np.arange(len(split.kept_FxR))[:, None])
    weight_TxFxM = np.stack([weights(*oof_errors(members, dataset, of_R)) for of_R in others_FxR], axis=1)
    law = Stack(tuple(c.law for c in members))
    sigma_TxM = np.stack([c.sigma_T for c in members], axis=1)
    theta_TxP = np.concatenate([weight_TxM, sigma_TxM, *(c.theta_TxP for c in members)], axis=-1)
    sigma_TxFxM = np.broadcast_to(sigma_TxM[:, None], weight_TxFxM.shape)
    theta_TxFxP = np.concatenate([weight_TxFxM, sigma_TxFxM, *(c.theta_TxFxP for c in members)], axis=-1)
    oof_pred_TxR, sigma_T = oof_predictions(law, theta_TxFxP, split, dataset), (sigma_TxM * weight_TxM).sum(axis=1)
    return Candidate(law, theta_TxP, sigma_T, theta_TxFxP, split, oof_pred_TxR)


def useful(error_MxTxR: np.ndarray, count_R: np.ndarray) -> np.ndarray:
    """Numbers of the laws with at least MIN_WEIGHT in the best mean for all targets together, ascending.

    Args:
        error_MxTxR: held-out errors, each target in units of its typical error. count_R: weights of the rows.
    """
    kept_M = np.arange(len(error_MxTxR))
    while True:
        weight_M = _weights(error_MxTxR[kept_M], count_R)
        if weight_M.min() >= MIN_WEIGHT:
            return kept_M
        # One at a time: the weight of a removed law goes to those most like it.
        kept_M = np.delete(kept_M, weight_M.argmin())


def weights(error_MxTxR: np.ndarray, count_R: np.ndarray) -> np.ndarray:
    """Weights of M laws for each target, shape (T, M), from errors as in `useful`."""
    alone_TxM = np.stack([_weights(error_MxTxR[:, t : t + 1], count_R) for t in range(error_MxTxR.shape[1])])
    return 0.5 * (alone_TxM + _weights(error_MxTxR, count_R))


def _weights(error_MxTxR: np.ndarray, count_R: np.ndarray) -> np.ndarray:
    """Weights with the smallest mean absolute error of the mean of laws, shape (M,)."""
    count = len(error_MxTxR)
    flat_MxN = error_MxTxR.reshape(count, -1)
    share_N = np.tile(count_R / count_R.sum(), error_MxTxR.shape[1]) / error_MxTxR.shape[1]
    smooth = SMOOTHING * float((np.abs(flat_MxN) @ share_N).min()) + 1e-12

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
    return sum(
        theta_BxP[:, i : i + 1] * fitting.evaluate(member, theta_BxP[:, at], points)
        for i, (member, at) in enumerate(law.parts(points.h_RxK.shape[1]))
    )


@fitting.fold_starts.register
def _(law: Stack, points: Points, y_TxR, kept_FxR, theta_TxP: np.ndarray) -> np.ndarray:
    start_TxFxP = np.repeat(theta_TxP[:, None], len(kept_FxR), axis=1)
    for member, at in law.parts(points.h_RxK.shape[1]):
        start_TxFxP[:, :, at] = fitting.fold_starts(member, points, y_TxR, kept_FxR, theta_TxP[:, at])
    return start_TxFxP


@fitting.solve.register
def _(
    law: Stack, points, y_BxR, weights_BxR, sigma_B, start_BxP, tolerance, prior_shift_BxP=None, on_batch=None
) -> np.ndarray:
    """Each member separately, with the noise of its own fit; the weights stay those of the start."""
    count, theta_BxP = len(law.members), start_BxP.copy()
    for i, (member, at) in enumerate(law.parts(points.h_RxK.shape[1])):
        theta_BxP[:, at] = fitting.solve(
            member,
            points,
            y_BxR,
            weights_BxR,
            start_BxP[:, count + i],
            start_BxP[:, at],
            tolerance,
            None if prior_shift_BxP is None else prior_shift_BxP[:, at],
            # Progress counts problems of the stack, so only the last member reports it.
            on_batch if i == count - 1 else None,
        )
    return theta_BxP
