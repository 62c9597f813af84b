"""`Objective`: the number that a mixture minimizes; computed only here. Knows neither laws nor solvers.

You write an `Objective`; `Objective.bind` joins it to the targets of a table or fit. The `BoundObjective` computes its
value, mean, interval, name and best mixture of a grid, and its rows for a solver. A target times its sign is a *cost*:
lower is better, also for a score. `optimization.Problem` adds what costs are measured from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from mixscale.errors import InputError, did_you_mean
from mixscale.mixture import mixture_index
from mixscale.validation import Validated, setting

Kind = Literal["mean", "worst", "guardrails"]
Robust = Literal["point", "mean", "quantile", "worst"]
Array = np.ndarray | float
LEVEL = 0.9


@dataclass(frozen=True)
class Objective(Validated, section="objective"):
    """The objective that the optimum minimizes."""

    weights: dict[str, float] = setting(factory=dict, least=0)
    """weight of each target; targets without one have weight zero; by default all weights are equal"""
    kind: Kind = "mean"
    """mean: the weighted mean of the targets;
    worst: the worst target (minimax), after multiplying each by weight / mean weight;
    guardrails: the weighted mean relative to the current mixture, plus a penalty
    for each guardrail target that is worse than at the current mixture beyond its noise"""
    relative_to: Literal["current", "best"] | None = None
    """for kind worst: subtract each target's value at the current mixture, or its best under the constraints"""
    guardrails: dict[str, float] = setting(factory=dict, least=0)
    """for kind guardrails: penalty of each target, per unit by which it becomes worse beyond its noise"""
    robust: Robust = "point"
    """point: use the fitted law;
    mean, worst: the mean or the worst case over the bootstrap laws;
    quantile: the mean over the worst 1 - level of the bootstrap laws (CVaR)"""
    level: float = setting(LEVEL, above=0, below=1)
    """for robust quantile: 0.9 averages the worst tenth of the bootstrap laws"""

    def check(self) -> None:
        if self.weights and not any(self.weights.values()):
            raise InputError("all weights of targets are zero; at least one must be positive")
        if self.relative_to and self.kind == "mean":
            raise InputError("objective.relative_to has no effect with kind 'mean'; set kind 'worst' or leave it out")
        if self.relative_to == "best" and self.kind == "guardrails":
            raise InputError("objective.relative_to is 'best', but guardrails need 'current'; leave relative_to out")
        if self.guardrails and self.kind != "guardrails":
            raise InputError("objective.guardrails has no effect without kind 'guardrails'; set it or leave it out")
        if self.kind == "guardrails" and not self.guardrails:
            raise InputError("objective.kind is 'guardrails', but objective.guardrails is empty; name targets in it")
        if self.level != LEVEL and self.robust != "quantile":
            raise InputError("objective.level has no effect without robust 'quantile'; set it or leave level out")

    @property
    def reference(self) -> Literal["current", "best"] | None:
        """Costs are relative to the current mixture, to each target's own best, or to zero (None)."""
        return "current" if self.kind == "guardrails" else self.relative_to

    def bind(self, columns: Sequence[str], noise_T: Array = 0.0, kl_weight: float = 0.0) -> BoundObjective:
        """The objective over these targets.

        Args:
            columns: names of the targets with their prefix (`loss/code`), which gives the sign.
            noise_T: seed noise of each target, for guardrails. kl_weight: of the divergence from a prior.

        Raises:
            InputError: a weight or guardrail names another target.
        """
        targets = [c.split("/", 1)[-1] for c in columns]
        slope_T = np.zeros(len(targets))
        for name, slope in self.guardrails.items():
            slope_T[target_index(name, targets, columns, "objective.guardrails: ")] += slope
        weights: Mapping[str, float] = self.weights
        if not weights and self.guardrails and not slope_T.all():
            weights = {target: 1.0 for target, slope in zip(targets, slope_T, strict=True) if not slope}
        weight_T = np.zeros(len(targets))
        for name, weight in weights.items():
            weight_T[target_index(name, targets, columns)] += weight
        weight_T = weight_T / weight_T.sum() if weights else np.full(len(targets), 1 / len(targets))
        sign_T, noise_T = np.array([sign_of(c) for c in columns]), np.zeros(len(targets)) + noise_T
        return BoundObjective(self, tuple(targets), sign_T, weight_T, slope_T, noise_T, kl_weight)

    def tail(self, count: int) -> float:
        """Number of worst scenarios, of `count`, that determine the value; fractional for a quantile."""
        return 1.0 if self.robust == "worst" else (1 - self.level) * count

    def over_scenarios(self, value_SxQ: np.ndarray, count: int | None = None) -> np.ndarray:
        """The values of all scenarios combined, shape (Q,); if these are only the worst, `count` counts all."""
        if self.robust == "worst":
            return value_SxQ.max(axis=0)
        if self.robust == "quantile":
            return tail_mean(value_SxQ, self.tail(count or len(value_SxQ)))
        return value_SxQ.mean(axis=0)

    @property
    def robust_suffix(self) -> str:
        """What follows the name of the objective that is solved for; empty for the fitted law."""
        return {
            "point": "", "mean": ", averaged over the bootstrap laws", "worst": ", for the worst bootstrap law",
            "quantile": f", averaged over the worst {1 - self.level:.0%} of the bootstrap laws",
        }[self.robust]  # fmt: skip


