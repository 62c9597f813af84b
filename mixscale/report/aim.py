"""`Aim`: the number that runs and mixtures are compared by, which is the goal that the optimum was solved for.

The law's doubt (a goal over resamples) and a penalty for leaving the prior say how to choose, not how well a trained
mixture did, so neither is part of it: only the mean over targets or the worst of them is, and what that counts from.
Scores, which are better when higher, count negatively.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixscale.laws import LawFit
from mixscale.mixture import Mixture
from mixscale.optimization import Optimum
from mixscale.report.statistics import LEVEL


@dataclass(frozen=True)
class Aim:
    """The goal of `optimum`, a solution of `fit`, for losses that were measured or predicted."""

    fit: LawFit
    optimum: Optimum

    @cached_property
    def weight_T(self) -> np.ndarray:
        """Weight of each target as the optimum was solved for; sums to one."""
        return self.fit.target_weights(self.optimum.weights)

    @cached_property
    def sign_T(self) -> np.ndarray:
        """What each target is multiplied by: 1, or -1 for a score."""
        return self.fit.signs_T

    @property
    def weighted(self) -> bool:
        """Whether some targets count for more than others."""
        return not np.allclose(self.weight_T, self.weight_T[0])

    @property
    def plain(self) -> bool:
        """Whether it is the mean over targets that all count the same."""
        return not (self.weighted or self.optimum.goal.worst)

    @property
    def name(self) -> str:
        """What it is called; lower is better."""
        losses, goal = (self.sign_T > 0).all(), self.optimum.goal
        if goal.worst:
            since = {None: "", "current": " above current", "best": " above its own best"}[goal.relative_to]
            name = f"worst {'loss' if losses else 'target (scores negated)'}{since}"
        else:
            name = plain_name(losses)
        return f"weighted {name}" if self.weighted else name

    def observed(self, y_QxT: np.ndarray, **scale) -> np.ndarray:
        """Its value for measured targets, shape (Q,); `scale` is that of the runs, a number or one for each."""
        cost_QxT = y_QxT * self.sign_T
        return self._of(cost_QxT[None], self._since(len(y_QxT), scale))[0]

    def predicted(self, h_QxK: np.ndarray, **scale) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Its value by the law and its interval for a new run, each (Q,).

        The interval of a worst target is of draws of the law, each target's stretched to the width of its own
        calibrated interval. The worst of several uncertain targets tends to lie above the worst of their predictions,
        so this interval reaches further up than down.
        """
        h_QxK = np.atleast_2d(h_QxK)
        if not self.optimum.goal.worst:
            return self.fit.objective(h_QxK, weights=self.optimum.weights, level=LEVEL, **scale)
        middle_QxT, draws_SxQxT = self.fit.predict(h_QxK, **scale), self.fit.draws(h_QxK, **scale)
        low_QxT, high_QxT = self.fit.interval(h_QxK, level=LEVEL, **scale)
        ends = ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2)
        lo_QxT, median_QxT, hi_QxT = np.quantile(draws_SxQxT, ends, axis=0)
        wider_QxT = (high_QxT - low_QxT) / np.maximum(hi_QxT - lo_QxT, 1e-12)
        stretched_SxQxT = middle_QxT + wider_QxT * (draws_SxQxT - median_QxT)
        since_QxT = self._since(len(h_QxK), scale)
        value_Q = self._of((middle_QxT * self.sign_T)[None], since_QxT)[0]
        low_Q, high_Q = np.quantile(self._of(stretched_SxQxT * self.sign_T, since_QxT), ends[::2], axis=0)
        return value_Q, np.minimum(low_Q, value_Q), np.maximum(high_Q, value_Q)

    def _of(self, cost_SxQxT: np.ndarray, since_QxT: np.ndarray) -> np.ndarray:
        none_SxT = np.zeros((len(cost_SxQxT), cost_SxQxT.shape[-1]))
        return self.optimum.goal.of_scenario(cost_SxQxT - since_QxT, none_SxT, self.weight_T)

    def _since(self, count: int, scale: dict) -> np.ndarray:
        """What each target counts from at the scale of `count` rows, by the law, shape (Q, T)."""
        relative = self.optimum.goal.relative_to
        if relative is None:
            return np.zeros((count, len(self.weight_T)))
        if relative == "current":
            return self._cost(self.optimum.current, count, scale)
        bests = (self.optimum.counted_from[target] for target in self.fit.targets)
        return np.stack([self._cost(best, count, scale)[:, t] for t, best in enumerate(bests)], axis=1)

    def _cost(self, mixture: Mixture, count: int, scale: dict) -> np.ndarray:
        """Costs of one mixture by the law at the scale of `count` rows, shape (Q, T)."""
        h_QxK = np.tile(mixture.array(self.fit.domains), (count, 1))
        return self.fit.predict(h_QxK, **scale) * self.sign_T


def plain_name(losses: bool) -> str:
    """What the mean over targets that all count the same is called."""
    return "mean loss" if losses else "mean objective (scores negated)"
