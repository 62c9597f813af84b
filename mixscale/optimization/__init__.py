"""Solves a fitted law for the best mixture under constraints, with its uncertainty and the constraints' dual values.

`problem` turns a fit, an objective and constraints into arrays, `polytope` handles the linear constraints, `solver`
minimizes, `solution` runs it, `dual_values` and `result` hold the outcome. Each bootstrap law is solved as well: their
optima are the weights that the data cannot distinguish.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from mixscale.constraints import Constraints, Group, bounds
from mixscale.errors import InputError, did_you_mean
from mixscale.laws.result import LawFit
from mixscale.laws.uncertainty import LEVEL
from mixscale.mixture import Mixture
from mixscale.objective import Objective
from mixscale.optimization.dual_values import SolvedConstraint, dual_values
from mixscale.optimization.pareto import pareto
from mixscale.optimization.problem import Problem, build_problem
from mixscale.optimization.result import Optimum, widened
from mixscale.optimization.solution import (
    EXCEEDED,
    Job,
    Solution,
    check_feasible,
    scenarios,
    solve_jobs,
    solve_robust,
    solve_under,
)

__all__ = [
    "Constraints", "Group", "Objective", "Optimum", "Problem", "SolvedConstraint", "build_problem", "optimize",
    "pareto",
]  # fmt: skip

AFTER = 2  # if the law is not convex: ends of the fitted law's descents from which each bootstrap law starts
BUDGET = 5e6  # parameters times weights per Newton step over all bootstrap laws: about 2 s on two cores
MIN_BOOTSTRAP = 20  # bootstrap laws that are always solved


def optimize(
    fit: LawFit,
    objective: Objective | None = None,
    constraints: Constraints | None = None,
    current: Mapping[str, float] | None = None,
    n_params: float | None = None,
    n_tokens: float | None = None,
    seed: int = 0,
    **short: Any,
) -> Optimum:
    """The mixture that satisfies the constraints and minimizes the objective.

    Args:
        objective: what is minimized; the mean over targets by default. constraints: none by default.
        current: the mixture in use, to compare the optimum with; kept targets, ties, guardrails and `relative_to`
            refer to it.
        n_params, n_tokens: where to solve a law with scale; n_tokens also for available tokens.
        seed: of the random starts, for laws that are not convex.
        short: fields of `Objective` and `Constraints` in place of the objects: `weights={"code": 2}`,
            `upper={"web": 0.3}`, `keep=["wiki"]`.

    Raises:
        InputError: a domain or target is unknown; constraints contradict each other (names a smallest such set); a
            scale is missing; an option is given twice; the seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; seeds are not negative")
    objective = _from_fields(Objective, objective, "objective", short)
    constraints = _from_fields(Constraints, constraints, "constraints", short)
    if short:
        known = [f.name for cls in (Objective, Constraints) for f in fields(cls)]
        raise InputError(f"optimize has no option '{next(iter(short))}'{did_you_mean(next(iter(short)), known)}")
    problem = build_problem(fit, objective, constraints, current, n_params, n_tokens)
    rng = np.random.default_rng(seed)
    starts_QxK = problem.starts(rng)
    problem = _with_bests(problem, starts_QxK)
    main, draws, own, free = _solved(problem, starts_QxK, _unconstrained(problem), rng)
    return _optimum(problem, main, draws, own, free)


def _from_fields(cls: type, given: Any, name: str, short: dict[str, Any]) -> Any:
    """The given object, or one of the short forms."""
    own = {f.name: short.pop(f.name) for f in fields(cls) if f.name in short}
    own = {field: value for field, value in own.items() if value is not None}
    if given is not None and own:
        raise InputError(f"{next(iter(own))} is given together with {name}; set it in {name}")
    return cls(**own) if given is None else given


