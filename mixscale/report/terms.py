"""`Terms`: what the optimum was solved for, what it had to keep and at what price, and whether to change at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixscale.report.material import Material

Estimate = tuple[float, float, float]
"""value, and the ends of its interval"""
OUTSIDE = 1.01
"""Factor beyond the table's sizes or token counts from which a question is an extrapolation."""


@dataclass(frozen=True)
class Constraint:
    """One that was asked for, with its price (`optimization.SolvedConstraint`)."""

    said: str
    binds: bool
    per_unit: float
    """derivative of the optimal goal by the bound: negative where a larger bound helps"""
    hundredth: str
    """what one hundredth of a unit is, in words"""
    tokens: float | None
    """training tokens worth one hundredth of a unit; None where the law does not know what tokens are worth"""
    unique_token: float | None
    """derivative by one more unique token, of a constraint on available text"""


@dataclass(frozen=True)
class Beyond:
    """A size or token count that was asked for and that the fitted rows do not reach."""

    asked: float
    least: float
    most: float
    left_out: bool
    """whether the intervals rest on rows of larger values, left out"""


@dataclass(frozen=True)
class Terms:
    """What `Findings` say of the question that the optimum answers."""

    said: str
    """the goal in words"""
    value: float | None
    """the goal at the optimum, where it was solved for"""
    constraints: list[Constraint]
    others: list[str]
    """what else the optimum was held to or drawn to, that has no price"""
    unconstrained: dict[str, float] | None
    given_up: float | None
    """how much lower the goal would be without constraints"""
    expected_regret: float | None
    regret_95: float | None
    """mean, and 0.95 quantile, over resamples of what the optimum costs more than each resample's own"""
    gain: Estimate | None
    """over the current mixture"""
    justified: bool | None
    kept: dict[str, float]
    """share of the resamples in which a target to keep is kept"""
    is_global: bool
    is_convex: bool
    """whether the law is; an optimum of a convex law that is not global did not converge"""
    solved_for: dict[str, float]
    """n_params and n_tokens, where the law uses them"""
    predicted: dict[str, Estimate]
    """each target at the optimum, where it was solved for"""
    extrapolation: dict[str, Beyond]
    """by n_params and n_tokens"""
    unsupported: str | None
    """why nothing may be chosen by the law, in a sentence without an end; None where something may"""
    notes: list[str]
    fit_warnings: list[str] | None
    """what a diagnosis of the fit found; None where there was none"""


def terms(material: Material) -> Terms:
    """The terms of the optimum of `material`."""
    best = material.optimum
    mean, high = best.expected_regret or (None, None)
    return Terms(
        said=_goal(material),
        value=best.value,
        constraints=[
            Constraint(
                c.description,
                c.binding,
                c.dual_value,
                HUNDREDTH.get(c.kind, "a point more"),
                c.tokens,
                c.per_unique_token,
            )
            for c in best.solved
            if c.dual_value is not None
        ],
        others=_others(material),
        unconstrained=None if best.unconstrained is None else dict(best.unconstrained),
        given_up=best.cost_of_constraints,
        expected_regret=mean,
        regret_95=high,
        gain=best.gain,
        justified=best.justified,
        kept=dict(best.kept),
        is_global=best.convex,
        is_convex=material.fit.family.convex,
        solved_for=_solved_for(material),
        predicted=dict(best.predicted),
        extrapolation=_beyond(material),
        unsupported=best.warning,
        notes=list(best.notes),
        fit_warnings=None if material.fit_warnings is None else list(material.fit_warnings),
    )


def broken(material: Material, h_K: np.ndarray) -> list[str]:
    """The constraints, in words, that a mixture does not keep, but for the rounding of trained weights."""
    return [c.describe() for c in material.optimum.problem.violated(h_K, 5e-4)]


HUNDREDTH = {"tied": "a point of weight moved between them", "keep": "0.01 more", "max_kl": "0.01 nats more"}
"""What one hundredth of a constraint's unit is, by its kind."""


def _goal(material: Material) -> str:
    goal = material.optimum.objective
    over = {
        "point": "", "mean": ", as a mean over the law's resamples", "worst": ", in the worst resample of the law",
        "quantile": f", as a mean over the worst {1 - goal.level:.0%} of the law's resamples",
    }[goal.robust]  # fmt: skip
    since = {None: "", "current": " above what the law predicts for the current mixture",
             "best": " above the least that it could have alone"}[goal.relative_to]  # fmt: skip
    inner = f"the largest value over the targets{since}" if goal.kind == "worst" else ""
    shares = "" if material.aim.weighted else "every target counting the same"
    return ", ".join(part for part in (inner, shares) if part) + over


def _others(material: Material) -> list[str]:
    asked, problem = material.optimum.constraints, material.optimum.problem
    told = [c.description for c in material.optimum.solved if c.dual_value is None]
    if asked.kl_weight:
        best_K = material.optimum.mixture.array(material.domains)
        pull = float(problem.penalty(best_K[None])[0])
        told.append(f"each nat of divergence from the prior counts {asked.kl_weight:g} (in all {pull:.4f} here)")
    return told


def _solved_for(material: Material) -> dict[str, float]:
    given = {"n_params": material.optimum.n_params, "n_tokens": material.optimum.n_tokens}
    return {name: float(v) for name, v in given.items() if v is not None and material.fit.uses_scale}


def _beyond(material: Material) -> dict[str, Beyond]:
    fit, found = material.fit, {}
    tested_R = np.isfinite(fit.oof_pred_TxR).all(axis=0)
    points, scale = fit.dataset.points, fit.dataset.scale
    columns = {"n_params": (points.n_R, scale.n), "n_tokens": (points.d_R, scale.d)}
    for name, asked in _solved_for(material).items():
        scaled_R, unit = columns[name]
        least, most = float(scaled_R.min()) * unit, float(scaled_R.max()) * unit
        if not least / OUTSIDE <= asked <= most * OUTSIDE:
            left_out = bool(tested_R.any() and scaled_R[tested_R].min() > scaled_R.min())
            found[name] = Beyond(asked, least, most, left_out)
    return found
