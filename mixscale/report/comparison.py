"""Each baseline against the optimum, as trained: the difference of their mean losses and how sure it is.

Runs of one seed see the same rows in the same order from the same initial weights, so what the seed does to every
mixture alike cancels where both were trained with it. With few seeds the variance of one pair's differences is hardly
known, so it is pooled over all compared mixtures: a layout of mixture × seed with additive effects, whose residual
variance has (M - 1)(S - 1) degrees of freedom. That takes this variance to be the same for every mixture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mixscale.mixture import Mixture
from mixscale.report.candidates import Candidate, Interval
from mixscale.report.material import same_mixture
from mixscale.report.statistics import Noise, Residual, difference_interval, known_noise_interval, residual

Verdict = Literal["better", "worse", "same mixture", "not distinguishable"]


@dataclass(frozen=True)
class Comparison:
    """Mean loss of a baseline minus that of the optimum: positive where the optimum is better."""

    differences: dict[str, float]
    """by seed that both were trained with"""
    mean: float
    interval: Interval | None
    degrees_of_freedom: int | None
    """of the variance that the interval rests on"""
    paired: bool
    over_noise: float | None
    """mean difference in units of the seed noise of one run"""
    verdict: Verdict


def comparisons(candidates: dict[str, Candidate], noise: Noise | None) -> dict[str, Comparison]:
    """The optimum against every other candidate, where both were trained."""
    trained = {name: c for name, c in candidates.items() if c.goal.observed}
    if "optimum" not in trained:
        return {}
    left = _left(list(trained.values()))
    optimum = trained.pop("optimum")
    return {name: _comparison(optimum, other, left, noise) for name, other in trained.items()}


def _left(trained: list[Candidate]) -> Residual | None:
    """What neither mixture nor seed explains, over the candidates; those of one mixture share its runs."""
    distinct: list[Candidate] = []
    for candidate in trained:
        if not any(_same(candidate, other) for other in distinct):
            distinct.append(candidate)
    cells = [(i, s, v) for i, c in enumerate(distinct) for s, v in c.goal.observed.items()]
    mixture_R, seed_R, value_R = (np.array(column) for column in zip(*cells, strict=True))
    return residual(value_R, mixture_R, seed_R)


def _comparison(optimum: Candidate, other: Candidate, left: Residual | None, noise: Noise | None) -> Comparison:
    ours, theirs = optimum.goal.observed, other.goal.observed
    differences = {s: theirs[s] - ours[s] for s in ours if s in theirs}
    if _same(optimum, other):
        return Comparison(differences, 0.0, None, None, bool(differences), None, "same mixture")
    interval, degrees = None, None
    paired = len(differences) > 1 and left is not None
    if paired:
        mean = float(np.mean(list(differences.values())))
        interval, degrees = difference_interval(mean, len(differences), left), left.degrees_of_freedom
    else:
        mean = float(np.mean(list(theirs.values())) - np.mean(list(ours.values())))
        if noise:
            interval = known_noise_interval(mean, len(ours), len(theirs), noise)
            degrees = noise.degrees_of_freedom
    over_noise = mean / noise.sd if noise and noise.sd > 0 else None
    return Comparison(differences, mean, interval, degrees, paired, over_noise, _verdict(interval))


def _same(a: Candidate, b: Candidate) -> bool:
    return same_mixture(Mixture(a.mixture), Mixture(b.mixture))


def _verdict(interval: Interval | None) -> Verdict:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "not distinguishable"
    return "better" if interval[0] > 0 else "worse"
