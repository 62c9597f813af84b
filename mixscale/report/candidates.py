"""The compared mixtures: what the law predicts for each, and what training gave, by seed.

A run counts for the optimum only if it trained that very mixture: a directory may hold verification runs of an
optimum that has since been solved anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd

from mixscale.config import BaselineName
from mixscale.mixture import Mixture
from mixscale.report.material import Material, same_mixture
from mixscale.report.seeds import NewSeeds
from mixscale.report.statistics import Noise, standard_error
from mixscale.report.terms import broken

Interval = tuple[float, float]
STARTING = tuple(name for name in get_args(BaselineName) if name not in ("natural", "uniform"))
"""Starting mixtures that are compared where they were trained to verify."""
CANDIDATES = ("optimum", "current", "natural", "uniform", *STARTING, "best", "unconstrained")
"""Mixtures that are compared, in the order of all tables and figures: the law's answer, the one in use, the two that
need no law, other starting mixtures that were trained, the best that was fitted, and what the law would answer without
constraints."""
SOLVED = ("optimum", "current", "unconstrained")
"""Those of them that the optimum itself names."""


@dataclass(frozen=True)
class Estimate:
    """What the law predicts, with its interval, and what training gave, by seed."""

    predicted: float
    interval: Interval
    """of the law, for a run with the seeds that it was fitted to"""
    of_run: Interval
    """for a run with a new seed; that of the law where all seeds that were trained are `known`"""
    of_mean: Interval
    """for the mean over the seeds that were trained; that of a run where none was"""
    known: bool
    """whether all seeds that were trained are seeds that the law was fitted to; False where none was trained"""
    observed: dict[str, float]
    mean: float | None
    standard_error: float | None


@dataclass(frozen=True)
class Candidate:
    """One of the compared mixtures: the value of the goal, and of each target."""

    mixture: dict[str, float]
    goal: Estimate
    targets: dict[str, Estimate]
    above: tuple[float, float, float] | None
    """how much higher than the optimum's the goal is by the law, where the optimum was solved for, with the interval
    of this difference; None of the optimum"""
    breaks: list[str]
    """constraints that it does not keep, in words"""


def candidates(material: Material, noise: dict[str, Noise | None]) -> dict[str, Candidate]:
    """The compared mixtures that can be known: trained to verify, or else computed from what the table has.

    Args:
        noise: of a seed, for `goal` and each target.
    """
    new = {column: NewSeeds.of(material, of) for column, of in noise.items()}
    found = {}
    for name in CANDIDATES:
        rows = _verified(material, name)
        if name in SOLVED:
            mixture = _solved(material, name)
        elif len(rows):
            mixture = Mixture.from_array(material.domains, material.mixtures_RxK(rows)[-1])
        else:
            mixture = _untrained(material, name)
        if mixture is not None and not material.unknown(mixture):
            found[name] = _candidate(material, name, mixture, rows[_agrees(material, rows, mixture)], new)
    return found


def earlier_optimum(material: Material) -> bool:
    """Whether there are verification runs of an optimum, all of them of another than this one."""
    rows = material.at_scale[material.at_scale["role"] == "verify"]
    agrees_R = _agrees(material, rows, material.optimum.mixture)
    return bool(_has_origin(rows, "optimum").any()) and not agrees_R.any()


def _solved(material: Material, name: str) -> Mixture | None:
    best = material.optimum
    if name == "optimum":
        return best.mixture
    if name == "current":
        return best.current
    free = best.unconstrained
    return None if free is None or same_mixture(free, best.mixture) else free


def _verified(material: Material, name: str) -> pd.DataFrame:
    """Verification runs of a candidate; one may stand for several (origin `natural+best`).

    Any of them may have trained what is now asked of the law, whatever it was called when it was planned.
    """
    rows = material.at_scale[material.at_scale["role"] == "verify"]
    return rows if name in SOLVED else rows[_has_origin(rows, name)]


def _agrees(material: Material, rows: pd.DataFrame, mixture: Mixture) -> np.ndarray:
    trained = (Mixture.from_array(material.domains, h_K) for h_K in material.mixtures_RxK(rows))
    return np.array([same_mixture(m, mixture) for m in trained], dtype=bool)


def _has_origin(rows: pd.DataFrame, name: str) -> np.ndarray:
    return np.array([name in origin.split("+") for origin in rows["origin"]], dtype=bool)


def _untrained(material: Material, name: str) -> Mixture | None:
    """A baseline nobody trained to verify: predicted only."""
    if name == "uniform":
        return Mixture.uniform(material.domains)
    return {"natural": _natural, "best": _best}[name](material) if name not in STARTING else None


def _best(material: Material) -> Mixture | None:
    """The fitted mixture with the lowest goal, its seeds averaged."""
    rows = material.at_scale[material.at_scale["role"] == "fit"]
    if not len(rows):
        return None
    group_R = material.groups_R(rows)
    lowest = rows["goal"].groupby(group_R).mean().idxmin()
    return Mixture.from_array(material.domains, material.mixtures_RxK(rows[group_R == lowest])[0])


def _natural(material: Material) -> Mixture | None:
    """The mixture marked as natural, or the one proportional to each domain's unique tokens where these are known."""
    rows = material.measured
    marked = rows[_has_origin(rows, "natural")]
    if len(marked):
        return Mixture.from_array(material.domains, material.mixtures_RxK(marked)[0])
    columns = [f"unique_tokens/{d}" for d in material.domains]
    if not len(rows) or not set(columns) <= set(rows) or not (rows[columns].max() > 0).all():
        return None
    return Mixture.normalized(dict(zip(material.domains, rows[columns].max(), strict=True)))


def _candidate(
    material: Material, name: str, mixture: Mixture, rows: pd.DataFrame, new: dict[str, NewSeeds]
) -> Candidate:
    h_1xK = mixture.array(material.domains)[None]
    by_seed = rows.groupby("seed")[["goal", *material.targets]].mean()
    value, low, high = (float(v[0]) for v in material.objective(h_1xK))
    values_1xT, low_1xT, high_1xT = material.predict_at_scale(h_1xK)
    targets = {
        t: _estimate(values_1xT[0, i], (low_1xT[0, i], high_1xT[0, i]), by_seed[t], new[t])
        for i, t in enumerate(material.targets)
    }
    above = None if name == "optimum" else material.optimum.regret(mixture)
    breaks = [] if name in ("optimum", "unconstrained") else broken(material, h_1xK[0])
    goal = _estimate(value, (low, high), by_seed["goal"], new["goal"])
    return Candidate(dict(mixture), goal, targets, above, breaks)


def _estimate(predicted: float, interval: Interval, by_seed: pd.Series, new: NewSeeds) -> Estimate:
    known = new.knows(by_seed.index)
    of_run = interval if known else _floats(new.of_run(predicted, *interval))
    of_mean = _floats(new.of_mean(by_seed.index, predicted, *interval)) if len(by_seed) else of_run
    observed = {seed_name(s): float(v) for s, v in by_seed.items()}
    mean = float(by_seed.mean()) if len(by_seed) else None
    error = standard_error(by_seed.to_numpy())
    return Estimate(float(predicted), _floats(interval), _floats(of_run), of_mean, known, observed, mean, error)


def _floats(interval) -> Interval:
    low, high = interval
    return float(low), float(high)


def seed_name(value: Any) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)
