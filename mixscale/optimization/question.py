"""`Question`: a fit, a goal and constraints joined; what a mixture costs, in words of the fit and as a programme.

The one place that turns targets' units and names into the arrays of `solver`, and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixscale.constraints import Constraints, as_array, reference
from mixscale.errors import InputError, did_you_mean
from mixscale.laws import fitting
from mixscale.laws.families import Points
from mixscale.laws.result import LawFit
from mixscale.laws.skill import Skill
from mixscale.objective import Objective, as_rows
from mixscale.optimization.polytope import Polytope, polytope
from mixscale.optimization.solver import divergence

HAIR = 1e-7
"""Room given to curved constraints beyond their bound, so that one that leaves a single mixture has an interior."""


@dataclass(frozen=True)
class Ceilings:
    """Sums of scaled losses that must not exceed limits: `share_CxT f <= limit_BxC`, by name.

    `bounds` are what was asked for, `unit_C` the units of these that make one of the limits, `theta_BxTxP` the laws
    that the losses are by: one for all problems, or each problem's own.
    """

    names: tuple[str, ...]
    said: tuple[str, ...]
    bounds: tuple[float, ...]
    unit_C: np.ndarray
    share_CxT: np.ndarray
    limit_BxC: np.ndarray
    theta_BxTxP: np.ndarray


@dataclass(frozen=True)
class Question:
    """What is asked of a fit.

    Attributes:
        current_K: the mixture in use, None where there is none. n_params, n_tokens: where a law with scale is asked.
        best_TxK: for each target the mixture where its cost is lowest, where the goal counts from that cost.
    """

    fit: LawFit
    goal: Objective
    constraints: Constraints
    current_K: np.ndarray | None
    n_params: float | None
    n_tokens: float | None
    best_TxK: np.ndarray | None = None

    @cached_property
    def weight_T(self) -> np.ndarray:
        return self.fit.target_weights(self.goal.weights)

    @cached_property
    def sign_T(self) -> np.ndarray:
        """+1 where a smaller value of the target is better, -1 for a score."""
        return self.fit.signs_T

    @cached_property
    def unit_T(self) -> np.ndarray:
        return np.abs(self.fit.dataset.scale.unit_T)

    @cached_property
    def offset_T(self) -> np.ndarray:
        """`cost = unit f + offset`."""
        return self.sign_T * self.fit.dataset.scale.offset_T

    @cached_property
    def size(self) -> float:
        """A typical cost: programmes are in units of it."""
        return float(self.weight_T @ self.unit_T)

    @cached_property
    def prior_K(self) -> np.ndarray | None:
        return reference(self.constraints, self.fit.domains)

    @cached_property
    def polytope(self) -> Polytope:
        return polytope(
            self.constraints, self.fit.domains, self.n_tokens, self.prior_K, self.current_K, self._unknown()
        )

    def _unknown(self) -> tuple[str, ...]:
        """Domains that no fitted run used, of which a law of the mixture knows nothing."""
        if not self.fit.family.uses_mixture:
            return ()
        return tuple(d for d, never in zip(self.fit.domains, self.fit.dataset.never_used_K, strict=True) if never)

    @cached_property
    def point(self) -> Points:
        """Scaled size, tokens and unique tokens at which the law is asked, at a mixture that does not matter."""
        return self.fit.points(self.fit.dataset.points.h_RxK[:1], **self.at)

    @cached_property
    def at(self) -> dict:
        """Where the law is asked, as its methods take it."""
        # A text that is not there at all is capped at no weight, so its size only has to be a number.
        unique = {d: max(float(v), 1.0) for d, v in self.constraints.available.items()} or None
        return {"n_params": self.n_params, "n_tokens": self.n_tokens, "unique_tokens": unique}

    def costs(self, theta_SxTxP: np.ndarray, h_QxK: np.ndarray) -> np.ndarray:
        """Losses turned so that smaller is better, in the targets' units, shape (S, Q, T)."""
        s, t, p = theta_SxTxP.shape
        at = self.point
        points = Points(h_QxK, *(np.repeat(x, len(h_QxK), axis=0) for x in at[1:]))
        f_SxTxQ = fitting.evaluate(self.fit.family, theta_SxTxP.reshape(-1, p), points).reshape(s, t, -1)
        return f_SxTxQ.transpose(0, 2, 1) * self.unit_T + self.offset_T

    def reference(self, theta_SxTxP: np.ndarray) -> np.ndarray:
        """What each scenario's targets are counted from, shape (S, T).

        Raises:
            InputError: they are counted from the current mixture, and there is none.
        """
        if self.goal.relative_to == "current":
            if self.current_K is None:
                raise InputError("the goal counts from the current mixture; give current")
            return self.costs(theta_SxTxP, self.current_K[None])[:, 0]
        return np.tile(self._least_T, (len(theta_SxTxP), 1))

    @cached_property
    def _least_T(self) -> np.ndarray:
        """The cost that targets are counted from where that is not the current mixture's, by the fitted law."""
        if self.best_TxK is None:
            return np.zeros(len(self.fit.targets))
        return np.diag(self.costs(self.fit.theta_TxP[None], self.best_TxK)[0])

    def values(self, theta_SxTxP: np.ndarray, h_QxK: np.ndarray) -> np.ndarray:
        """The goal by each scenario alone, with the pull to the prior, in the targets' units, shape (S, Q)."""
        cost_SxQxT = self.costs(theta_SxTxP, h_QxK)
        return self.goal.of_scenario(cost_SxQxT, self.reference(theta_SxTxP), self.weight_T) + self.pull(h_QxK)

    def pull(self, h_QxK: np.ndarray) -> np.ndarray:
        """What the penalty on the divergence from the prior adds, shape (Q,)."""
        return (
            self.constraints.kl_weight * self.divergence(h_QxK) if self.constraints.kl_weight else np.zeros(len(h_QxK))
        )

    def divergence(self, h_QxK: np.ndarray) -> np.ndarray:
        """KL(h || prior) in nats, shape (Q,)."""
        return divergence(h_QxK, self.prior_K)

    def skill(self) -> Skill:
        """What the law foretells of this goal at mixtures that it has not seen; its doubt and penalties stay out."""
        since_RxT = self._since_at_rows()
        none_1xT = np.zeros((1, len(self.weight_T)))

        def value(y_RxT: np.ndarray) -> np.ndarray:
            cost_RxT = y_RxT * self.sign_T - since_RxT
            return self.goal.of_scenario(cost_RxT[None], none_1xT, self.weight_T)[0]

        return self.fit.skill(value)

    def _since_at_rows(self) -> np.ndarray:
        """What targets are counted from at the size of every fitted row, shape (R, T), or (1, T) for zero."""
        if self.goal.relative_to == "current" and self.current_K is not None:
            return self.sign_T * self.fit.at_rows(self.current_K)
        if self.goal.relative_to == "best" and self.best_TxK is not None:
            own = [self.fit.at_rows(h_K)[:, t] for t, h_K in enumerate(self.best_TxK)]
            return self.sign_T * np.stack(own, axis=1)
        return np.zeros((1, len(self.weight_T)))

    def target(self, name: str) -> int:
        """Place of a target that must be kept.

        Raises:
            InputError: it was not fitted.
        """
        bare = dict(zip(self.fit.dataset.columns, self.fit.targets, strict=True)).get(name, name)
        if bare not in self.fit.targets:
            raise InputError(f"keep names target '{name}', which was not fitted{did_you_mean(name, self.fit.targets)}")
        return self.fit.targets.index(bare)

    @cached_property
    def ceilings(self) -> Ceilings | None:
        """`ceilings_by` the fitted law."""
        return self.ceilings_by(self.fit.theta_TxP[None])

    def ceilings_by(self, theta_BxTxP: np.ndarray) -> Ceilings | None:
        """What keeps targets from becoming worse than at the current mixture, by each of these laws.

        Raises:
            InputError: a target is unknown, or there is no current mixture.
        """
        keep: Mapping[str, float] = self.constraints.keep
        if not keep:
            return None
        if self.current_K is None:
            raise InputError("keep compares targets with the current mixture; give current")
        index_C, names = [], []
        for name in keep:
            index_C.append(self.target(name))
            names.append(self.fit.targets[index_C[-1]])
        cost_BxT = self.costs(theta_BxTxP, self.current_K[None])[:, 0]
        room_C = np.array(list(keep.values()))
        limit_BxC = ((cost_BxT - self.offset_T)[:, index_C] + room_C) / self.unit_T[index_C] + HAIR
        said = tuple(
            f"keep {n} {self.sign_T[i] * (cost_BxT[0, i] + room):.4f}"
            for n, i, room in zip(names, index_C, room_C, strict=True)
        )
        return Ceilings(
            tuple(f"keep {n}" for n in names), said, tuple(room_C), self.unit_T[index_C],
            np.eye(len(self.fit.targets))[index_C], limit_BxC, theta_BxTxP,
        )  # fmt: skip

    def broken(self, h_K: np.ndarray, tolerance: float = 1e-6) -> tuple[str, ...]:
        """The constraints, in words, that a mixture does not keep; targets to keep are meant by the fitted law."""
        told = self.polytope.broken(h_K, tolerance)
        most = self.constraints.max_kl
        if most is not None and self.divergence(h_K[None])[0] > most + tolerance:
            told.append(f"max_kl {most:.4g}")
        if (kept := self.ceilings) is not None:
            cost_T = (self.costs(self.fit.theta_TxP[None], h_K[None])[0, 0] - self.offset_T) / self.unit_T
            over_C = kept.share_CxT @ cost_T > kept.limit_BxC[0] + tolerance
            told += [said for said, over in zip(kept.said, over_C, strict=True) if over]
        return tuple(told)

    def floor(self, goal: Objective) -> Ceilings:
        """A goal of the fitted law as something that may not exceed zero, to which limits are then added."""
        weight_T = self.fit.target_weights(goal.weights)
        reference_1xT = np.zeros((1, len(weight_T)))
        rows = as_rows(goal, weight_T, self.unit_T, self.offset_T, reference_1xT)
        share_CxT, limit_C = rows.share_CxF, rows.limit_C
        if not len(limit_C):
            share_CxT, limit_C = rows.price_F[None], -np.array([rows.shift])
        count = len(limit_C)
        names, unit_C = ("goal",) * count, np.full(count, self.size)
        by = self.fit.theta_TxP[None]
        return Ceilings(names, names, (0.0,) * count, unit_C, share_CxT / self.size, limit_C[None] / self.size, by)


def ask(
    fit: LawFit,
    weights,
    lower,
    upper,
    n_params,
    n_tokens,
    goal: Objective | None,
    constraints: Constraints | None,
    current,
) -> Question:
    """The question in what `solve` was given.

    Raises:
        InputError: the same is said in two ways, the current mixture is none of the fit's domains, or a scale is not
            positive.
    """
    if goal is not None and weights:
        raise InputError("weights of the targets are given beside a goal; give them in the goal")
    if constraints is not None and (lower or upper):
        raise InputError("bounds are given beside constraints; give them in the constraints")
    if constraints is None:
        constraints = Constraints(lower=lower or {}, upper=upper or {})
    for name, value in (("n_params", n_params), ("n_tokens", n_tokens)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value:g}; it must be positive and finite")
    current_K = None if current is None else as_array(current, fit.domains, "the current mixture")
    return Question(fit, goal or Objective(weights), constraints, current_K, n_params, n_tokens)
