"""What a run would teach: the linear-Gaussian doubt about some goals, and the choice of runs that leaves least of it.

Losses of candidates and goals are jointly normal; a run of a candidate measures its loss with noise, and the doubt
about the goals shrinks by an amount that does not depend on what is measured, so a whole design can be weighed before
anything is trained (Lindley 1956; Chaloner and Verdinelli 1995, section 2). Arrays only: where the covariances come
from, a prior before any table or the draws of a fit, is the caller's business.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import dger

SWAPS = 3
"""Rounds at most in which every chosen run may be exchanged for a better one (Fedorov 1972)."""
WORTH = 1e-6
"""Relative gain below which an exchange is not made, so that rounding cannot make it go round."""


class Doubt:
    """Weighted variance of Q goals, under M independent unknowns, and how runs of N candidates lower it.

    An unknown is a target, or one guess at a law; each has its own covariances. The doubt is the sum over unknowns of
    the goals' weighted variances, in the unit of the loss squared.

    Args:
        runs_MxNxN: covariance of the candidates' losses.
        goals_MxQxN: covariance of goals and candidates, each goal times the root of its weight.
        left: the doubt before any run.
        noise_MxN: variance of a run about the loss it measures.
    """

    def __init__(self, runs_MxNxN: np.ndarray, goals_MxQxN: np.ndarray, left: float, noise_MxN: np.ndarray):
        self.runs_MxNxN = np.array(runs_MxNxN, dtype=np.float64, order="C")
        self.goals_MxQxN = np.array(goals_MxQxN, dtype=np.float64, order="C")
        self.left, self.noise_MxN = left, noise_MxN

    def gains(self) -> np.ndarray:
        """By how much a run of each candidate would lower the doubt, shape (N,)."""
        spread_MxN = np.einsum("mnn->mn", self.runs_MxNxN) + self.noise_MxN
        return (np.einsum("mqn,mqn->mn", self.goals_MxQxN, self.goals_MxQxN) / spread_MxN).sum(axis=0)

    def build_dataset(self, n: int) -> None:
        """Condition on a run of candidate n."""
        self.left -= self._gain(n)
        self._update(n, 1 / (self.runs_MxNxN[:, n, n] + self.noise_MxN[:, n]))

    def forget(self, n: int) -> None:
        """Take back a run of candidate n."""
        # A run with variance -noise undoes one with noise; what is left there is always below the noise.
        room_M = np.maximum(self.noise_MxN[:, n] - self.runs_MxNxN[:, n, n], 1e-9 * self.noise_MxN[:, n])
        self._update(n, -1 / room_M)
        self.left += self._gain(n)

    def _gain(self, n: int) -> float:
        spread_M = self.runs_MxNxN[:, n, n] + self.noise_MxN[:, n]
        return float(((self.goals_MxQxN[:, :, n] ** 2).sum(axis=1) / spread_M).sum())

    def _update(self, n: int, factor_M: np.ndarray) -> None:
        for runs_NxN, goals_QxN, factor in zip(self.runs_MxNxN, self.goals_MxQxN, factor_M, strict=True):
            with_n_N, with_n_Q = runs_NxN[n].copy(), goals_QxN[:, n].copy()
            # In place, and transposed because BLAS counts columns first: an outer product in memory would take longer.
            dger(-factor, with_n_N, with_n_Q, a=goals_QxN.T, overwrite_a=True)
            dger(-factor, with_n_N, with_n_N, a=runs_NxN.T, overwrite_a=True)


def choose(doubt: Doubt, runs: int, cost_N: np.ndarray | None = None, budget: float = np.inf):
    """Candidates that together leave the least doubt: at most `runs` of them, each once, within a budget.

    Greedily, then by exchanges. Where costs differ, both the greatest gain and the greatest gain a cost are tried and
    the better design is kept, because either alone can be far off (Khuller, Moss and Naor 1999). The doubt is left as
    it is after the chosen runs.

    Returns:
        the chosen, the one that teaches most first, and the doubt left after each, shape (chosen,).
    """
    cost_N = np.ones(doubt.noise_MxN.shape[1]) if cost_N is None else cost_N
    prices = [np.ones_like(cost_N)] + ([cost_N] if np.ptp(cost_N) > 0 and np.isfinite(budget) else [])
    tried = []
    for price_N in prices:
        trial = Doubt(doubt.runs_MxNxN, doubt.goals_MxQxN, doubt.left, doubt.noise_MxN)
        chosen = _exchanged(trial, _greedy(trial, runs, price_N, cost_N, budget), cost_N, budget)
        tried.append((trial.left, chosen))
    return _ordered(doubt, min(tried, key=lambda one: one[0])[1])


def _greedy(doubt: Doubt, runs: int, price_N: np.ndarray, cost_N: np.ndarray, budget: float) -> list[int]:
    chosen: list[int] = []
    for _ in range(min(runs, len(cost_N))):
        affordable_N = cost_N <= (budget - cost_N[chosen].sum()) * (1 + 1e-9)
        affordable_N[chosen] = False
        if not affordable_N.any():
            break
        best = int(np.where(affordable_N, doubt.gains() / price_N, -np.inf).argmax())
        doubt.build_dataset(best)
        chosen.append(best)
    return chosen


def _exchanged(doubt: Doubt, chosen: list[int], cost_N: np.ndarray, budget: float) -> list[int]:
    chosen = list(chosen)
    for _ in range(SWAPS):
        before = list(chosen)
        for i, old in enumerate(before):
            others = chosen[:i] + chosen[i + 1 :]
            doubt.forget(old)
            possible_N = cost_N <= (budget - cost_N[others].sum()) * (1 + 1e-9)
            possible_N[others] = False
            gain_N = np.where(possible_N, doubt.gains(), -np.inf)
            best = int(gain_N.argmax())
            chosen[i] = best if gain_N[best] > gain_N[old] * (1 + WORTH) else old
            doubt.build_dataset(chosen[i])
        if chosen == before:
            break
    return chosen


def _ordered(doubt: Doubt, chosen: list[int]) -> tuple[list[int], np.ndarray]:
    """The chosen, the one that teaches most first, and what each leaves; `doubt` observes them."""
    order: list[int] = []
    left = []
    while len(order) < len(chosen):
        gain_N = doubt.gains()
        order.append(max((c for c in chosen if c not in order), key=lambda c: gain_N[c]))
        doubt.build_dataset(order[-1])
        left.append(max(doubt.left, 0.0))
    return order, np.array(left)
