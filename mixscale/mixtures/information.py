"""What a run would show: the linear-Gaussian uncertainty of some quantities, and the runs that reduce it most.

Losses of candidate runs and quantities of interest are jointly normal. A run measures its loss with noise, and reduces
the variance of the quantities by an amount that does not depend on the measured value, so whole designs can be
compared before anything is trained (Lindley 1956; Chaloner and Verdinelli 1995, section 2). Arrays only: the caller
supplies the covariances, from a prior or from the draws of a fit.
"""

from __future__ import annotations

import copy

import numpy as np
from scipy.linalg.blas import dger

EXCHANGE_ROUNDS = 3  # most rounds in which each chosen run may be exchanged for a better one (Fedorov 1972)
EXCHANGE_GAIN = 1e-6  # smallest relative gain of an exchange, so that rounding cannot make exchanges cycle


class Uncertainty:
    """Weighted variance of Q quantities under M independent unknowns, and how runs of N candidates reduce it.

    An unknown is a target, or one draw of a law. `variance` is the sum over unknowns of the weighted variances of the
    quantities, in the squared unit of the loss.

    Args:
        cov_MxNxN: covariance of the candidates' losses.
        cross_MxQxN: covariance of quantities and candidates, each quantity times the root of its weight.
        variance: the weighted variance before any run.
        noise_MxN: variance of a run about the loss that it measures.
    """

    def __init__(self, cov_MxNxN: np.ndarray, cross_MxQxN: np.ndarray, variance: float, noise_MxN: np.ndarray):
        self.cov_MxNxN = np.array(cov_MxNxN, dtype=np.float64, order="C")
        self.cross_MxQxN = np.array(cross_MxQxN, dtype=np.float64, order="C")
        self.variance, self.noise_MxN = variance, noise_MxN

    def gains(self) -> np.ndarray:
        """Reduction of the variance by a run of each candidate, shape (N,)."""
        spread_MxN = np.einsum("mnn->mn", self.cov_MxNxN) + self.noise_MxN
        return (np.einsum("mqn,mqn->mn", self.cross_MxQxN, self.cross_MxQxN) / spread_MxN).sum(axis=0)

    def add_run(self, n: int) -> None:
        """Conditions on a run of candidate n."""
        self.variance -= self._gain(n)
        self._update(n, 1 / (self.cov_MxNxN[:, n, n] + self.noise_MxN[:, n]))

    def remove_run(self, n: int) -> None:
        """Undoes `add_run(n)`."""
        # A run with variance -noise undoes one with noise; the variance that remains there is below the noise.
        margin_M = np.maximum(self.noise_MxN[:, n] - self.cov_MxNxN[:, n, n], 1e-9 * self.noise_MxN[:, n])
        self._update(n, -1 / margin_M)
        self.variance += self._gain(n)

    def _gain(self, n: int) -> float:
        spread_M = self.cov_MxNxN[:, n, n] + self.noise_MxN[:, n]
        return float(((self.cross_MxQxN[:, :, n] ** 2).sum(axis=1) / spread_M).sum())

    def _update(self, n: int, factor_M: np.ndarray) -> None:
        for cov_NxN, cross_QxN, factor in zip(self.cov_MxNxN, self.cross_MxQxN, factor_M, strict=True):
            with_n_N, with_n_Q = cov_NxN[n].copy(), cross_QxN[:, n].copy()
            # In place, and transposed because BLAS is column-major: allocating an outer product would take longer.
            dger(-factor, with_n_N, with_n_Q, a=cross_QxN.T, overwrite_a=True)
            dger(-factor, with_n_N, with_n_N, a=cov_NxN.T, overwrite_a=True)


def choose(uncertainty: Uncertainty, runs: int, cost_N: np.ndarray | None = None, budget: float = np.inf):
    """At most `runs` candidates that together leave the least variance, each once, within a budget.

    A greedy choice, then exchanges. If costs differ, it tries both the greatest gain and the greatest gain for its
    cost and keeps the better design, because either alone can be far off (Khuller, Moss and Naor 1999).

    Returns:
        the chosen candidates, most informative first, and the variance that remains after each, shape (chosen,).
        `uncertainty` is updated with them.
    """
    cost_N = np.ones(uncertainty.noise_MxN.shape[1]) if cost_N is None else cost_N
    divisors = [np.ones_like(cost_N)] + ([cost_N] if np.ptp(cost_N) > 0 and np.isfinite(budget) else [])
    tried = []
    for divisor_N in divisors:
        trial = copy.deepcopy(uncertainty)
        chosen = _greedy(trial, runs, divisor_N, cost_N, budget)
        _exchange(trial, chosen, cost_N, budget)
        tried.append((trial.variance, chosen))
    return _ordered(uncertainty, min(tried, key=lambda one: one[0])[1])


def _gains(uncertainty: Uncertainty, others: list[int], cost_N: np.ndarray, budget: float) -> np.ndarray:
    """Gain of each candidate next to the others, -inf if it is one of them or exceeds the budget, shape (N,)."""
    possible_N = cost_N <= (budget - cost_N[others].sum()) * (1 + 1e-9)
    possible_N[others] = False
    return np.where(possible_N, uncertainty.gains(), -np.inf)


def _greedy(uncertainty: Uncertainty, runs: int, divisor_N: np.ndarray, cost_N: np.ndarray, budget: float):
    chosen: list[int] = []
    for _ in range(min(runs, len(cost_N))):
        gain_N = _gains(uncertainty, chosen, cost_N, budget) / divisor_N
        best = int(gain_N.argmax())
        if gain_N[best] == -np.inf:
            break
        uncertainty.add_run(best)
        chosen.append(best)
    return chosen


def _exchange(uncertainty: Uncertainty, chosen: list[int], cost_N: np.ndarray, budget: float) -> None:
    """Exchanges the chosen, in place, until no exchange gains."""
    for _ in range(EXCHANGE_ROUNDS):
        before = list(chosen)
        for i, old in enumerate(before):
            uncertainty.remove_run(old)
            gain_N = _gains(uncertainty, chosen[:i] + chosen[i + 1 :], cost_N, budget)
            best = int(gain_N.argmax())
            chosen[i] = best if gain_N[best] > gain_N[old] * (1 + EXCHANGE_GAIN) else old
            uncertainty.add_run(chosen[i])
        if chosen == before:
            break


def _ordered(uncertainty: Uncertainty, chosen: list[int]) -> tuple[list[int], np.ndarray]:
    """The chosen, most informative first, and the variance that remains after each; adds them to `uncertainty`."""
    order, remaining, left = [], [], list(chosen)
    while left:
        order.append(max(left, key=uncertainty.gains().__getitem__))
        left.remove(order[-1])
        uncertainty.add_run(order[-1])
        remaining.append(max(uncertainty.variance, 0.0))
    return order, np.array(remaining)
