"""The Pareto front between two objectives, by the ε-constraint method (Haimes, Lasdon and Wismer 1971).

One objective is minimized under a limit on the other, which moves from the optimum of the first to that of the second.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mixscale.constraints import Constraints
from mixscale.errors import InputError
from mixscale.laws.result import LawFit
from mixscale.laws.uncertainty import LEVEL
from mixscale.objective import Objective
from mixscale.optimization.problem import LossLimits, Problem, build_problem
from mixscale.optimization.solution import Job, check_feasible, solve_jobs


def pareto(
    fit: LawFit,
    first: Objective | str,
    second: Objective | str,
    constraints: Constraints | None = None,
    points: int = 11,
    n_params: float | None = None,
    n_tokens: float | None = None,
    current: Mapping[str, float] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Mixtures of which, by the law, none is better in one objective without being worse in the other.

    Args:
        first, second: objectives, or names of targets. points: mixtures on the front, evenly spaced in the second.

    Returns:
        a row a mixture, from the best for `first` to the best for `second`: `first` and `second` (lower is better),
        each with `_lo` and `_hi` if it is a mean; their names, `first_objective` and `second_objective`; `mix/<d>`.

    Raises:
        InputError: as `optimize`; an objective over bootstrap laws or relative to a mixture; fewer than two points;
            kl_weight.
    """
    if constraints is not None and constraints.kl_weight:
        raise InputError(f"constraints.kl_weight is {constraints.kl_weight:g}, but a Pareto front has two "
                         "objectives; use max_kl instead")  # fmt: skip
    if points < 2:
        raise InputError(f"points is {points}; a Pareto front needs at least 2")
    both = [Objective({o: 1.0}) if isinstance(o, str) else o for o in (first, second)]
    if any(o.robust != "point" or o.reference for o in both):
        raise InputError("a Pareto front uses only the fitted law; leave out robust, relative_to and guardrails")
    problems = [build_problem(fit, objective, constraints, current, n_params, n_tokens) for objective in both]
    rng = np.random.default_rng(seed)
    ends_2xK = np.concatenate([_best(problem, None, rng) for problem in problems])
    limit_B = np.linspace(*problems[1].values(fit.theta_TxP[None], ends_2xK)[0], points)
    h_BxK = _best(problems[0], problems[1].objective_at_most(limit_B), rng)
    columns, names = {}, {}
    for name, problem in zip(("first", "second"), problems, strict=True):
        columns[name] = problem.values(fit.theta_TxP[None], h_BxK)[0]
        if problem.spec.kind == "mean":
            _, columns[f"{name}_lo"], columns[f"{name}_hi"] = problem.predicted(h_BxK, LEVEL, **problem.scale)
        counted = [t for t, w in problem.spec.weights.items() if w > 0]
        names[f"{name}_objective"] = counted[0] if len(counted) == 1 else problem.objective.name
    mixtures = {f"mix/{d}": h_B for d, h_B in zip(fit.domains, h_BxK.T, strict=True)}
    return pd.DataFrame(columns | names | mixtures)


def _best(problem: Problem, limits: LossLimits | None, rng: np.random.Generator) -> np.ndarray:
    """The best mixture under each of the limits, shape (B, K)."""
    count = 1 if limits is None else len(limits.limit_BxC)
    theta_Bx1xTxP = np.tile(problem.fit.theta_TxP, (count, 1, 1, 1))
    joint = problem.limits if limits is None else limits.joined(problem.limits)
    job = Job(problem, theta_Bx1xTxP, problem.starts(rng), joint)
    [found] = solve_jobs(job)
    check_feasible(job, found)
    return found.h_BxK
