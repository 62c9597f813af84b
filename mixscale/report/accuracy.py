"""Accuracy of the law on runs that it was not fitted to, and whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mixscale.plots import Points, spearman
from mixscale.report.comparison import predicted_rows, seed_name
from mixscale.report.inputs import Inputs
from mixscale.report.statistics import NewSeeds, Noise

MIN_SPEARMAN = 0.95  # rank correlation on held-out runs that a law should reach
MIN_RUNS = 6
"""Held-out runs below which a rank correlation is not judged: of three, one order in six is right by chance."""
MAX_ERROR = 2.0
"""Mean absolute error on held-out runs that a law should not exceed, in units of the seed noise of one run."""


@dataclass(frozen=True)
class Score:
    """Predicted against measured values of one column."""

    spearman: float | None
    mean_absolute_error: float
    error_over_noise: float | None  # the error in units of the seed noise of one run
    coverage: float | None  # share of measured values inside the law's interval for a run with its seed


@dataclass(frozen=True)
class HeldOut:
    """Accuracy on held-out runs."""

    objective: Score
    targets: dict[str, Score]
    plain: Score | None  # of the unweighted mean over targets; None if that is the objective
    runs: int
    mixtures: int
    ranks_met: bool | None  # whether the rank correlation reaches MIN_SPEARMAN; None for fewer than MIN_RUNS runs
    error_met: bool | None  # whether the error stays within MAX_ERROR; None if the seed noise is unknown
    bias: float  # mean of predicted minus measured objective
    error_without_bias: float
    spread: float | None  # standard deviation of the measured objective
    parameters: int  # of the law, for one target
    fitted_mixtures: int
    shared_seeds: list[str]  # seeds of the held-out runs, if fitted runs have all of them; else empty


def held_out(inputs: Inputs, noise: Mapping[str, Noise | None], new: Mapping[str, NewSeeds]) -> HeldOut | None:
    """Accuracy on held-out runs; None without such runs."""
    rows = inputs.predictable[inputs.predictable["role"] == "held_out"]
    if not len(rows):
        return None
    observed, predicted = rows[inputs.columns].to_numpy(), predicted_rows(inputs, rows, new)
    objective, *targets = (
        _score(observed[:, i], *(side[:, i] for side in predicted), noise=noise[c])
        for i, c in enumerate(inputs.columns)
    )
    mean, plain = inputs.fit.mean_objective(), None
    if mean.name != inputs.objective.name:
        plain = _score(rows["plain"].to_numpy(), mean.mean(predicted[0][:, 1:]), noise=noise["plain"])
    error_R = predicted[0][:, 0] - observed[:, 0]
    fitted = inputs.predictable[inputs.predictable["role"] == "fit"]
    seeds = set(rows["seed"])
    ratio, rank = objective.error_over_noise, objective.spearman
    return HeldOut(
        objective=objective,
        targets=dict(zip(inputs.targets, targets, strict=True)),
        plain=plain,
        runs=len(rows),
        mixtures=len(set(inputs.groups_R(rows))),
        ranks_met=None if rank is None or len(rows) < MIN_RUNS else rank >= MIN_SPEARMAN,
        error_met=None if ratio is None else ratio <= MAX_ERROR,
        bias=float(error_R.mean()),
        error_without_bias=float(np.abs(error_R - error_R.mean()).mean()),
        spread=float(observed[:, 0].std(ddof=1)) if len(rows) > 1 else None,
        parameters=inputs.fit.family.n_params(len(inputs.domains)),
        fitted_mixtures=int(inputs.fit.dataset.group_R.max()) + 1,
        shared_seeds=[seed_name(s) for s in sorted(seeds)] if seeds <= set(fitted["seed"]) else [],
    )


def left_out(inputs: Inputs, noise: Mapping[str, Noise | None]) -> dict[str, Score]:
    """Out-of-fold accuracy of the objective and each target on fitted rows."""
    observed, predicted = inputs.left_out()
    return {c: _score(observed[:, i], predicted[:, i], noise=noise[c]) for i, c in enumerate(inputs.columns)}


def points(inputs: Inputs, new: Mapping[str, NewSeeds]) -> dict[str, Points]:
    """Measured and predicted values by kind of run; without held-out runs, out-of-fold values of the fitted ones."""
    found, roles = {}, inputs.predictable["role"]
    for role in ("fit", "held_out", "verify"):
        rows = inputs.predictable[roles == role]
        if role == "fit" and not (roles == "held_out").any():
            observed, predicted = inputs.left_out()
            found["left_out"] = Points(observed, predicted, predicted, predicted)
        elif len(rows):
            found[role] = Points(rows[inputs.columns].to_numpy(), *predicted_rows(inputs, rows, new))
    return found


def spread(inputs: Inputs, column: str) -> float | None:
    """Standard deviation of a column over the fitted mixtures."""
    rows = inputs.at_scale[inputs.at_scale["role"] == "fit"]
    by_mixture = rows.groupby(inputs.groups_R(rows))[column].mean()
    return float(by_mixture.std()) if len(by_mixture) > 1 else None


def _score(
    observed_R: np.ndarray,
    predicted_R: np.ndarray,
    low_R: np.ndarray | None = None,
    high_R: np.ndarray | None = None,
    noise: Noise | None = None,
) -> Score:
    error = float(np.abs(predicted_R - observed_R).mean())
    inside = None if low_R is None else float(((low_R <= observed_R) & (observed_R <= high_R)).mean())
    return Score(spearman(predicted_R, observed_R), error, error / noise.sd if noise and noise.sd else None, inside)
