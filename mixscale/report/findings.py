"""`findings`: what the runs say about the optimum, in numbers that can be checked, and their JSON.

The mean loss is the mean over targets with the weights that the optimum was solved for. Differences are paired by
seed wherever both mixtures were trained with it, because runs of one seed see the same rows in the same order.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from mixscale.mixture import Mixture
from mixscale.report.material import Material
from mixscale.report.statistics import (
    LEVEL,
    Noise,
    known_noise_interval,
    mean_absolute_error,
    mean_interval,
    pooled_noise,
    spearman,
    standard_error,
)

Verdict = Literal["better", "worse", "same mixture", "not distinguishable"]
Interval = tuple[float, float]
CANDIDATES = ("optimum", "best", "natural", "uniform")
"""Mixtures that are compared: the law's answer, the best mixture trained for the fit, and the two that need no law."""


@dataclass(frozen=True)
class Estimate:
    """What the law predicts, with its interval, and what training gave, by seed."""

    predicted: float
    interval: Interval
    observed: dict[str, float]
    mean: float | None
    standard_error: float | None


@dataclass(frozen=True)
class Candidate:
    """One of the compared mixtures: its mean loss, and the value of each target."""

    mixture: dict[str, float]
    mean_loss: Estimate
    targets: dict[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """Mean loss of a baseline minus that of the optimum: positive where the optimum is better."""

    differences: dict[str, float]
    """by seed that both were trained with"""
    mean: float
    interval: Interval | None
    paired: bool
    over_noise: float | None
    """mean difference in units of the seed noise of one run"""
    verdict: Verdict


@dataclass(frozen=True)
class HeldOut:
    """How the law does on mixtures it was not fitted to."""

    runs: int
    mixtures: int
    spearman: float | None
    mean_absolute_error: float
    error_over_noise: float | None
    coverage: float
    """share of observed mean losses inside the law's interval"""
    targets: dict[str, dict[str, float | None]]


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
    target_weights: dict[str, float]
    optimum: dict[str, float]
    optimum_interval: dict[str, Interval]
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
    rows = material.at_scale
    noise = _noise(rows, "mean", material)
    candidates = _candidates(material)
    return Findings(
        law=material.law,
        unit=material.unit.strip(),
        level=LEVEL,
        n_params=material.scale.get("n_params"),
        n_tokens=material.scale.get("n_tokens"),
        solved_for=_solved_for(material),
        target_weights=dict(zip(material.targets, material.weights_T.tolist(), strict=True)),
        optimum={d: float(w) for d, w in material.optimum.mixture.items()},
        optimum_interval={d: _pair(i) for d, i in material.optimum.interval.items()},
        candidates=candidates,
        comparisons=_comparisons(candidates, noise),
        held_out=_held_out(material, noise),
        noise=noise,
        target_noise={t: _noise(rows, t, material) for t in material.targets},
        **_statuses(material),
    )


def baseline_rows(material: Material, name: str) -> pd.DataFrame:
    """Verification runs of the candidate `name`; a run may stand for several (origin `natural+best`)."""
    rows = material.at_scale
    verify = rows[rows["role"] == "verify"]
    return verify[_has_origin(verify, name)]


def _has_origin(rows: pd.DataFrame, name: str) -> np.ndarray:
    return np.array([name in origin.split("+") for origin in rows["origin"]], dtype=bool)


def _candidates(material: Material) -> dict[str, Candidate]:
    """The compared mixtures that can be known: trained to verify, or else computed from what the table has."""
    found = {}
    for name in CANDIDATES:
        rows = baseline_rows(material, name)
        mixture = (
            material.optimum.mixture
            if name == "optimum"
            else Mixture.from_array(material.domains, material.mixtures_RxK(rows)[0])
            if len(rows)
            else _untrained(material, name)
        )
        if mixture is not None:
            found[name] = _candidate(material, mixture, rows)
    return found


def _untrained(material: Material, name: str) -> Mixture | None:
    """A baseline nobody trained to verify: predicted only."""
    if name == "uniform":
        return Mixture.uniform(material.domains)
    if name == "natural":
        return _natural(material)
    rows = material.at_scale[material.at_scale["role"] == "fit"]
    if not len(rows):
        return None
    return Mixture.from_array(material.domains, material.mixtures_RxK(rows)[int(rows["mean"].argmin())])


def _natural(material: Material) -> Mixture | None:
    """The mixture marked as natural, or the one proportional to each domain's unique tokens where these are known."""
    rows = material.measured
    marked = rows[_has_origin(rows, "natural")]
    if len(marked):
        return Mixture.from_array(material.domains, material.mixtures_RxK(marked)[0])
    columns = [f"unique_tokens/{d}" for d in material.domains]
    if not len(rows) or not set(columns) <= set(rows) or not (rows[columns].max() > 0).all():
        return None
    return Mixture.normalised(dict(zip(material.domains, rows[columns].max(), strict=True)))


def _candidate(material: Material, mixture: Mixture, rows: pd.DataFrame) -> Candidate:
    h_1xK = mixture.array(material.domains)[None]
    by_seed = rows.groupby("seed")[["mean", *material.targets]].mean()
    mean, low, high = (float(v[0]) for v in material.objective(h_1xK))
    values_1xT, low_1xT, high_1xT = material.predict_at_scale(h_1xK)
    targets = {
        t: _estimate(values_1xT[0, i], (low_1xT[0, i], high_1xT[0, i]), by_seed[t])
        for i, t in enumerate(material.targets)
    }
    return Candidate(dict(mixture), _estimate(mean, (low, high), by_seed["mean"]), targets)


def _estimate(predicted: float, interval: Interval, by_seed: pd.Series) -> Estimate:
    observed = {_seed(s): float(v) for s, v in by_seed.items()}
    mean = float(by_seed.mean()) if len(by_seed) else None
    return Estimate(float(predicted), _pair(interval), observed, mean, standard_error(by_seed.to_numpy()))


def _comparisons(candidates: dict[str, Candidate], noise: Noise | None) -> dict[str, Comparison]:
    optimum = candidates["optimum"]
    return {
        name: _comparison(optimum, other, noise)
        for name, other in candidates.items()
        if name != "optimum" and other.mean_loss.observed and optimum.mean_loss.observed
    }


def _comparison(optimum: Candidate, other: Candidate, noise: Noise | None) -> Comparison:
    ours, theirs = optimum.mean_loss.observed, other.mean_loss.observed
    differences = {s: theirs[s] - ours[s] for s in ours if s in theirs}
    if Mixture(optimum.mixture).distance(Mixture(other.mixture)) < 1e-6:
        return Comparison(differences, 0.0, None, bool(differences), None, "same mixture")
    paired = len(differences) > 1
    if paired:
        mean = float(np.mean(list(differences.values())))
        interval = mean_interval(np.array(list(differences.values())))
    else:
        mean = float(np.mean(list(theirs.values())) - np.mean(list(ours.values())))
        interval = known_noise_interval(mean, len(ours), len(theirs), noise) if noise else None
    over_noise = mean / noise.sd if noise and noise.sd > 0 else None
    return Comparison(differences, mean, interval, paired, over_noise, _verdict(interval))


def _verdict(interval: Interval | None) -> Verdict:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "not distinguishable"
    return "better" if interval[0] > 0 else "worse"


def _solved_for(material: Material) -> dict[str, float]:
    given = {"n_params": material.optimum.n_params, "n_tokens": material.optimum.n_tokens}
    return {name: float(v) for name, v in given.items() if v is not None and material.fit.uses_scale}


def _held_out(material: Material, noise: Noise | None) -> HeldOut | None:
    rows = material.predictable[material.predictable["role"] == "held_out"]
    if not len(rows):
        return None
    observed_R = rows["mean"].to_numpy()
    mean_R, low_R, high_R = material.row_objective(rows)
    error = mean_absolute_error(mean_R, observed_R)
    return HeldOut(
        runs=len(rows),
        mixtures=len(set(material.groups_R(rows))),
        spearman=spearman(mean_R, observed_R),
        mean_absolute_error=error,
        error_over_noise=error / noise.sd if noise and noise.sd > 0 else None,
        coverage=float(((low_R <= observed_R) & (observed_R <= high_R)).mean()),
        targets=_held_out_targets(material, rows),
    )


def _held_out_targets(material: Material, rows: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    observed_RxT, predicted_RxT = material.observed_RxT(rows), material.predicted_RxT(rows)
    low_RxT, high_RxT = material.interval_RxT(rows)
    inside_T = ((low_RxT <= observed_RxT) & (observed_RxT <= high_RxT)).mean(axis=0)
    return {
        t: {
            "spearman": spearman(predicted_RxT[:, i], observed_RxT[:, i]),
            "mean_absolute_error": mean_absolute_error(predicted_RxT[:, i], observed_RxT[:, i]),
            "coverage": float(inside_T[i]),
        }
        for i, t in enumerate(material.targets)
    }


def _noise(rows: pd.DataFrame, column: str, material: Material) -> Noise | None:
    """Seed noise of `column`: rows of one mixture that differ in their seed, whatever their role."""
    by_mixture = rows.groupby(material.groups_R(rows))
    return pooled_noise(g.drop_duplicates("seed")[column].to_numpy() for _, g in by_mixture)


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


def _seed(value: Any) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _pair(interval: Any) -> Interval:
    low, high = interval
    return float(low), float(high)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
