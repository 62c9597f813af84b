"""Solves a fitted law for the best mixture under the constraints that people have, with its doubt and its price.

Reads a `LawFit` and nothing else. `constraints` and `goal` say what is wanted, `polytope` and `programme` turn it into
arrays, `solver` minimizes, `answer` runs it, and `prices` and `result` say what came out. The optimum is solved once
more for each resample of the fit, which gives the region of weights that the data cannot tell apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from mixscale.constraints import Constraints, Group, bounds
from mixscale.errors import InputError
from mixscale.laws.result import LawFit
from mixscale.laws.uncertainty import LEVEL
from mixscale.mixture import Mixture
from mixscale.objective import Objective
from mixscale.optimization.answer import EXCEEDED, Answer, Job, answers, check_possible, under
from mixscale.optimization.pareto import pareto
from mixscale.optimization.prices import prices
from mixscale.optimization.question import Question, ask
from mixscale.optimization.result import Optimum, widened
from mixscale.optimization.robust import robust, weighed
from mixscale.optimization.starts import AFTER, affordable, starts

__all__ = ["Constraints", "Goal", "Group", "Optimum", "bounds", "pareto", "solve"]


def solve(
    fit: LawFit,
    weights: Mapping[str, float] | None = None,
    lower: Mapping[str, float] | None = None,
    upper: Mapping[str, float] | None = None,
    n_params: float | None = None,
    n_tokens: float | None = None,
    seed: int = 0,
    *,
    goal: Objective | None = None,
    constraints: Constraints | None = None,
    current: Mapping[str, float] | None = None,
) -> Optimum:
    """The mixture that keeps the constraints and minimizes the goal.

    Args:
        weights, lower, upper: short for `goal=Goal(weights)` and `constraints=Constraints(lower=..., upper=...)`.
        n_params, n_tokens: where to solve a law with scale; n_tokens also where available tokens cap weights.
        seed: of the random starts, for laws that are not convex.
        goal: what is minimized; the weighted mean of the targets where nothing is said.
        current: the mixture in use, which the optimum is compared with and which `keep` and `relative_to` speak of.

    Raises:
        InputError: a domain or target is unknown; constraints contradict each other (a smallest set that does is
            named); a scale is missing; something is said twice; the seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; seeds are not negative")
    question = ask(fit, weights, lower, upper, n_params, n_tokens, goal, constraints, current)
    rng = np.random.default_rng(seed)
    begin_QxK = starts(question, rng)
    question = _with_bests(question, begin_QxK)
    free = _without_constraints(question)
    main, draws, own, unbound = _solved(question, begin_QxK, free, rng)
    return _described(question, main, draws, own, unbound)


def _with_bests(question: Question, begin_QxK: np.ndarray) -> Question:
    """The question with the lowest cost that each target can have, where the goal counts from that."""
    if question.goal.relative_to != "best":
        return question
    theta_1x1xTxP = question.fit.theta_TxP[None, None]
    alone = [dataclasses.replace(question, goal=Objective({target: 1.0})) for target in question.fit.targets]
    found = answers(*(Job(q, theta_1x1xTxP, begin_QxK, q.ceilings) for q in alone))
    for one, best in zip(alone, found, strict=True):
        check_possible(one, best)
    h_TxK = np.concatenate([best.h_BxK for best in found])
    return dataclasses.replace(question, best_TxK=h_TxK)


def _solved(
    question: Question, begin_QxK: np.ndarray, free: Question | None, rng: np.random.Generator
) -> tuple[Answer, Answer, Answer, Answer | None]:
    """The optimum, that of each resample by itself (twice), and that without constraints where there are any.

    First a target is kept by the fitted law, so that all resamples choose among the same mixtures and regrets can be
    told; then by the resample's own law, since what keeps it is as much in doubt as what is best. A convex law needs
    no other start for a resample, so that all are one batch.
    """
    fit, few = question.fit, 1 if question.fit.family.convex else AFTER
    theta_Sx1xTxP = fit.theta_SxTxP[affordable(fit, few)][:, None]
    asked = [question] if free is None else [question, free]
    begin = [begin_QxK, *(starts(q, rng) for q in asked[1:])]
    single = [dataclasses.replace(q, goal=dataclasses.replace(q.goal, robust="point")) for q in asked]
    jobs = [Job(q, fit.theta_TxP[None, None], b, q.ceilings) for q, b in zip(single, begin, strict=True)]
    own = question.ceilings_by(theta_Sx1xTxP[:, 0])
    if fit.family.convex:
        each = Job(single[0], theta_Sx1xTxP, begin_QxK, question.ceilings)
        *points, alike = answers(*jobs, each)
        check_possible(question, points[0])
        draws = [alike, *([under(each, alike, own)] if own else [])]
    else:
        points = answers(*jobs)
        check_possible(question, points[0])
        kept = [question.ceilings, *([own] if own else [])]
        draws = answers(*(Job(single[0], theta_Sx1xTxP, points[0].best_QxK[:few], c) for c in kept))
    if question.goal.robust != "point":
        # Many laws at once make a descent dear, so it starts where the fitted law alone ended.
        begin = begin if fit.family.convex else [p.best_QxK[:few] for p in points]
        points = robust(asked, theta_Sx1xTxP[:, 0], begin, points[0].h_BxK)
    return points[0], draws[0], draws[-1], None if free is None else points[1]


