"""How the law does on mixtures it was not fitted to, and whether that is good enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixscale.report.candidates import seed_name
from mixscale.report.material import Material
from mixscale.report.statistics import Noise, mean_absolute_error, spearman

RANKS_BAR = 0.95
"""Rank correlation that a law should reach at least."""
ERROR_BAR = 2.0
"""Mean absolute error that a law should keep within, in units of the seed noise of one run."""


@dataclass(frozen=True)
class Score:
    """Predicted against observed values."""

    spearman: float | None
    mean_absolute_error: float
    error_over_noise: float | None
    """the error in units of the seed noise of one run"""


@dataclass(frozen=True)
class HeldOut(Score):
    """How the law does on held-out mixtures; the scores are those of the mean loss."""

    runs: int
    mixtures: int
    ranks_met: bool | None
    """whether `spearman` reaches RANKS_BAR; None where it is not known"""
    error_met: bool | None
    """whether `error_over_noise` keeps within ERROR_BAR; None where it is not known"""
    bias: float
    """mean of predicted minus observed"""
    error_without_bias: float
    spread: float | None
    """standard deviation of the observed mean losses"""
    parameters: int
    """of the law, for one target"""
    fitted_mixtures: int
    shared_seeds: list[str]
    """seeds of the held-out runs where all of them are seeds of fitted runs too; else none"""
    coverage: float
    """share of observed mean losses inside the law's interval"""
    plain: Score | None
    """of the mean over targets that all count the same; None where they do anyway"""
    targets: dict[str, dict[str, float | None]]


def held_out(material: Material, noise: Noise | None, plain_noise: Noise | None) -> HeldOut | None:
    """The scores on held-out runs, or None where there is no such run.

    Args:
        noise: of the mean loss. plain_noise: of the mean over targets that all count the same.
    """
    rows = material.predictable[material.predictable["role"] == "held_out"]
    if not len(rows):
        return None
    observed_R = rows["goal"].to_numpy()
    mean_R, low_R, high_R = material.row_objective(rows)
    score = _score(mean_R, observed_R, noise)
    bias = float((mean_R - observed_R).mean())
    return HeldOut(
        **vars(score),
        runs=len(rows),
        mixtures=len(set(material.groups_R(rows))),
        ranks_met=None if score.spearman is None else score.spearman >= RANKS_BAR,
        error_met=None if score.error_over_noise is None else score.error_over_noise <= ERROR_BAR,
        bias=bias,
        error_without_bias=mean_absolute_error(mean_R - bias, observed_R),
        spread=float(observed_R.std(ddof=1)) if len(rows) > 1 else None,
        parameters=material.fit.family.n_params(len(material.fit.domains)),
        fitted_mixtures=int(material.fit.seen.group_R.max()) + 1,
        shared_seeds=_shared_seeds(material, rows),
        coverage=float(((low_R <= observed_R) & (observed_R <= high_R)).mean()),
        plain=_plain(material, rows, plain_noise) if not material.aim.plain else None,
        targets=_targets(material, rows),
    )


def left_out(material: Material, noise: Noise | None) -> Score:
    """The scores on the fitted rows, each predicted by a fit that lacks it, as cross-validation left them out."""
    fit, points = material.fit, material.fit.seen.points
    tested_R = np.isfinite(fit.held_TxR).all(axis=0)
    scale = {"n_params": points.n_R * fit.seen.scale.n, "n_tokens": points.d_R * fit.seen.scale.d}
    if fit.family.uses_unique:
        scale["unique_tokens"] = points.u_RxK * fit.seen.scale.d
    uses = fit.uses_scale or fit.family.uses_unique
    scale = {name: values_R[tested_R] for name, values_R in scale.items()} if uses else {}
    sides = (y_TxR.T[tested_R] for y_TxR in (fit.held_TxR, fit.seen.y_TxR))
    return _score(*(material.aim.observed(y_RxT, **scale) for y_RxT in sides), noise)


def _score(predicted_R: np.ndarray, observed_R: np.ndarray, noise: Noise | None) -> Score:
    error = mean_absolute_error(predicted_R, observed_R)
    return Score(spearman(predicted_R, observed_R), error, error / noise.sd if noise and noise.sd > 0 else None)


def _plain(material: Material, rows: pd.DataFrame, noise: Noise | None) -> Score:
    return _score((material.predicted_RxT(rows) * material.aim.sign_T).mean(axis=1), rows["plain"].to_numpy(), noise)


def _shared_seeds(material: Material, rows: pd.DataFrame) -> list[str]:
    fitted = material.predictable[material.predictable["role"] == "fit"]
    seeds = sorted(set(rows["seed"]))
    return [seed_name(s) for s in seeds] if set(seeds) <= set(fitted["seed"]) else []


def _targets(material: Material, rows: pd.DataFrame) -> dict[str, dict[str, float | None]]:
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
