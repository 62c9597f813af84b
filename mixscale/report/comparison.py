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
    """The optimum against every other candidate by the goal, where both were trained."""
    return _compared(candidates, {name: c.goal.observed for name, c in candidates.items()}, noise)


def target_comparisons(
    candidates: dict[str, Candidate], noise: dict[str, Noise | None], sign: dict[str, float]
) -> dict[str, dict[str, Comparison]]:
    """The optimum against every other candidate by each target alone, where both were trained.

    Args:
        noise: of each target. sign: -1 of a score, whose differences are negated as everywhere; else 1.
    """
    found: dict[str, dict[str, Comparison]] = {}
    for target, of in sign.items():
        values = {n: {s: of * v for s, v in c.targets[target].observed.items()} for n, c in candidates.items()}
        for name, compared in _compared(candidates, values, noise[target]).items():
            found.setdefault(name, {})[target] = compared
    return found


def _compared(
    candidates: dict[str, Candidate], values: dict[str, dict[str, float]], noise: Noise | None
) -> dict[str, Comparison]:
    """By values of each candidate, by seed; lower is better."""
    trained = {name: candidates[name] for name, of in values.items() if of}
    if "optimum" not in trained:
        return {}
    left = _left(trained, values)
    return {
        name: _comparison(_same(trained["optimum"], other), values["optimum"], values[name], left, noise)
        for name, other in trained.items()
        if name != "optimum"
    }


def _left(trained: dict[str, Candidate], values: dict[str, dict[str, float]]) -> Residual | None:
    """What neither mixture nor seed explains, over the candidates; those of one mixture share its runs."""
    distinct: list[str] = []
    for name in trained:
        if not any(_same(trained[name], trained[other]) for other in distinct):
            distinct.append(name)
    cells = [(i, s, v) for i, name in enumerate(distinct) for s, v in values[name].items()]
    mixture_R, seed_R, value_R = (np.array(column) for column in zip(*cells, strict=True))
    return residual(value_R, mixture_R, seed_R)


def _comparison(
    same: bool, ours: dict[str, float], theirs: dict[str, float], left: Residual | None, noise: Noise | None
) -> Comparison:
    differences = {s: theirs[s] - ours[s] for s in ours if s in theirs}
    if same:
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
