"""Dual values (shadow prices): what one more unit of each constraint's bound is worth, in loss and in tokens.

The derivative of the optimal value by a bound is the bound's multiplier (envelope theorem; Boyd and Vandenberghe 2004,
§5.6). The solver gives the multipliers of inequalities; those of equalities follow from the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixscale.constraints import Linear
from mixscale.optimization.problem import Problem
from mixscale.optimization.solution import Solution
from mixscale.optimization.solver import BatchedProblem, slopes

ZERO = 1e-7  # a smaller multiplier, in typical losses per unit, comes from the barrier
NUDGE = 1e-4  # relative change of tokens in numerical derivatives
POINT = 0.01  # change of a bound for which dual values are shown: a point of weight, 0.01 nats, 0.01 of a loss


@dataclass(frozen=True)
class SolvedConstraint:
    """A `Constraint` at the optimum."""

    name: str
    kind: str
    description: str
    bound: float | None
    unit: str
    slack: float  # distance from violating it, in the unit of the bound
    dual_value: float | None  # derivative of the optimal objective by the bound: 0 if not binding, None without bound
    tokens: float | None = None
    """training tokens that would lower the objective, at this mixture and to first order, as much as moving the bound
    by `POINT` in the better direction; None if the law has no tokens"""
    per_unique_token: float | None = None
    """for available tokens, derivative of the optimal objective by one unique token, which raises the cap and lowers
    the epochs that a law of repeats counts; limits on targets stay fixed"""
    domains: tuple[str, ...] = ()
    target: str | None = None

    @property
    def binding(self) -> bool:
        """Whether the optimum would change with the bound."""
        return bool(self.dual_value)


def dual_values(problem: Problem, found: Solution) -> tuple[SolvedConstraint, ...]:
    """Every constraint at the first variant of a solution, in the order of `Constraints.expand`."""
    one, h_K, multiplier_C = found.batch.part(0), found.h_BxK[0], found.multiplier_BxC[0]
    weight_F = one.coef_F + multiplier_C @ one.share_CxF
    gradient_K = weight_F @ slopes(problem.fit.family, problem.curves, one, h_K)[1]
    slope_by = _linear(problem, gradient_K, found.multiplier_BxL[0][: len(problem.polytope.owner_L)])
    for constraint, m in zip(found.layout.constraints, multiplier_C[found.layout.objective_rows :], strict=True):
        slope_by[constraint.name] = -m / (problem.unit_T[constraint.index] if constraint.unit == "target" else 1.0)
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
            c.name, c.kind, c.description, c.bound, c.unit, -residual[c.name],
            None if c.bound is None else slope * problem.size, tokens, per_unique, c.domains, c.target,
        ))  # fmt: skip
    return tuple(solved)


def _linear(problem: Problem, gradient_K: np.ndarray, multiplier_L: np.ndarray) -> dict[str, float]:
    """Derivative of the optimal value by the bound of every linear constraint, in typical losses."""
    body = problem.polytope
    slope_by = {c.name: 0.0 for c in problem.of_form(Linear)}
    pulled_X = np.r_[gradient_K, np.zeros(len(body.pinned_X) - len(gradient_K))] + body.rows_LxX.T @ multiplier_L
    # A weight that its own constraint holds at zero is held by non-negativity as well, which has no dual value.
    real_N = np.array([r.owner is not None or r.equal for r in body.held_N])
    single_N = np.count_nonzero(body.held_NxX, axis=1) == 1
    owned_X = np.abs(body.held_NxX[real_N & single_N]).max(axis=0, initial=0.0) > 0
    alone_N = real_N | ~(np.abs(body.held_NxX) @ owned_X.astype(float) > 0)
    rows_NxX, owners = body.held_NxX[alone_N], [r.owner for r, a in zip(body.held_N, alone_N, strict=True) if a]
    multiplier_N = -np.linalg.lstsq(rows_NxX.T, pulled_X, rcond=1e-10)[0]
    for owner, multiplier in zip((*body.owner_L, *owners), (*multiplier_L, *multiplier_N), strict=True):
        if owner is not None:
            slope_by[owner.name] -= owner.sign * multiplier
    for name in {o.name for o in owners if o is not None and o.kind == "tied"}:
        # A tie costs what its members would gain without it: the range of their marginal values.
        tied_N = np.array([o is not None and o.name == name for o in owners])
        apart_X = rows_NxX[tied_N].T @ multiplier_N[tied_N]
        slope_by[name] = -float(np.ptp(apart_X[np.abs(rows_NxX[tied_N]).max(axis=0) > 0]))
    return slope_by


def _derivative(problem: Problem, weight_F: np.ndarray, nudged: list[BatchedProblem], h_K: np.ndarray) -> float:
    """Central difference of `weight_F · f` by a relative change, before division by what changes."""
    more_F, less_F = (slopes(problem.fit.family, problem.curves, p, h_K)[0] for p in nudged)
    return float(weight_F @ (more_F - less_F))


def _of_token(problem: Problem, one: BatchedProblem, found: Solution, h_K: np.ndarray) -> float | None:
    """Derivative of the objective by D at the optimum, in typical losses a token; None if the law has no D."""
    if not problem.fit.uses_scale or problem.n_tokens is None:
        return None
    rows = found.layout.objective_rows
    weight_F = one.coef_F + found.multiplier_BxC[0][:rows] @ one.share_CxF[:rows]
    nudged = [one._replace(d=one.d * (1 + sign * NUDGE)) for sign in (1, -1)]
    slope = _derivative(problem, weight_F, nudged, h_K) / (2 * NUDGE * problem.n_tokens)
    return slope if slope < 0 else None


def _of_unique_tokens(problem: Problem, one: BatchedProblem, weight_F, h_K: np.ndarray) -> dict[str, float]:
    """The same by a unique token of each domain, if the law counts repeats."""
    worth = {}
    for domain, tokens in problem.constraints.available.items() if problem.fit.family.uses_unique else ():
        this_K = np.array(problem.fit.domains) == domain
        nudged = [one._replace(unique_K=one.unique_K * (1 + sign * NUDGE * this_K)) for sign in (1, -1)]
        worth[domain] = _derivative(problem, weight_F, nudged, h_K) / (2 * NUDGE * max(tokens, 1.0))
    return worth
