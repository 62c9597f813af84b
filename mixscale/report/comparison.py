"""The compared mixtures: predictions of the law, measured values, and their differences from the optimum.

Runs of one seed share initial weights and the order of rows, so a seed's effect on all mixtures cancels in paired
differences. Few seeds determine the variance of one pair badly, so it is pooled over all mixtures, as if it were the
same for each: an additive layout of mixture × seed has (M - 1)(S - 1) residual degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy import stats

from mixscale.config import BaselineName
from mixscale.mixture import Mixture
from mixscale.report.inputs import SCALE, Inputs, same_mixture
from mixscale.report.statistics import UNKNOWN, NewSeeds, Noise, Residual, pooled_noise, residual, t_interval

Interval = tuple[float, float]
Verdict = Literal["better", "worse", "same mixture", "not significant"]
TRAINED_ONLY = (name for name in get_args(BaselineName) if name not in ("natural", "uniform"))
CANDIDATES = ("optimum", "current", "natural", "uniform", *TRAINED_ONLY, "best", "unconstrained")
"""The compared mixtures, in the order of all tables and figures."""


@dataclass(frozen=True)
class Estimate:
    """A value of a mixture: predicted by the law, and measured by seed."""

    predicted: float
    interval: Interval  # of the law, for a run with a seed that it was fitted to
    of_run: Interval  # for a run with a new seed; that of the law if all trained seeds are `known`
    of_mean: Interval  # for the mean over the trained seeds; `of_run` if none was trained
    known: bool  # whether the law was fitted to all trained seeds; False if none was trained
    observed: dict[str, float]
    mean: float | None
    standard_error: float | None


@dataclass(frozen=True)
class Candidate:
    """A compared mixture, its objective and its targets."""

    mixture: dict[str, float]
    objective: Estimate
    targets: dict[str, Estimate]
    above: tuple[float, float, float] | None  # its objective minus the optimum's by the law, and the interval
    violated: list[str]  # descriptions of the constraints that it violates


@dataclass(frozen=True)
class Comparison:
    """Value of a baseline minus that of the optimum: positive if the optimum is better."""

    differences: dict[str, float]  # by seed that both were trained with
    mean: float
    interval: Interval | None
    degrees_of_freedom: int | None  # of the variance behind the interval
    paired: bool
    over_noise: float | None  # mean difference in units of the seed noise of one run
    verdict: Verdict  # of the optimum


def seed_noise(inputs: Inputs) -> dict[str, Noise | None]:
    """Seed noise of the objective, the plain mean and each target, from runs that differ only in their seed."""
    rows = inputs.at_scale.assign(mixture=inputs.groups_R(inputs.at_scale)).drop_duplicates(["mixture", "seed"])
    groups = rows["mixture"].to_numpy(), rows["seed"].to_numpy()
    return {c: pooled_noise(rows[c].to_numpy(), *groups) for c in (*inputs.columns, "plain")}


def new_seeds(inputs: Inputs, noise: Mapping[str, Noise | None]) -> dict[str, NewSeeds]:
    """How new seeds widen the intervals of the objective and each target."""
    rows = inputs.predictable[inputs.predictable["role"] == "fit"]
    seed_R = np.array(rows["seed"], float)
    unknown_R = seed_R < 0
    # Unknown seeds count as one seed, but repeats of a mixture have different ones.
    same = rows[[c for c in SCALE if c in rows]].assign(mixture=inputs.groups_R(rows))[unknown_R]
    seed_R[unknown_R] = UNKNOWN - same.groupby(list(same), dropna=False).cumcount()
    seeds, counts = np.unique(seed_R, return_counts=True)
    fitted = dict(zip(seeds.tolist(), counts.tolist(), strict=True))
    return {c: NewSeeds(noise[c], fitted) for c in inputs.columns}


def predicted_rows(
    inputs: Inputs, rows: pd.DataFrame, new: Mapping[str, NewSeeds]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Objective and targets predicted for runs, and the ends of the intervals for their seeds, each (R, 1 + T)."""
    values = inputs.predict(rows)
    seed_R = rows["seed"].to_numpy(float)
    ends = [new[c].of_rows(seed_R, *(side[:, i] for side in values)) for i, c in enumerate(inputs.columns)]
    low, high = (np.column_stack(side) for side in zip(*ends, strict=True))
    return values[0], low, high


def candidates(inputs: Inputs, new: Mapping[str, NewSeeds]) -> dict[str, Candidate]:
    """The compared mixtures that are known: verified, or else computed from the table.

    A run counts for a mixture only if it trained exactly that mixture: a folder may hold verification runs of an
    earlier optimum.
    """
    rows = inputs.at_scale[inputs.at_scale["role"] == "verify"]
    best, found = inputs.optimum, {}
    free = None if best.unconstrained is None or same_mixture(best.unconstrained, best.mixture) else best.unconstrained
    solved = {"optimum": best.mixture, "current": best.current, "unconstrained": free}
    for name in CANDIDATES:
        trained = rows if name in solved else rows[has_origin(rows, name)]
        if name in solved:
            mixture = solved[name]
        elif len(trained):
            mixture = Mixture.from_array(inputs.domains, inputs.mixtures_RxK(trained)[-1])
        else:
            mixture = _untrained(inputs, name)
        if mixture is not None and inputs.is_known(mixture):
            found[name] = _candidate(inputs, name, mixture, trained[_trained(inputs, trained, mixture)], new)
    return found


def earlier_optimum(inputs: Inputs) -> bool:
    """Whether verification trained an optimum, but not this one."""
    rows = inputs.at_scale[inputs.at_scale["role"] == "verify"]
    return bool(has_origin(rows, "optimum").any()) and not _trained(inputs, rows, inputs.optimum.mixture).any()


