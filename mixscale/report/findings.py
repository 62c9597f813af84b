"""`findings`: what the runs say about the optimum, in numbers that can be checked, and their JSON.

The mean loss is the mean over targets with the weights that the optimum was solved for; where these are unequal it is
called the weighted mean loss. Scores, which are better when higher, count negatively in it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixscale.report.candidates import Candidate, Interval, candidates, earlier_optimum
from mixscale.report.comparison import Comparison, comparisons
from mixscale.report.held_out import HeldOut, held_out
from mixscale.report.material import Material
from mixscale.report.statistics import LEVEL, Noise, pooled_noise


@dataclass(frozen=True)
class Findings:
    """All that is said about a directory of runs; `to_json` is what result.json holds."""

    law: str
    unit: str
    level: float
    n_params: float | None
    n_tokens: float | None
    solved_for: dict[str, float]
    """n_params and n_tokens that the optimum was solved for, where the law uses them"""
    objective: str
    """`mean loss` or `weighted mean loss`; `mean objective (scores negated)` where there are scores"""
    target_weights: dict[str, float]
    optimum: dict[str, float]
    optimum_interval: dict[str, Interval]
    bounds: dict[str, Interval]
    """least and greatest weight that the optimum was held to, of the domains that were"""
    earlier_optimum: bool
    """whether the verification runs of an optimum are all of another than this one"""
    candidates: dict[str, Candidate]
    comparisons: dict[str, Comparison]
    held_out: HeldOut | None
    noise: Noise | None
    """of the mean loss"""
    target_noise: dict[str, Noise | None]
    runs: dict[str, int]
    """number of runs by status"""
    unfinished: dict[str, str]
    """status of each run that is not complete"""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: numbers that are not finite become null."""
        return _plain(dataclasses.asdict(self))


def findings(material: Material) -> Findings:
    """What the runs of `material` say about its law and its optimum."""
    noise = _noise(material, "mean")
    compared = candidates(material)
    return Findings(
        law=material.law,
        unit=material.unit.strip(),
        level=LEVEL,
        n_params=material.scale.get("n_params"),
        n_tokens=material.scale.get("n_tokens"),
        solved_for=_solved_for(material),
        objective=material.objective_name,
        target_weights=dict(zip(material.targets, material.weights_T.tolist(), strict=True)),
        optimum={d: float(w) for d, w in material.optimum.mixture.items()},
        optimum_interval={d: (float(low), float(high)) for d, (low, high) in material.optimum.interval.items()},
        bounds=_bounds(material),
        earlier_optimum=earlier_optimum(material),
        candidates=compared,
        comparisons=comparisons(compared, noise),
        held_out=held_out(material, noise, _noise(material, "plain")),
        noise=noise,
        target_noise={t: _noise(material, t) for t in material.targets},
        **_statuses(material),
    )


def _bounds(material: Material) -> dict[str, Interval]:
    lower, upper = material.optimum.lower, material.optimum.upper
    return {d: (lower[d], upper[d]) for d in lower if lower[d] > 0 or upper[d] < 1}


def _solved_for(material: Material) -> dict[str, float]:
    given = {"n_params": material.optimum.n_params, "n_tokens": material.optimum.n_tokens}
    return {name: float(v) for name, v in given.items() if v is not None and material.fit.uses_scale}


def _noise(material: Material, column: str) -> Noise | None:
    """Seed noise of `column`: rows of one mixture that differ in their seed, whatever their role."""
    rows = material.at_scale.assign(mixture=material.groups_R(material.at_scale))
    rows = rows.drop_duplicates(["mixture", "seed"])
    return pooled_noise(*(rows[c].to_numpy() for c in (column, "mixture", "seed")))


def _statuses(material: Material) -> dict[str, Any]:
    final = material.table.final().frame
    status = final["status"].fillna("complete").replace("", "complete") if "status" in final else None
    if status is None:
        return {"runs": {"complete": len(final)}, "unfinished": {}}
    unfinished = final["run"][status != "complete"]
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
