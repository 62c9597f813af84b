"""`findings`: what the runs say about the optimum, in numbers that can be checked, and their JSON.

Mixtures are compared by the goal that the optimum was solved for, as `aim.Aim` tells it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixscale.report.candidates import Candidate, Interval, candidates, earlier_optimum
from mixscale.report.comparison import Comparison, comparisons, target_comparisons
from mixscale.report.held_out import HeldOut, Score, held_out, left_out
from mixscale.report.material import Material
from mixscale.report.names import label, phrase
from mixscale.report.seeds import noises
from mixscale.report.statistics import LEVEL, Noise
from mixscale.report.terms import Terms, terms
from mixscale.run_table import Status, is_complete

SEEN = 5e-4
"""Difference of a weight that can be seen in a table."""


@dataclass(frozen=True)
class Findings:
    """All that is said about a directory of runs; `to_json` is what result.json holds."""

    swept: bool
    """whether a sweep of ours made the table, which names the origin of each mixture then: its mixtures are a grid"""
    law: str
    unit: str
    level: float
    n_params: float | None
    n_tokens: float | None
    objective: str
    """what mixtures are compared by, such as `weighted mean loss`; lower is better"""
    weighted: bool
    """whether some targets count for more than others"""
    target_weights: dict[str, float]
    target_sign: dict[str, float]
    """-1 of a score, which is better when higher; else 1"""
    terms: Terms
    optimum: dict[str, float]
    optimum_interval: dict[str, Interval]
    bootstrap: int
    resamples_apart: int
    """of these, how many have another optimum than the law"""
    earlier_optimum: bool
    """whether the verification runs of an optimum are all of another than this one"""
    candidates: dict[str, Candidate]
    comparisons: dict[str, Comparison]
    """by the goal; of each baseline, as the next"""
    by_target: dict[str, dict[str, Comparison]]
    """by each target alone"""
    held_out: HeldOut | None
    left_out: Score
    """of the fitted runs, each predicted by a fit without its fold of the cross-validation"""
    noise: Noise | None
    """of what mixtures are compared by"""
    target_noise: dict[str, Noise | None]
    runs: dict[str, int]
    """number of runs by status"""
    unfinished: dict[str, str]
    """status of each run that is not complete"""
    strangers: dict[str, int]
    """number of runs by the domain that they use and no fitted run did; the law is not asked about them"""

    @property
    def spreads(self) -> bool:
        """Whether the law's resamples differ in their optimum, so that a weight has an interval that can be seen."""
        return any(high - low > SEEN for low, high in self.optimum_interval.values())

    @property
    def new_seeds(self) -> bool:
        """Whether any compared mixture was trained with seeds that the law was not fitted to."""
        return any(c.goal.observed and not c.goal.known for c in self.candidates.values())

    def label(self, name: str) -> str:
        """What a compared mixture is called in tables and figures."""
        return label(name, self.swept)

    def phrase(self, name: str) -> str:
        """What a compared mixture is called in sentences."""
        return phrase(name, self.swept)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: numbers that are not finite become null."""
        return _plain(dataclasses.asdict(self))


def findings(material: Material) -> Findings:
    """What the runs of `material` say about its law and its optimum."""
    noise = noises(material)
    compared = candidates(material, noise)
    sign = dict(zip(material.targets, material.aim.sign_T.tolist(), strict=True))
    return Findings(
        swept="origin" in material.table.frame,
        law=material.law,
        unit=material.unit.strip(),
        level=LEVEL,
        n_params=material.scale.get("n_params"),
        n_tokens=material.scale.get("n_tokens"),
        objective=material.aim.name,
        weighted=material.aim.weighted,
        terms=terms(material),
        target_sign=sign,
        target_weights=dict(zip(material.targets, material.aim.weight_T.tolist(), strict=True)),
        optimum={d: float(w) for d, w in material.optimum.mixture.items()},
        optimum_interval={d: (float(low), float(high)) for d, (low, high) in material.optimum.interval.items()},
        bootstrap=len(material.optimum.samples_SxK),
        resamples_apart=int((_farthest_S(material) > SEEN).sum()),
        earlier_optimum=earlier_optimum(material),
        candidates=compared,
        comparisons=comparisons(compared, noise["goal"]),
        by_target=target_comparisons(compared, noise, sign),
        held_out=held_out(material, noise),
        left_out=left_out(material, noise["goal"]),
        noise=noise["goal"],
        target_noise={t: noise[t] for t in material.targets},
        **_statuses(material),
        strangers=dict(material.strangers),
    )


def _farthest_S(material: Material) -> np.ndarray:
    """How far the optimum of each resample is from the law's, in the weight that differs most."""
    best = material.optimum
    return np.abs(best.samples_SxK.reshape(-1, len(best.mixture)) - list(best.mixture.values())).max(axis=1)


def _statuses(material: Material) -> dict[str, Any]:
    final = material.table.final().frame
    complete_R = is_complete(final)
    status = final["status"].mask(complete_R, Status.COMPLETE) if "status" in final else None
    if status is None:
        return {"runs": {str(Status.COMPLETE): len(final)}, "unfinished": {}}
    unfinished = final["run"][~complete_R]
    return {
        "runs": {str(s): int(n) for s, n in status.value_counts().items()},
        "unfinished": {str(r): str(status[i]) for i, r in unfinished.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
