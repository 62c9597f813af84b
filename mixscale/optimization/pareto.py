"""The Pareto front between two objectives: what has to be given up in one for the other.

The ε-constraint method (Haimes, Lasdon and Wismer 1971): one objective is minimized while the other is held below a
limit, which moves from its value at the optimum of the first to its own best. All limits are one batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mixscale.constraints import Constraints
from mixscale.errors import InputError
from mixscale.laws.result import LawFit
from mixscale.objective import Objective
from mixscale.optimization.problem import LossLimits, Problem, build_problem
from mixscale.optimization.solution import Job, check_feasible, solve_jobs

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
    """Mixtures of which none is better in one objective without being worse in the other, by the fitted law.

    Args:
        first, second: objectives, or names of targets. points: mixtures on the front, at least 2, evenly spaced in the
            second objective.

    Returns:
        a row a mixture, from the best for `first` to the best for `second`: `first` and `second` (smaller is better, a
        score counts negatively), each with `_lo` and `_hi` if it is a mean, `first_goal` and `second_goal`, which name
        the objectives, and `mix/<domain>`.

    Raises:
        InputError: as `optimize`; an objective over bootstrap laws or relative to a mixture; fewer than two points;
            kl_weight.
    """
    if constraints is not None and constraints.kl_weight:
        raise InputError(f"constraints.kl_weight is {constraints.kl_weight:g}, but a front has two objectives; "
                         "give max_kl")  # fmt: skip
    if points < 2:
        raise InputError(f"points is {points}; a front has at least 2")
    both = [Objective({g: 1.0}) if isinstance(g, str) else g for g in (first, second)]
    if any(o.robust != "point" or o.reference for o in both):
        raise InputError(
            "a front uses the fitted law alone; give objectives without robust, relative_to and guardrails"
        )
    problems = [build_problem(fit, objective, constraints, current, n_params, n_tokens) for objective in both]
    rng = np.random.default_rng(seed)
    ends_2xK = np.concatenate([_best(problem, None, rng) for problem in problems])
    limit_B = np.linspace(*problems[1].values(fit.theta_TxP[None], ends_2xK)[0], points)
    h_BxK = _best(problems[0], problems[1].objective_at_most(limit_B), rng)
    columns = {}
    for name, problem in zip(("first", "second"), problems, strict=True):
        columns[name] = problem.values(fit.theta_TxP[None], h_BxK)[0]
        if problem.asked.kind == "mean":
            _, columns[f"{name}_lo"], columns[f"{name}_hi"] = problem.predicted(h_BxK, 0.9, **problem.scale)
    named = {f"{name}_goal": _name(p.asked) for name, p in zip(("first", "second"), problems, strict=True)}
    mixtures = {f"mix/{d}": h_B for d, h_B in zip(fit.domains, h_BxK.T, strict=True)}
    return pd.DataFrame(columns | named | mixtures)


def _best(problem: Problem, limits: LossLimits | None, rng: np.random.Generator) -> np.ndarray:
    """The best mixture under each of the limits, shape (B, K)."""
    count = 1 if limits is None else len(limits.limit_BxC)
    theta_Bx1xTxP = np.tile(problem.fit.theta_TxP, (count, 1, 1, 1))
    joint = problem.limits if limits is None else limits.joined(problem.limits)
    job = Job(problem, theta_Bx1xTxP, problem.starts(rng), joint)
    [found] = solve_jobs(job)
    check_feasible(job, found)
    return found.h_BxK


def _name(objective: Objective) -> str:
    """The target's name if there is only one, else the objective in words."""
    counted = [t for t, w in objective.weights.items() if w > 0]
    return counted[0] if len(counted) == 1 else objective.describe()