class ObjectiveRows(NamedTuple):
    """`minimize coef_F · f + coef_E · e + shift` subject to `share_CxF · f - lift_CxE · e <= limit_C`.

    f are the scaled losses of S scenarios × T targets; e are E auxiliary variables, the last `positive` of them
    non-negative. If no row is exceeded by more than a at e = 0, `e = a start_E` satisfies them all.
    """

    coef_F: np.ndarray
    coef_E: np.ndarray
    shift: float
    share_CxF: np.ndarray
    lift_CxE: np.ndarray
    limit_C: np.ndarray
    start_E: np.ndarray
    positive: int = 0


@dataclass(frozen=True)
class BoundObjective:
    """An `Objective` over the T targets of one table or fit.

    Costs are `y * sign_T` for losses `y` in the targets' units; `reference` is subtracted from them.
    """

    objective: Objective
    targets: tuple[str, ...]
    sign_T: np.ndarray  # -1 for a score, else 1
    weight_T: np.ndarray  # sums to one
    slope_T: np.ndarray  # slope_T, noise_T: of the guardrails
    noise_T: np.ndarray
    kl_weight: float = 0.0  # of the divergence from the prior, a penalty

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every target; they sum to one."""
        return dict(zip(self.targets, map(float, self.weight_T), strict=True))

    @property
    def weighted(self) -> bool:
        return not np.allclose(self.weight_T, self.weight_T[0])

    @property
    def name(self) -> str:
        """Name of its value on an axis or in a table, without `Objective.robust_suffix`."""
        above = {None: "", "current": " above current", "best": " above its own best"}[self.objective.reference]
        if self.objective.kind == "worst":
            worst = "worst loss" if self.losses_only else "worst target (scores negated)"
            return f"{'weighted ' * self.weighted}{worst}{above}"
        return f"{self.mean_name}{above}{', with guardrails' if self.objective.kind == 'guardrails' else ''}"

    @property
    def mean_name(self) -> str:
        """Name of `mean`."""
        mean = "mean loss" if self.losses_only else "mean objective (scores negated)"
        return f"{'weighted ' * self.weighted}{mean}"

    @property
    def losses_only(self) -> bool:
        return bool((self.sign_T > 0).all())

    @cached_property
    def coef_T(self) -> np.ndarray:
        """Coefficients of `mean`: the weights, negative for a score."""
        return self.sign_T * self.weight_T

    def mean(self, y_RxT: np.ndarray) -> np.ndarray:
        """Weighted mean of measured or predicted losses, scores negated: the leading axes, (R,)."""
        return y_RxT @ self.coef_T

    @cached_property
    def counted_T(self) -> np.ndarray:
        """Indices of the targets of positive weight."""
        return np.flatnonzero(self.weight_T > 0)

    @cached_property
    def _factor_T(self) -> np.ndarray:
        return self.weight_T[self.counted_T] / self.weight_T[self.counted_T].mean()

    def value(self, cost_SxQxT: np.ndarray, reference: Array = 0.0, divergence_Q: Array = 0.0) -> np.ndarray:
        """Value of each scenario's costs, with the penalty for a divergence: the leading axes, (S, Q)."""
        rise_SxQxT, value_SxQ = cost_SxQxT - reference, self.penalty(divergence_Q)
        if self.objective.kind == "worst":
            return (self._factor_T * rise_SxQxT[..., self.counted_T]).max(axis=-1) + value_SxQ
        if self.objective.kind == "guardrails":
            value_SxQ = np.maximum(rise_SxQxT - self.noise_T, 0.0) @ self.slope_T + value_SxQ
        return rise_SxQxT @ self.weight_T + value_SxQ

    def penalty(self, divergence_Q: Array) -> Array:
        """What a divergence from the prior adds to the value."""
        return self.kl_weight * divergence_Q

    def observed(self, y_RxT: np.ndarray, reference: Array = 0.0) -> np.ndarray:
        """Value of measured or predicted losses, shape (R,); a target without weight may be NaN."""
        idle_T = (self.weight_T == 0) & (self.slope_T == 0)
        return self.value(np.where(idle_T, 0.0, y_RxT * self.sign_T), np.where(idle_T, 0.0, reference))

    def best_of_grid(self, y_RxT: np.ndarray, h_RxK: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """The mixture (K,) of the lowest observed value, averaged over its rows."""
        group_R = mixture_index(h_RxK)
        mean_G = np.bincount(group_R, self.observed(y_RxT, reference)) / np.bincount(group_R)
        return h_RxK[(group_R == mean_G.argmin()).argmax()]

    def interval(
        self,
        predicted_QxT: np.ndarray,
        draws_SxQxT: np.ndarray,
        low_QxT: np.ndarray,
        high_QxT: np.ndarray,
        level: float,
        reference: Array = 0.0,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Value of predicted losses and its interval for a new run: (value, low, high), each (Q,).

        The draws of each target are stretched to the width of its calibrated interval `low` to `high`. The worst of
        several uncertain targets tends to exceed the worst of their predictions, so the interval reaches further up.
        """
        ends = ((1 - level) / 2, 0.5, (1 + level) / 2)
        lo_QxT, median_QxT, hi_QxT = np.quantile(draws_SxQxT, ends, axis=0)
        wider_QxT = (high_QxT - low_QxT) / np.maximum(hi_QxT - lo_QxT, 1e-12)
        stretched_SxQxT = predicted_QxT + wider_QxT * (draws_SxQxT - median_QxT)
        value_Q = self.value(predicted_QxT * self.sign_T, reference)
        low_Q, high_Q = np.quantile(self.value(stretched_SxQxT * self.sign_T, reference), ends[::2], axis=0)
        return value_Q, np.minimum(low_Q, value_Q), np.maximum(high_Q, value_Q)

    def rows(
        self, unit_T: np.ndarray, offset_T: np.ndarray, reference_SxT: np.ndarray, count: int | None = None
    ) -> ObjectiveRows:
        """The objective over S scenarios of costs `unit_T f + offset_T`; `count` as in `Objective.over_scenarios`.

        A maximum is an upper bound that is minimized. The mean of the worst share q of S values is
        `min over z of z + Σ max(value_s - z, 0) / (q S)` (Rockafellar and Uryasev 2000).
        """
        (s, t), robust, above_SxT = reference_SxT.shape, self.objective.robust, reference_SxT - offset_T
        if worst := self.objective.kind == "worst":
            piece_JxT = np.eye(t)[self.counted_T] * (self._factor_T * unit_T[self.counted_T])[:, None]
            limit_SxJ = self._factor_T * above_SxT[:, self.counted_T]
        else:
            piece_JxT, limit_SxJ = (self.weight_T * unit_T)[None], (above_SxT @ self.weight_T)[:, None]
        guard_G = np.flatnonzero(self.slope_T)
        hinge_GxT = np.eye(t)[guard_G] * (self.slope_T * unit_T)[guard_G, None]
        hinge_limit_H = (self.slope_T * (above_SxT + self.noise_T))[:, guard_G].reshape(-1)
        value_CxF, hinge_HxF = np.kron(np.eye(s), piece_JxT), np.kron(np.eye(s), hinge_GxT)
        h, scenario_C = len(hinge_HxF), np.repeat(np.arange(s), len(piece_JxT))
        if not worst and robust in ("point", "mean"):
            return ObjectiveRows(
                value_CxF.mean(axis=0), np.full(h, 1 / s), -float(limit_SxJ.mean()), hinge_HxF, np.eye(h),
                hinge_limit_H, np.ones(h), h,
            )  # fmt: skip
        if robust == "worst" or s == 1:
            coef_E, lift_CxE, positive = np.ones(1), np.ones((len(scenario_C), 1)), 0
        elif robust == "quantile":
            coef_E = np.r_[1.0, np.full(s, 1 / self.objective.tail(count or s))]
            lift_CxE, positive = np.column_stack([np.ones(len(scenario_C)), np.eye(s)[scenario_C]]), s
        else:
            coef_E, lift_CxE, positive = np.full(s, 1 / s), np.eye(s)[scenario_C], 0
        of_hinge_CxH = np.repeat(np.eye(s), len(guard_G), axis=1)[scenario_C]
        lift_CxE = np.block([[lift_CxE, -of_hinge_CxH], [np.zeros((h, len(coef_E))), np.eye(h)]])
        return ObjectiveRows(
            np.zeros(s * t), np.r_[coef_E, np.zeros(h)], 0.0, np.concatenate([value_CxF, hinge_HxF]), lift_CxE,
            np.r_[limit_SxJ.reshape(-1), hinge_limit_H], np.r_[np.full(len(coef_E), 1.0 + len(guard_G)), np.ones(h)],
            positive + h,
        )  # fmt: skip


def tail_mean(value_SxQ: np.ndarray, tail: float) -> np.ndarray:
    """Mean of the `tail` worst of S values, the last of them in part, shape (Q,)."""
    share_S = np.clip(tail - np.arange(len(value_SxQ)), 0, 1)
    return share_S @ -np.sort(-value_SxQ, axis=0) / share_S.sum()


def sign_of(column: str) -> float:
    """-1 for a score, which is better when higher, else 1."""
    return -1.0 if column.startswith("score/") else 1.0


def target_index(name: str, targets: Sequence[str], columns: Sequence[str], where: str = "") -> int:
    """Index of a target, given by its bare name or column; raises InputError, beginning with `where`, if unknown."""
    bare = dict(zip(columns, targets, strict=True)).get(name, name)
    if bare not in targets:
        raise InputError(f"{where}target '{name}' was not fitted{did_you_mean(name, targets)}")
    return list(targets).index(bare)
