"""How the law does on mixtures it was not fitted to, and whether that is good enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixscale.report.candidates import seed_name
from mixscale.report.material import Material
from mixscale.report.seeds import goal_of_rows, targets_of_rows
from mixscale.report.statistics import Noise, mean_absolute_error, spearman

RANKS_BAR = 0.95
"""Rank correlation that a law should reach at least."""
LEAST = 6
"""Held-out runs that an order says something of: of three, one order in six is right by chance."""
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
    """whether `spearman` reaches RANKS_BAR; None where it is not known, or of fewer than LEAST runs"""
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
    """share of observed mean losses inside the law's interval, which is wider for a seed that was not fitted"""
    plain: Score | None
    """of the mean over targets that all count the same; None where they do anyway"""
    targets: dict[str, dict[str, float | None]]


def held_out(material: Material, noise: dict[str, Noise | None]) -> HeldOut | None:
    """The scores on held-out runs, or None where there is no such run.

    Args:
        noise: of a seed, for `goal`, `plain` and each target.
    """
    rows = material.predictable[material.predictable["role"] == "held_out"]
    if not len(rows):
        return None
    observed_R = rows["goal"].to_numpy()
    mean_R, low_R, high_R = goal_of_rows(material, rows, noise)
    score = _score(mean_R, observed_R, noise["goal"])
    bias = float((mean_R - observed_R).mean())
    return HeldOut(
        **vars(score),
        runs=len(rows),
        mixtures=len(set(material.groups_R(rows))),
        ranks_met=None if score.spearman is None or len(rows) < LEAST else score.spearman >= RANKS_BAR,
        error_met=None if score.error_over_noise is None else score.error_over_noise <= ERROR_BAR,
        bias=bias,
        error_without_bias=mean_absolute_error(mean_R - bias, observed_R),
        spread=float(observed_R.std(ddof=1)) if len(rows) > 1 else None,
        parameters=material.fit.family.n_params(len(material.fit.domains)),
        fitted_mixtures=int(material.fit.dataset.group_R.max()) + 1,
        shared_seeds=_shared_seeds(material, rows),
        coverage=float(((low_R <= observed_R) & (observed_R <= high_R)).mean()),
        plain=_plain(material, rows, noise["plain"]) if not material.aim.plain else None,
        targets=_targets(material, rows, noise),
    )


def left_out(material: Material, noise: Noise | None) -> Score:
    """The scores on the fitted rows, each predicted by a fit that lacks it, as cross-validation left them out."""
    (predicted_R, observed_R), _ = left_out_rows(material)
    return _score(predicted_R, observed_R, noise)


def left_out_rows(material: Material) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Predicted and observed goal, each (R,), and predicted and observed targets, each (R, T), of fitted rows.

    Each row is predicted by a fit without its fold of the cross-validation.
    """
    fit, points = material.fit, material.fit.dataset.points
    tested_R = np.isfinite(fit.oof_pred_TxR).all(axis=0)
    scale = {"n_params": points.n_R * fit.dataset.scale.n, "n_tokens": points.d_R * fit.dataset.scale.d}
    if fit.family.uses_unique:
        scale["unique_tokens"] = points.u_RxK * fit.dataset.scale.d
    uses = fit.uses_scale or fit.family.uses_unique
    scale = {name: values_R[tested_R] for name, values_R in scale.items()} if uses else {}
    sides = fit.oof_pred_TxR.T[tested_R], fit.dataset.y_TxR.T[tested_R]
    predicted_R, observed_R = (material.aim.observed(y_RxT, **scale) for y_RxT in sides)
    return (predicted_R, observed_R), sides


def _score(predicted_R: np.ndarray, observed_R: np.ndarray, noise: Noise | None) -> Score:
    error = mean_absolute_error(predicted_R, observed_R)
    return Score(spearman(predicted_R, observed_R), error, error / noise.sd if noise and noise.sd > 0 else None)


def _plain(material: Material, rows: pd.DataFrame, noise: Noise | None) -> Score:
    return _score((material.predicted_RxT(rows) * material.aim.sign_T).mean(axis=1), rows["plain"].to_numpy(), noise)


def _shared_seeds(material: Material, rows: pd.DataFrame) -> list[str]:
    fitted = material.predictable[material.predictable["role"] == "fit"]
    seeds = sorted(set(rows["seed"]))
    return [seed_name(s) for s in seeds] if set(seeds) <= set(fitted["seed"]) else []


def _targets(
    material: Material, rows: pd.DataFrame, noise: dict[str, Noise | None]
) -> dict[str, dict[str, float | None]]:
    observed_RxT = material.observed_RxT(rows)
    predicted_RxT, low_RxT, high_RxT = targets_of_rows(material, rows, noise)
    inside_T = ((low_RxT <= observed_RxT) & (observed_RxT <= high_RxT)).mean(axis=0)
    return {
        t: {
            "spearman": spearman(predicted_RxT[:, i], observed_RxT[:, i]),
            "mean_absolute_error": mean_absolute_error(predicted_RxT[:, i], observed_RxT[:, i]),
            "coverage": float(inside_T[i]),
        }
        for i, t in enumerate(material.targets)
    }
