"""The Pareto front between two goals: what one has to give up for the other.

The ε-constraint method (Haimes, Lasdon and Wismer 1971): one goal is minimized while the other is held below a limit,
which moves from where the other ends up when only the first counts to where it is best alone. All limits are one
batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from mixscale.constraints import Constraints
from mixscale.errors import InputError
from mixscale.laws.result import LawFit
from mixscale.objective import Objective
from mixscale.optimization.answer import Job, answers, check_possible
from mixscale.optimization.question import HAIR, Ceilings, Question, ask
from mixscale.optimization.starts import starts

POINTS = 11


def pareto(
    fit: LawFit,
    first: Objective | str,
    second: Objective | str,
    constraints: Constraints | None = None,
    points: int = POINTS,
    n_params: float | None = None,
    n_tokens: float | None = None,
    current: Mapping[str, float] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Mixtures of which none is better in one goal without being worse in the other, by the fitted law.

    Args:
        first, second: goals, or names of targets. points: mixtures on the front, at least 2, evenly spaced in the
            second goal.

    Returns:
        a row a mixture, from the best for `first` to the best for `second`: `first` and `second` (smaller is better, a
        score counts negatively), each with `_lo` and `_hi` where the goal is a mean, `first_goal` and `second_goal`,
        which say what these are, and `mix/<domain>`.

    Raises:
        InputError: as `solve`; a goal over resamples or counted from a mixture; fewer than two points; kl_weight.
    """
    if constraints is not None and constraints.kl_weight:
        raise InputError(
            f"kl_weight is {constraints.kl_weight:g}, but a front has no room for a third goal; give max_kl"
        )
    if points < 2:
        raise InputError(f"points is {points}; a front has at least 2")
    goals = [Objective({g: 1.0}) if isinstance(g, str) else g for g in (first, second)]
    for goal in goals:
        if goal.robust != "point" or goal.relative_to:
            raise InputError("a front is drawn by the fitted law alone; give goals without robust and relative_to")
    asked = [ask(fit, None, None, None, n_params, n_tokens, g, constraints or Constraints(), current) for g in goals]
    rng = np.random.default_rng(seed)
    best_K = [_along(question, None, rng)[0] for question in asked]
    ends_2 = [float(_value(asked[1], h_K[None])[0]) for h_K in best_K]
    limit_B = np.linspace(*ends_2, points)
    h_BxK = _along(asked[0], _below(asked[1], limit_B), rng)
    return _table(asked, h_BxK)


def _along(question: Question, ceilings: Ceilings | None, rng: np.random.Generator) -> np.ndarray:
    """The best mixture under each of the limits, shape (B, K)."""
    count = 1 if ceilings is None else len(ceilings.limit_BxC)
    theta_Bx1xTxP = np.tile(question.fit.theta_TxP, (count, 1, 1, 1))
    [found] = answers(Job(question, theta_Bx1xTxP, starts(question, rng), both(question.ceilings, ceilings)))
    check_possible(question, found)
    return found.h_BxK


def _below(question: Question, limit_B: np.ndarray) -> Ceilings:
    floor = question.floor(question.goal)
    return dataclasses.replace(floor, limit_BxC=floor.limit_BxC + limit_B[:, None] / question.size + HAIR)


def both(ours: Ceilings | None, theirs: Ceilings | None) -> Ceilings | None:
    """Both sets of ceilings; limits of one problem hold for all."""
    if ours is None or theirs is None:
        return ours or theirs
    b = len(theirs.limit_BxC)
    return Ceilings(
        ours.names + theirs.names, ours.said + theirs.said, ours.bounds + theirs.bounds,
        np.r_[ours.unit_C, theirs.unit_C], np.concatenate([ours.share_CxT, theirs.share_CxT]),
        np.concatenate([np.tile(ours.limit_BxC, (b, 1)), theirs.limit_BxC], axis=1),
        ours.theta_BxTxP,
    )  # fmt: skip


def _value(question: Question, h_BxK: np.ndarray) -> np.ndarray:
    return question.values(question.fit.theta_TxP[None], h_BxK)[0]


def _table(asked: list[Question], h_BxK: np.ndarray) -> pd.DataFrame:
    columns = {}
    for name, question in zip(("first", "second"), asked, strict=True):
        columns[name] = _value(question, h_BxK)
        if not question.goal.worst:
            _, columns[f"{name}_lo"], columns[f"{name}_hi"] = question.fit.objective(
                h_BxK, question.goal.weights, **question.at
            )
    said = {f"{name}_goal": _said(q.goal) for name, q in zip(("first", "second"), asked, strict=True)}
    mixtures = {f"mix/{d}": h_B for d, h_B in zip(asked[0].fit.domains, h_BxK.T, strict=True)}
    return pd.DataFrame(columns | said | mixtures)


def _said(goal: Objective) -> str:
    """The target's name where there is one only, else the goal in words."""
    counted = [t for t, w in (goal.weights or {}).items() if w > 0]
    return counted[0] if len(counted) == 1 else goal.said()
