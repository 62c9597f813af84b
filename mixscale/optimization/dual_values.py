"""Dual values (shadow prices): what one more unit of each constraint's bound is worth, in loss and in tokens.

By the envelope theorem the derivative of the optimal value by a bound is the bound's multiplier (Boyd and
Vandenberghe 2004, §5.6). The multipliers of inequalities come from the solver, those of equalities from the gradient
that they hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixscale.constraints import Linear
from mixscale.optimization.problem import Problem
from mixscale.optimization.solution import Solution
from mixscale.optimization.solver import BatchedProblem, slopes

ZERO = 1e-7
"""A multiplier below this, in typical losses a unit, is the barrier's and not the constraint's."""
NUDGE = 1e-4
"""Relative change of tokens by which their worth is measured."""
POINT = 0.01
"""Change of a bound that dual values are quoted for: a percentage point of weight, 0.01 nats, 0.01 of a loss."""


@dataclass(frozen=True)
class SolvedConstraint:
    """A constraint at the optimum.

    Attributes:
        name, kind, description, bound, unit, domains, target: as in `Constraint`.
        slack: how far the optimum is from violating it, in the unit of the bound.
        dual_value: derivative of the optimal objective by the bound: negative if raising the bound helps, zero if the
            constraint does not bind; None for a constraint without a bound.
        tokens: how many more training tokens would, at this mixture, save as much as 0.01 of a unit in the better
            direction, to first order; None if the law has no tokens.
        per_unique_token: of available tokens, derivative of the optimal objective by one unique token: it raises the
            cap, and less is repeated if the law counts repeats. Limits on targets stay where they are.
    """

    name: str
    kind: str
    description: str
    bound: float | None
    unit: str
    slack: float
    dual_value: float | None
    tokens: float | None = None
    per_unique_token: float | None = None
    domains: tuple[str, ...] = ()
    target: str | None = None

    @property
    def binding(self) -> bool:
        """Whether the optimum would change with the bound."""
        return bool(self.dual_value)


def dual_values(problem: Problem, found: Solution) -> tuple[SolvedConstraint, ...]:
    """Every constraint of a problem at the first variant of a solution, in the order of `Constraints.expand`."""
    one, h_K, multiplier_C = found.batch.part(0), found.h_BxK[0], found.multiplier_BxC[0]
    weight_F = one.price_F + multiplier_C @ one.share_CxF
    gradient_K = weight_F @ _slopes(problem, one, h_K)[1]
    rows = len(problem.polytope.owner_L)
    slope_by = _linear(problem, gradient_K, found.multiplier_BxL[0][:rows])
    for constraint, m in zip(found.layout.constraints, multiplier_C[found.layout.goal_rows :], strict=True):
        unit = problem.unit_T[constraint.index] if constraint.unit == "target" else 1.0
        slope_by[constraint.name] = -m / unit
    of_token = _of_token(problem, one, found, h_K)
    of_unique = _of_unique_tokens(problem, one, weight_F, h_K)
    residual, solved = problem.residuals(h_K), []
    for c in problem.parts:
        slope = slope_by.get(c.name, 0.0)
        slope = slope if abs(slope) >= ZERO else 0.0
        tokens = POINT * abs(slope) / -of_token if slope and of_token is not None else None
        per_unique = None
        if c.kind == "available" and (slope or c.domains[0] in of_unique):
            capped = slope * problem.constraints.epochs_of(c.domains[0]) / problem.n_tokens
            per_unique = (capped + of_unique.get(c.domains[0], 0.0)) * problem.size
        solved.append(SolvedConstraint(
            c.name, c.kind, c.describe(), c.bound, c.unit, -residual[c.name],
            None if c.bound is None else slope * problem.size, tokens, per_unique, c.domains, c.target,
        ))  # fmt: skip
    return tuple(solved)


def _slopes(problem: Problem, one: BatchedProblem, h_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return slopes(problem.fit.family, problem.curves, one, h_K)


def _linear(problem: Problem, gradient_K: np.ndarray, multiplier_L: np.ndarray) -> dict[str, float]:
    """Derivative of the optimal value by the bound of every linear constraint, in typical losses."""
    body = problem.polytope
    slope_by = {c.name: 0.0 for c in problem.of_form(Linear)}
    for owner, multiplier in zip(body.owner_L, multiplier_L, strict=True):
        if owner is not None:
            slope_by[owner.name] -= owner.sign * multiplier
    pulled_X = np.r_[gradient_K, np.zeros(len(body.pinned_X) - len(gradient_K))] + body.rows_LxX.T @ multiplier_L
    # A weight that its own constraint holds at zero is held by non-negativity as well, which has no dual value.
    real_N = np.array([r.owner is not None or r.equal for r in body.held_N])
    single_N = np.count_nonzero(body.held_NxX, axis=1) == 1
    owned_X = np.abs(body.held_NxX[real_N & single_N]).max(axis=0, initial=0.0) > 0
    alone_N = real_N | ~(np.abs(body.held_NxX) @ owned_X.astype(float) > 0)
    rows_NxX, owners = body.held_NxX[alone_N], [r.owner for r, a in zip(body.held_N, alone_N, strict=True) if a]
    multiplier_N = -np.linalg.lstsq(rows_NxX.T, pulled_X, rcond=1e-10)[0]
    for owner, multiplier in zip(owners, multiplier_N, strict=True):
        if owner is not None:
            slope_by[owner.name] -= owner.sign * multiplier
    for name in {o.name for o in owners if o is not None and o.kind == "tied"}:
        # What holds the members together is how much they would gain apart: from the dearest to the cheapest.
        tied_N = np.array([o is not None and o.name == name for o in owners])
        apart_X = rows_NxX[tied_N].T @ multiplier_N[tied_N]
        slope_by[name] = -float(np.ptp(apart_X[np.abs(rows_NxX[tied_N]).max(axis=0) > 0]))
    return slope_by


def _of_token(problem: Problem, one: BatchedProblem, found: Solution, h_K: np.ndarray) -> float | None:
    """Derivative of the objective by D at the optimum, in typical losses a token; None if the law has no D."""
    if not problem.fit.uses_scale or problem.n_tokens is None:
        return None
    rows = found.layout.goal_rows
    weight_F = one.price_F + found.multiplier_BxC[0][:rows] @ one.share_CxF[:rows]
    nudged = [one._replace(d=one.d * (1 + sign * NUDGE)) for sign in (1, -1)]
    more_F, less_F = (_slopes(problem, p, h_K)[0] for p in nudged)
    slope = float(weight_F @ (more_F - less_F)) / (2 * NUDGE * problem.n_tokens)
    return slope if slope < 0 else None


def _of_unique_tokens(
    problem: Problem, one: BatchedProblem, weight_F: np.ndarray, h_K: np.ndarray
) -> dict[str, float]:
    """Derivative by a unique token of each domain at this mixture, in typical losses, if the law counts repeats."""
    if not problem.fit.family.uses_unique:
        return {}
    worth = {}
    for domain, tokens in problem.constraints.available.items():
        this_K = np.array(problem.fit.domains) == domain
        nudged = [one._replace(unique_K=one.unique_K * (1 + sign * NUDGE * this_K)) for sign in (1, -1)]
        more_F, less_F = (_slopes(problem, p, h_K)[0] for p in nudged)
        worth[domain] = float(weight_F @ (more_F - less_F)) / (2 * NUDGE * max(tokens, 1.0))
    return worth