def has_origin(rows: pd.DataFrame, name: str) -> np.ndarray:
    """Which runs have this origin; a run may have several (`natural+best`)."""
    return np.array([name in origin.split("+") for origin in rows["origin"]], dtype=bool)


def _trained(inputs: Inputs, rows: pd.DataFrame, mixture: Mixture) -> np.ndarray:
    trained = (Mixture.from_array(inputs.domains, h_K) for h_K in inputs.mixtures_RxK(rows))
    return np.array([same_mixture(m, mixture) for m in trained], dtype=bool)


def _untrained(inputs: Inputs, name: str) -> Mixture | None:
    """A baseline without verification runs."""
    rows = inputs.measured
    if name == "uniform":
        return Mixture.uniform(inputs.domains)
    if name == "best":
        fitted = inputs.at_scale[inputs.at_scale["role"] == "fit"]
        if not len(fitted):
            return None
        reference = inputs.optimum.problem.reference_at(len(fitted), **inputs.scale_of(fitted))
        y_RxT, h_RxK = fitted[list(inputs.targets)].to_numpy(float), inputs.mixtures_RxK(fitted)
        return Mixture.from_array(inputs.domains, inputs.objective.best_of_grid(y_RxT, h_RxK, reference))
    if name != "natural":
        return None
    if len(marked := rows[has_origin(rows, "natural")]):
        return Mixture.from_array(inputs.domains, inputs.mixtures_RxK(marked)[0])
    columns = [f"unique_tokens/{d}" for d in inputs.domains]
    if not len(rows) or not set(columns) <= set(rows) or not (rows[columns].max() > 0).all():
        return None
    return Mixture.normalized(dict(zip(inputs.domains, rows[columns].max(), strict=True)))


def _candidate(
    inputs: Inputs, name: str, mixture: Mixture, rows: pd.DataFrame, new: Mapping[str, NewSeeds]
) -> Candidate:
    values = [side[0] for side in inputs.predict_at_scale(mixture.array(inputs.domains)[None])]
    by_seed = rows.groupby("seed")[inputs.columns].mean()
    objective, *targets = (
        _estimate(*(float(side[i]) for side in values), by_seed[c], new[c]) for i, c in enumerate(inputs.columns)
    )
    return Candidate(
        mixture=dict(mixture),
        objective=objective,
        targets=dict(zip(inputs.targets, targets, strict=True)),
        above=None if name == "optimum" else inputs.optimum.regret(mixture),
        violated=[] if name in ("optimum", "unconstrained") else inputs.violated(mixture),
    )


def _estimate(predicted: float, low: float, high: float, by_seed: pd.Series, new: NewSeeds) -> Estimate:
    known = new.knows(by_seed.index)
    of_run = (low, high) if known else new.of_run(predicted, low, high)
    of_mean = new.of_mean(by_seed.index, predicted, low, high) if len(by_seed) else of_run
    return Estimate(
        predicted, (low, high), tuple(map(float, of_run)), tuple(map(float, of_mean)), known,
        observed={seed_name(s): float(v) for s, v in by_seed.items()},
        mean=float(by_seed.mean()) if len(by_seed) else None,
        standard_error=float(stats.sem(by_seed.to_numpy())) if len(by_seed) > 1 else None,
    )  # fmt: skip


def seed_name(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def compare(
    compared: Mapping[str, Candidate], values: Mapping[str, dict[str, float]], noise: Noise | None
) -> dict[str, Comparison]:
    """The optimum against every other trained mixture.

    Args:
        values: of each candidate by seed, lower is better. noise: for candidates without common seeds.
    """
    trained = {name: Mixture(compared[name].mixture) for name, of in values.items() if of}
    best = trained.pop("optimum", None)
    if best is None:
        return {}
    distinct: dict[str, Mixture] = {}  # candidates with the same mixture share their runs
    for name, mixture in {"optimum": best, **trained}.items():
        if not any(same_mixture(mixture, other) for other in distinct.values()):
            distinct[name] = mixture
    cells = [(i, s, v) for i, name in enumerate(distinct) for s, v in values[name].items()]
    mixture_R, seed_R, value_R = (np.array(column) for column in zip(*cells, strict=True))
    left = residual(value_R, mixture_R, seed_R)
    return {
        name: _comparison(same_mixture(best, other), values["optimum"], values[name], left, noise)
        for name, other in trained.items()
    }


def _comparison(
    same: bool, ours: dict[str, float], theirs: dict[str, float], left: Residual | None, noise: Noise | None
) -> Comparison:
    differences = {s: theirs[s] - ours[s] for s in ours if s in theirs}
    if same:
        return Comparison(differences, 0.0, None, None, bool(differences), None, "same mixture")
    mean = float(np.mean(list(theirs.values())) - np.mean(list(ours.values())))
    interval, degrees = None, None
    paired = len(differences) > 1 and left is not None
    if paired:
        mean = float(np.mean(list(differences.values())))
        degrees = left.degrees_of_freedom
        interval = t_interval(mean, left.standard_error(len(differences)), degrees)
    elif noise:
        degrees = noise.degrees_of_freedom
        interval = t_interval(mean, noise.sd * np.sqrt(1 / len(ours) + 1 / len(theirs)), degrees)
    over_noise = mean / noise.sd if noise and noise.sd > 0 else None
    return Comparison(differences, mean, interval, degrees, paired, over_noise, verdict(interval))


def verdict(interval: Interval | None) -> Verdict:
    """Of the optimum, from the interval of a baseline's excess."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "not significant"
    return "better" if interval[0] > 0 else "worse"