def _without_constraints(question: Question) -> Question | None:
    """The question without its constraints, None where there are none."""
    asked = question.constraints
    if not (question.ceilings or asked.pulls or any(p.name and p.bound is not None for p in question.polytope.pieces)):
        return None
    # Text stays as scarce as it is for a law that counts repeats; only the cap on them goes.
    return dataclasses.replace(question, constraints=Constraints(available=asked.available, epochs=np.inf))


def _described(question: Question, main: Answer, draws: Answer, own: Answer, free: Answer | None) -> Optimum:
    fit, at = question.fit, question.at
    best_K, draws_SxK = main.h_BxK[0], _region(draws, own)
    mixture = Mixture.from_array(fit.domains, best_K)
    h_1xK = mixture.array()[None]
    weights = dict(zip(fit.targets, map(float, question.weight_T), strict=True))
    predicted_T = fit.predict(h_1xK, **at)[0]
    lo_1xT, hi_1xT = fit.interval(h_1xK, LEVEL, **at)
    low_K, high_K = bounds(fit.domains, question.constraints.lower, question.constraints.upper)
    edges_2xK = np.clip(widened(fit.widening(h_1xK, weights, LEVEL, **at), best_K, draws_SxK, LEVEL), low_K, high_K)
    best = Optimum(
        mixture=mixture,
        objective=tuple(float(v[0]) for v in fit.objective(h_1xK, weights, LEVEL, **at)),  # type: ignore
        predicted={
            t: (float(predicted_T[i]), float(lo_1xT[0, i]), float(hi_1xT[0, i])) for i, t in enumerate(fit.targets)
        },
        interval={d: (float(edges_2xK[0, k]), float(edges_2xK[1, k])) for k, d in enumerate(fit.domains)},
        draws_SxK=draws_SxK,
        convex=bool(fit.family.convex and main.converged_B[0]),
        law=fit.law,
        weights=weights,
        lower=dict(zip(fit.domains, map(float, low_K), strict=True)),
        upper=dict(zip(fit.domains, map(float, high_K), strict=True)),
        n_params=question.n_params,
        n_tokens=question.n_tokens,
        goal=question.goal,
        value=float(main.value_B[0]),
        prices=prices(question, main),
        unconstrained=None if free is None else Mixture.from_array(fit.domains, free.h_BxK[0]),
        given_up=None if free is None else float(main.value_B[0] - free.value_B[0]),
        expected_regret=_expected_regret(question, best_K, draws),
        notes=_notes(question, main, own),
        skill=question.skill(),
        constraints=question.constraints,
        counted_from=_counted_from(question),
        question=question,
    )
    return best if question.current_K is None else _compared(question, best)


def _counted_from(question: Question) -> dict[str, Mixture]:
    if question.best_TxK is None:
        return {}
    each = zip(question.fit.targets, question.best_TxK, strict=True)
    return {target: Mixture.from_array(question.fit.domains, h_K) for target, h_K in each}


def _expected_regret(question: Question, best_K: np.ndarray, draws: Answer) -> tuple[float, float]:
    """Mean over the resamples, and 0.95 quantile, of what the optimum costs more than the resample's own."""
    value_S = question.values(question.fit.theta_SxTxP[: len(draws.value_B)], best_K[None])[:, 0]
    # A descent that ended short of the optimum itself must not count as a gain.
    regret_S = np.maximum(value_S - draws.value_B, 0.0)
    return float(regret_S.mean()), float(np.quantile(regret_S, 0.95))


def _compared(question: Question, best: Optimum) -> Optimum:
    """The optimum beside the current mixture."""
    fit, current_K = question.fit, question.current_K
    current = Mixture.from_array(fit.domains, current_K)
    h_2xK = np.stack([current_K, best.mixture.array()])
    cost_SxT, ours_SxT = question.costs(fit.theta_SxTxP, h_2xK).transpose(1, 0, 2)
    kept = {}
    for name, tolerance in question.constraints.keep.items():
        t = question.target(name)
        kept[fit.targets[t]] = float(np.mean(ours_SxT[:, t] <= cost_SxT[:, t] + tolerance))
    return dataclasses.replace(
        best, current=current, gain=best.regret(current), kept=kept, current_breaks=question.broken(current_K)
    )


def _region(draws: Answer, own: Answer) -> np.ndarray:
    """Optima of the resamples by whose own law some mixture keeps every target, or of all where there is none."""
    possible_S = own.excess_B <= EXCEEDED
    return own.h_BxK[possible_S] if possible_S.any() else draws.h_BxK


def _notes(question: Question, main: Answer, own: Answer) -> tuple[str, ...]:
    notes = []
    count, lost = len(own.h_BxK), int((own.excess_B > EXCEEDED).sum())
    if lost:
        rest = "regions are without these" if lost < count else "regions are of what keeps them by the fitted law"
        notes.append(f"by {lost} of {count} resamples no mixture keeps every target; {rest}")
    all_draws = len(question.fit.theta_SxTxP)
    if count < all_draws:
        notes.append(f"the law is large, so regions and regrets are from {count} of {all_draws} resamples")
    theta_SxTxP = question.fit.theta_SxTxP[:count]
    if question.goal.robust != "point" and (few := len(weighed(question, theta_SxTxP))) < all_draws:
        notes.append(f"the goal is over {few} of {all_draws} resamples")
    asked, size = question.n_params, question.fit.dataset.scale.n
    if not question.fit.uses_scale and asked is not None and not np.isclose(asked, size, rtol=0.01):
        notes.append(f"the law has no scale, so this is the optimum at the table's size and not at {asked:.4g}")
    if not main.converged_B[0]:
        notes.append("Newton's method did not converge; the optimum is the best mixture it met")
    return tuple(notes)