def _with_bests(problem: Problem, starts_QxK: np.ndarray) -> Problem:
    """The problem with the mixture of each target's lowest cost, if the objective is relative to it."""
    if problem.spec.reference != "best":
        return problem
    theta_1x1xTxP = problem.fit.theta_TxP[None, None]
    alone = [replace(problem, spec=Objective({target: 1.0})) for target in problem.fit.targets]
    jobs = [Job(p, theta_1x1xTxP, starts_QxK, p.limits) for p in alone]
    found = solve_jobs(*jobs)
    for job, best in zip(jobs, found, strict=True):
        check_feasible(job, best)
    return replace(problem, best_TxK=np.concatenate([best.h_BxK for best in found]))


def _unconstrained(problem: Problem) -> Problem | None:
    if not (any(c.bound is not None for c in problem.parts) or problem.constraints.near_prior):
        return None
    # Available tokens still limit a law that counts repeats; only the cap on epochs is gone.
    available = problem.constraints.available
    free = Constraints(available=available, epochs=np.inf) if available else Constraints()
    return replace(problem, constraints=free)


def _solved(
    problem: Problem, starts_QxK: np.ndarray, free: Problem | None, rng: np.random.Generator
) -> tuple[Solution, Solution, Solution, Solution | None]:
    """The optimum, that of each bootstrap law (twice), and that without constraints if there are any.

    The limits on kept targets are first those of the fitted law, so that all bootstrap laws choose among the same
    mixtures and regrets are comparable, then those of each bootstrap law, since they are uncertain too. A convex law
    needs only one start, so all are one batch.
    """
    fit, few = problem.fit, 1 if problem.fit.family.convex else AFTER
    affordable = int(BUDGET / (few * fit.theta_TxP.size * len(fit.domains)))
    theta_Sx1xTxP = fit.theta_SxTxP[: max(MIN_BOOTSTRAP, affordable)][:, None]
    problems = [problem] if free is None else [problem, free]
    starts = [starts_QxK, *(p.starts(rng) for p in problems[1:])]
    single = [replace(p, spec=replace(p.spec, robust="point", level=LEVEL)) for p in problems]
    jobs = [Job(p, fit.theta_TxP[None, None], s, p.limits) for p, s in zip(single, starts, strict=True)]
    own = problem.limits_by(theta_Sx1xTxP[:, 0])
    if fit.family.convex:
        each = Job(single[0], theta_Sx1xTxP, starts_QxK, problem.limits)
        *points, shared = solve_jobs(*jobs, each)
        check_feasible(jobs[0], points[0])
        draws = [shared, *([solve_under(each, shared, own)] if own else [])]
    else:
        points = solve_jobs(*jobs)
        check_feasible(jobs[0], points[0])
        kept = [problem.limits, *([own] if own else [])]
        draws = solve_jobs(*(Job(single[0], theta_Sx1xTxP, points[0].best_QxK[:few], limits) for limits in kept))
    if problem.spec.robust != "point":
        # A descent over many laws is expensive, so it starts where the fitted law alone ended.
        starts = starts if fit.family.convex else [p.best_QxK[:few] for p in points]
        points = solve_robust(problems, theta_Sx1xTxP[:, 0], starts, points[0].h_BxK)
    return points[0], draws[0], draws[-1], None if free is None else points[1]


