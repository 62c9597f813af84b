"""`Goal`: which number a mixture should make small, and that number as linear rows over losses.

Costs are losses turned so that smaller is better (a score's sign is changed), in the targets' units. A scenario is one
set of costs that the law allows: its point fit, or a resample. Nothing here knows how a programme is solved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mixscale.errors import InputError

Robust = Literal["point", "mean", "quantile", "worst"]


@dataclass(frozen=True)
class Objective:
    """What is minimized.

    Attributes:
        weights: of the targets, by name; all equal where none is given.
        worst: minimize the worst target (minimax) in place of the weighted mean. Each target is then multiplied by its
            weight over the mean weight; those of weight zero are left out.
        relative_to: what the worst target is counted from: None is zero; 'current' is its loss at the current mixture;
            'best' is the lowest loss it could have under the constraints.
        robust: over the fit's resamples. 'point' takes the fitted law alone; 'mean' the mean over resamples;
            'quantile' the mean of the worst `1 - level` of them (the conditional value at risk, CVaR, which is convex
            and no smaller than the quantile); 'worst' the worst of them.
        level: of 'quantile'.
    """

    weights: dict[str, float] = field(default_factory=dict)
    worst: bool = False
    relative_to: Literal["current", "best"] | None = None
    robust: Robust = "point"
    level: float = 0.9

    def __post_init__(self) -> None:
        # The command line reads an override as the type it finds, so a whole number in a config must not stay one.
        object.__setattr__(self, "weights", {name: float(w) for name, w in (self.weights or {}).items()})
        if self.robust not in ("point", "mean", "quantile", "worst"):
            raise InputError(f"robust is '{self.robust}'; it is one of point, mean, quantile, worst")
        if self.relative_to not in (None, "current", "best"):
            raise InputError(f"relative_to is '{self.relative_to}'; it is 'current', 'best' or nothing")
        if self.relative_to and not self.worst:
            raise InputError("relative_to counts only for the worst target; give worst, or leave it out")
        if not 0 < self.level < 1:
            raise InputError(f"level is {self.level:g}; give a share between 0 and 1, such as 0.9")

    def of_scenario(self, cost_SxQxT: np.ndarray, reference_SxT: np.ndarray, weight_T: np.ndarray) -> np.ndarray:
        """What a scenario's costs amount to, shape (S, Q)."""
        if not self.worst:
            return cost_SxQxT @ weight_T
        counted_T, factor_T = _factors(weight_T)
        return (factor_T * (cost_SxQxT - reference_SxT[:, None])[..., counted_T]).max(axis=-1)

    def tail(self, count: int) -> float:
        """How many of so many scenarios decide, where only the worst do; not a whole number for a quantile."""
        return 1.0 if self.robust == "worst" else (1 - self.level) * count

    def of_all(self, value_SxQ: np.ndarray, count: int | None = None) -> np.ndarray:
        """What the scenarios' values amount to, shape (Q,).

        Args:
            count: of all scenarios, where these are only the worst of them.
        """
        if self.robust == "worst":
            return value_SxQ.max(axis=0)
        if self.robust == "quantile":
            return tail_mean(value_SxQ, self.tail(count or len(value_SxQ)))
        return value_SxQ.mean(axis=0)

    def said(self) -> str:
        """In words, as in 'the weighted mean over targets'."""
        inner = "the mean over targets by weight"
        if self.worst:
            inner = "the worst target" + {
                None: "", "current": " counted from the current mixture", "best": " counted from its own best"
            }[self.relative_to]  # fmt: skip
        return inner + {
            "point": "", "mean": ", mean over the resamples", "worst": ", in the worst resample",
            "quantile": f", mean over the worst {1 - self.level:.0%} of the resamples (CVaR)",
        }[self.robust]  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """A goal as `minimize price_F · f + slope_E · e + shift` with `share_CxF · f - lift_CxE · e <= limit_C`.

    f are the scaled losses of S scenarios and T targets in one row, e are E variables of the goal's own, of which the
    last `positive` are not negative.
    """

    price_F: np.ndarray
    slope_E: np.ndarray
    shift: float
    share_CxF: np.ndarray
    lift_CxE: np.ndarray
    limit_C: np.ndarray
    positive: int = 0


def as_rows(
    goal: Objective,
    weight_T: np.ndarray,
    unit_T: np.ndarray,
    offset_T: np.ndarray,
    reference_SxT: np.ndarray,
    count: int | None = None,
) -> Rows:
    """The goal over scenarios of costs `unit_T f + offset_T`; `count` is as in `Goal.of_all`.

    The largest of several is an upper bound that is minimized; the mean of the worst share q of S values is
    `min over z of z + Σ max(value_s - z, 0) / (q S)` (Rockafellar and Uryasev 2000).
    """
    s, t = reference_SxT.shape
    if not goal.worst:
        share_SxF = np.kron(np.eye(s), weight_T * unit_T)
        limit_S, scenario_C = np.full(s, -float(weight_T @ offset_T)), np.arange(s)
    else:
        counted_T, factor_T = _factors(weight_T)
        picked_JxT = np.eye(t)[counted_T] * (factor_T * unit_T[counted_T])[:, None]
        share_SxF = np.kron(np.eye(s), picked_JxT)
        limit_S = (factor_T * (reference_SxT - offset_T)[:, counted_T]).reshape(-1)
        scenario_C = np.repeat(np.arange(s), len(counted_T))
    if not goal.worst and goal.robust in ("point", "mean"):
        return Rows(
            share_SxF.mean(axis=0), np.zeros(0), -float(limit_S.mean()), np.zeros((0, s * t)), np.zeros((0, 0)),
            np.zeros(0),
        )  # fmt: skip
    if goal.robust == "worst" or s == 1:
        slope_E, lift_CxE, positive = np.ones(1), np.ones((len(scenario_C), 1)), 0
    elif goal.robust == "quantile":
        slope_E = np.r_[1.0, np.full(s, 1 / goal.tail(count or s))]
        lift_CxE, positive = np.column_stack([np.ones(len(scenario_C)), np.eye(s)[scenario_C]]), s
    else:
        slope_E, lift_CxE, positive = np.full(s, 1 / s), np.eye(s)[scenario_C], 0
    return Rows(np.zeros(s * t), slope_E, 0.0, share_SxF, lift_CxE, limit_S, positive)


def tail_mean(value_SxQ: np.ndarray, tail: float) -> np.ndarray:
    """Mean of the `tail` worst of S values, the last of them in part, shape (Q,)."""
    share_S = np.clip(tail - np.arange(len(value_SxQ)), 0, 1)
    return share_S @ -np.sort(-value_SxQ, axis=0) / share_S.sum()


def _factors(weight_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which targets count, and by how much more than the mean of those that do."""
    counted_T = np.flatnonzero(weight_T > 0)
    return counted_T, weight_T[counted_T] / weight_T[counted_T].mean()