def _optimum(problem: Problem, main: Solution, draws: Solution, own: Solution, free: Solution | None) -> Optimum:
    fit, scale, weights = problem.fit, problem.scale, problem.objective.weights
    mixture = Mixture.from_array(fit.domains, main.h_BxK[0])
    h_1xK = mixture.array()[None]
    possible_S = own.excess_B <= EXCEEDED
    samples_SxK = own.h_BxK[possible_S] if possible_S.any() else draws.h_BxK
    predicted_T = fit.predict(h_1xK, **scale)[0]
    lo_1xT, hi_1xT = fit.interval(h_1xK, LEVEL, **scale)
    low_K, high_K = bounds(fit.domains, problem.constraints.lower, problem.constraints.upper)
    region_2xK = widened(fit.widening(h_1xK, weights, LEVEL, **scale), h_1xK[0], samples_SxK, LEVEL)
    # A bootstrap descent that ends short of the optimum is no negative regret.
    value_S = problem.values(fit.theta_SxTxP[: len(draws.value_B)], h_1xK)[:, 0]
    regret_S = np.maximum(value_S - draws.value_B, 0.0)
    best = Optimum(
        mixture=mixture,
        mean=tuple(float(v[0]) for v in fit.objective(h_1xK, weights, LEVEL, **scale)),  # type: ignore
        predicted={t: (float(predicted_T[i]), float(lo_1xT[0, i]), float(hi_1xT[0, i]))
                   for i, t in enumerate(fit.targets)},
        interval={d: (float(lo), float(hi))
                  for d, lo, hi in zip(fit.domains, *np.clip(region_2xK, low_K, high_K), strict=True)},
        samples_SxK=samples_SxK,
        convex=bool(fit.family.convex and main.converged_B[0]),
        law=fit.law,
        weights=weights,
        columns=fit.dataset.columns,
        objective=problem.spec,
        constraints=problem.constraints,
        value=float(main.value_B[0]),
        solved=dual_values(problem, main),
        unconstrained=None if free is None else Mixture.from_array(fit.domains, free.h_BxK[0]),
        cost_of_constraints=None if free is None else float(main.value_B[0] - free.value_B[0]),
        expected_regret=(float(regret_S.mean()), float(np.quantile(regret_S, 0.95))),
        skill=problem.skill(),
        n_params=problem.n_params,
        n_tokens=problem.n_tokens,
        notes=_notes(problem, main, own),
        reference={} if problem.best_TxK is None else {
            t: Mixture.from_array(fit.domains, h_K) for t, h_K in zip(fit.targets, problem.best_TxK, strict=True)
        },
        problem=problem,
    )  # fmt: skip
    return best if problem.current_K is None else _compared(problem, best)


def _compared(problem: Problem, best: Optimum) -> Optimum:
    fit, current_K = problem.fit, problem.current_K
    current = Mixture.from_array(fit.domains, current_K)
    now_SxT, then_SxT = problem.costs(fit.theta_SxTxP, np.stack([current_K, best.mixture.array()])).transpose(1, 0, 2)
    kept = {c.target: c for c in problem.limits.constraints} if problem.limits else {}
    shares = {t: float(np.mean((then_SxT - now_SxT)[:, c.index] <= c.bound)) for t, c in kept.items()}
    violated = tuple(c.name for c in problem.violated(current_K))
    return replace(best, current=current, gain=best.regret(current), kept=shares, violated_by_current=violated)


def _notes(problem: Problem, main: Solution, own: Solution) -> tuple[str, ...]:
    notes, fit = [], problem.fit
    count, lost = len(own.h_BxK), int((own.excess_B > EXCEEDED).sum())
    if lost:
        regions = "leave them out" if lost < count else "use targets kept by the fitted law instead"
        notes.append(f"under {lost} of {count} bootstrap laws no mixture keeps every target; regions {regions}")
    all_draws = len(fit.theta_SxTxP)
    if count < all_draws:
        notes.append(f"the law is large, so regions and regrets use {count} of {all_draws} bootstrap laws")
    few = len(scenarios(problem, fit.theta_SxTxP[:count]))
    if problem.spec.robust != "point" and few < all_draws:
        notes.append(f"the objective uses {few} of {all_draws} bootstrap laws")
    wanted, size = problem.n_params, fit.dataset.scale.n
    if not fit.uses_scale and wanted is not None and not np.isclose(wanted, size, rtol=0.01):
        notes.append(f"the law has no scale, so this is the optimum at the table's size, not at {wanted:.4g} "
                     "parameters")  # fmt: skip
    if not main.converged_B[0]:
        notes.append("Newton's method did not converge; the optimum is the best mixture it found")
    return tuple(notes)
