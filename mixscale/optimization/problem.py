"""`Problem`: a fit, an objective and constraints; what mixtures cost, and the arrays that the solver minimizes.

Converts between targets with names and units and arrays. `solution` decides how a problem is solved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mixscale.constraints import Constraint, Constraints, Curve, Curved, Linear, TargetLimit, as_array, kl_divergence
from mixscale.errors import InputError
from mixscale.laws import fitting
from mixscale.laws.families import Points
from mixscale.laws.result import LawFit
from mixscale.laws.skill import Skill
from mixscale.objective import BoundObjective, Objective
from mixscale.optimization.polytope import Polytope, polytope
from mixscale.optimization.solver import BatchedProblem

INTERIOR = 1e-7  # slack of curved constraints beyond their bound, so that there is an interior
RANDOM = 2000  # random mixtures among the candidates for starts
DESCENTS = 8  # starts of the solver if the law is not convex


class LossLimits(NamedTuple):
    """Limits on sums of scaled losses, `share_CxT f <= limit_BxC`, by one law or each problem's own, `theta_BxTxP`."""

    constraints: tuple[Constraint | None, ...]
    share_CxT: np.ndarray
    limit_BxC: np.ndarray
    theta_BxTxP: np.ndarray

    def part(self, index_B: np.ndarray) -> LossLimits:
        limit_BxC, theta_BxTxP = (x if len(x) == 1 else x[index_B] for x in (self.limit_BxC, self.theta_BxTxP))
        return self._replace(limit_BxC=limit_BxC, theta_BxTxP=theta_BxTxP)

    def joined(self, shared: LossLimits | None) -> LossLimits:
        """These limits and those that all problems share."""
        if shared is None:
            return self
        shared_BxC = np.tile(shared.limit_BxC, (len(self.limit_BxC), 1))
        return LossLimits(
            shared.constraints + self.constraints, np.concatenate([shared.share_CxT, self.share_CxT]),
            np.concatenate([shared_BxC, self.limit_BxC], axis=1), shared.theta_BxTxP,
        )  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """An optimization problem over one fit."""

    fit: LawFit
    spec: Objective  # the objective as given
    constraints: Constraints
    current_K: np.ndarray | None  # the mixture in use
    n_params: float | None  # where a law with scale is evaluated
    n_tokens: float | None
    best_TxK: np.ndarray | None = None  # mixture of each target's lowest cost, if the objective is relative to it
    curves: tuple[Curve, ...] = ()  # the convex functions that constraints and penalties use

    @cached_property
    def objective(self) -> BoundObjective:
        fit = self.fit
        sigma_T = fit.sigma_T * self.unit_T
        noise_T = [s if fit.noise[t] is None else fit.noise[t] for t, s in zip(fit.targets, sigma_T, strict=True)]
        return self.spec.bind(fit.dataset.columns, np.array(noise_T), self.constraints.kl_weight)

    @cached_property
    def unit_T(self) -> np.ndarray:
        return np.abs(self.fit.dataset.scale.unit_T)

    @cached_property
    def offset_T(self) -> np.ndarray:
        """`cost = unit f + offset`."""
        return self.objective.sign_T * self.fit.dataset.scale.offset_T

    @cached_property
    def size(self) -> float:
        """A typical cost, the solver's unit."""
        return float(self.objective.weight_T @ self.unit_T)

    @cached_property
    def prior_K(self) -> np.ndarray | None:
        return self.constraints.prior_K(self.fit.domains)

    @cached_property
    def parts(self) -> tuple[Constraint, ...]:
        fit, cost_T = self.fit, None
        if self.current_K is not None and self.constraints.keep:
            cost_T = self.costs(fit.theta_TxP[None], self.current_K[None])[0, 0]
        never_K = fit.dataset.never_used_K & fit.family.uses_mixture
        unused = [d for d, never in zip(fit.domains, never_K, strict=True) if never]
        return self.constraints.expand(
            fit.domains, self.n_tokens, self.current_K, unused, fit.targets, fit.dataset.columns, cost_T
        )

    def of_form(self, form: type) -> tuple:
        """The constraints of one form: `Linear`, `TargetLimit` or `Curved`."""
        return tuple(c for c in self.parts if isinstance(c, form))

    @cached_property
    def polytope(self) -> Polytope:
        return polytope(self.of_form(Linear), len(self.fit.domains))

    @cached_property
    def points(self) -> Points:
        """Scaled size, tokens and unique tokens at which the law is evaluated; the mixture is arbitrary."""
        return self.fit.points(self.fit.dataset.points.h_RxK[:1], **self.scale)

    @cached_property
    def scale(self) -> dict:
        """Keyword arguments of the fit's methods: where the law is evaluated."""
        # A domain without text is capped at no weight, so its size only has to be a number.
        unique = {d: max(float(v), 1.0) for d, v in self.constraints.available.items()} or None
        return {"n_params": self.n_params, "n_tokens": self.n_tokens, "unique_tokens": unique}

    def costs(self, theta_SxTxP: np.ndarray, h_QxK: np.ndarray) -> np.ndarray:
        """Costs (lower is better) in the targets' units, shape (S, Q, T)."""
        s, t, p = theta_SxTxP.shape
        points = Points(h_QxK, *(np.repeat(x, len(h_QxK), axis=0) for x in self.points[1:]))
        f_SxTxQ = fitting.evaluate(self.fit.family, theta_SxTxP.reshape(-1, p), points).reshape(s, t, -1)
        return f_SxTxQ.transpose(0, 2, 1) * self.unit_T + self.offset_T

    def reference(self, theta_SxTxP: np.ndarray) -> np.ndarray:
        """The reference of each scenario's costs, (S, T); InputError if it needs a missing current mixture."""
        if self.spec.reference == "current":
            return self.costs(theta_SxTxP, self._current()[None])[:, 0]
        return np.tile(self._best_T, (len(theta_SxTxP), 1))

    def _current(self) -> np.ndarray:
        if self.current_K is None:
            raise InputError("the objective is relative to the current mixture; give current")
        return self.current_K

    @cached_property
    def _best_T(self) -> np.ndarray:
        """Lowest cost of each target by the fitted law, or zero if the objective is not relative to it."""
        if self.best_TxK is None:
            return np.zeros(len(self.fit.targets))
        return np.diag(self.costs(self.fit.theta_TxP[None], self.best_TxK)[0])

    def values(self, theta_SxTxP: np.ndarray, h_QxK: np.ndarray) -> np.ndarray:
        """The objective, with the penalty, by each scenario alone, shape (S, Q)."""
        reference_Sx1xT = self.reference(theta_SxTxP)[:, None]
        return self.objective.value(self.costs(theta_SxTxP, h_QxK), reference_Sx1xT, self.divergence(h_QxK))

    def divergence(self, h_QxK: np.ndarray) -> np.ndarray:
        """Divergence from the prior, shape (Q,); zero if the objective has no penalty for it."""
        if not self.objective.kl_weight:
            return np.zeros(len(h_QxK))
        outside_Q = (h_QxK[:, self.prior_K == 0] > 0).any(axis=1)
        return np.where(outside_Q, np.inf, kl_divergence(h_QxK, self.prior_K))

    def _reference_rows(self, losses: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
        """The reference, or None for zero, where `losses` (R, T) are the predictions for a mixture."""
        sign_T = self.objective.sign_T
        if self.spec.reference == "current":
            return losses(self._current()) * sign_T
        if self.best_TxK is not None:
            return np.stack([(losses(h_K) * sign_T)[:, t] for t, h_K in enumerate(self.best_TxK)], axis=1)
        return None

    def reference_at(self, count: int, **scale) -> np.ndarray:
        """The reference at the scale of `count` rows, by the fitted law, shape (count, T)."""
        reference = self._reference_rows(lambda h_K: self.fit.predict(np.tile(h_K, (count, 1)), **scale))
        return np.zeros((count, len(self.fit.targets))) if reference is None else reference

    def observed(self, y_QxT: np.ndarray, **scale) -> np.ndarray:
        """The objective of measured losses, shape (Q,), without penalty and uncertainty; `scale`: of the runs."""
        return self.objective.observed(y_QxT, self.reference_at(len(y_QxT), **scale))

    def predicted(self, h_QxK: np.ndarray, level: float, **scale) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The objective by the fitted law and its interval for a new run, as in `observed`: three of shape (Q,)."""
        h_QxK = np.atleast_2d(h_QxK)
        if self.spec.kind == "mean":
            return self.fit.objective(h_QxK, weights=self.spec.weights, level=level, **scale)
        ends = self.fit.interval(h_QxK, level=level, **scale)
        predicted = (self.fit.predict(h_QxK, **scale), self.fit.draws(h_QxK, **scale), *ends)
        return self.objective.interval(*predicted, level, self.reference_at(len(h_QxK), **scale))

    def skill(self) -> Skill:
        """How well the law predicts this objective for held-out mixtures."""
        reference = self._reference_rows(self.fit.at_rows)
        return self.fit.skill(lambda y_RxT: self.objective.observed(y_RxT, 0.0 if reference is None else reference))

    @cached_property
    def limits(self) -> LossLimits | None:
        """`limits_by` the fitted law."""
        return self.limits_by(self.fit.theta_TxP[None])

    def limits_by(self, theta_BxTxP: np.ndarray) -> LossLimits | None:
        """The limits on kept targets by each of these laws; None if no target is kept."""
        kept = self.of_form(TargetLimit)
        if not kept:
            return None
        index_C, tolerance_C = [c.index for c in kept], np.array([c.bound for c in kept])
        cost_BxT = self.costs(theta_BxTxP, self._current()[None])[:, 0]
        limit_BxC = ((cost_BxT - self.offset_T)[:, index_C] + tolerance_C) / self.unit_T[index_C] + INTERIOR
        return LossLimits(kept, np.eye(len(self.fit.targets))[index_C], limit_BxC, theta_BxTxP)

    def residuals(self, h_K: np.ndarray) -> dict[str, float]:
        """Excess of a mixture over each constraint by its name, over kept targets by the fitted law."""
        cost_1xT = self.costs(self.fit.theta_TxP[None], h_K[None])[0] if self.of_form(TargetLimit) else None
        of = ((c, cost_1xT if isinstance(c, TargetLimit) else h_K[None]) for c in self.parts)
        return {c.name: float(c.residual(argument)[0]) for c, argument in of}

    def violated(self, h_K: np.ndarray, tolerance: float = 1e-6) -> tuple[Constraint, ...]:
        residuals = self.residuals(h_K)
        return tuple(c for c in self.parts if residuals[c.name] > tolerance)

    def objective_at_most(self, limit_B: np.ndarray) -> LossLimits:
        """Limits on the objective by the fitted law, one for each of B problems."""
        rows = self.objective.rows(self.unit_T, self.offset_T, np.zeros((1, len(self.fit.targets))))
        share_CxT, limit_C = rows.share_CxF, rows.limit_C
        if not len(limit_C):
            share_CxT, limit_C = rows.coef_F[None], -np.array([rows.shift])
        limit_BxC = (limit_C + limit_B[:, None]) / self.size + INTERIOR
        return LossLimits((None,) * len(limit_C), share_CxT / self.size, limit_BxC, self.fit.theta_TxP[None])

    def arrays(
        self,
        theta_BxSxTxP: np.ndarray,
        reference_BxSxT: np.ndarray,
        limits: LossLimits | None,
        elastic_coef: float,
        count: int | None = None,
    ) -> tuple[BatchedProblem, Layout]:
        """B problems for the solver, without starts: the objective over each one's S scenarios, under all constraints.

        One shared elastic variable, with a coefficient in the objective, relaxes the curved constraints (on losses,
        convex functions), so that every start is feasible and a contradiction shows. `count` is as in
        `Objective.over_scenarios`.
        """
        fit, body, size, k, m = self.fit, self.polytope, self.size, len(self.fit.domains), len(self.curves)
        b, s, t, p = theta_BxSxTxP.shape
        each = [self.objective.rows(self.unit_T, self.offset_T, ref_SxT, count) for ref_SxT in reference_BxSxT]
        rows, curved = each[0], self.of_form(Curved)
        of_losses = limits.constraints if limits else ()
        used_U = np.flatnonzero(np.abs(limits.share_CxT).max(axis=0)) if limits else np.zeros(0, dtype=int)
        by_BxTxP = limits.theta_BxTxP if limits else fit.theta_TxP[None]
        kept_BxUxP = np.broadcast_to(by_BxTxP[:, used_U], (b, len(used_U), p))
        # Columns of f: convex functions, the objective's losses, the limited losses.
        share_NxF = np.zeros((len(of_losses) + len(curved), m + s * t + len(used_U)))
        limit_BxN = np.zeros((b, len(share_NxF)))
        if limits:
            share_NxF[: len(of_losses), m + s * t :] = limits.share_CxT[:, used_U]
            limit_BxN[:, : len(of_losses)] = limits.limit_BxC
        parameter_MxK = np.ones((m, k))
        for i, c in enumerate(curved, start=len(of_losses)):
            share_NxF[i, self.curves.index(c.curve)] = 1.0
            limit_BxN[:, i] = max(c.limit, INTERIOR)
            parameter_MxK[self.curves.index(c.curve)] = c.parameter_K
        coef_F = np.r_[np.zeros(m), rows.coef_F / size, np.zeros(len(used_U))]
        if self.objective.kl_weight:
            coef_F[self.curves.index(kl_divergence)] = self.objective.kl_weight / size
            parameter_MxK[self.curves.index(kl_divergence)] = self.prior_K
        elastic = int(len(share_NxF) > 0)
        v, e = body.equal_QxX.shape[1] - k, len(rows.coef_E)
        width = k + v + e + elastic
        objective_CxF = np.pad(rows.share_CxF / size, ((0, 0), (m, len(used_U))))
        objective_CxE = np.pad(rows.lift_CxE, ((0, 0), (v, elastic)))
        elastic_NxE = np.pad(np.ones((len(share_NxF), elastic)), ((0, 0), (v + e, 0)))
        sign_PxX = np.eye(width)[width - elastic - rows.positive :]
        shared = {
            "pinned_X": np.r_[body.pinned_X, np.zeros(e + elastic)].astype(float),
            "parameter_MxK": parameter_MxK,
            "coef_F": coef_F,
            "coef_E": np.r_[np.zeros(v), rows.coef_E, np.full(elastic, elastic_coef)],
            "share_CxF": np.concatenate([objective_CxF, share_NxF]),
            "lift_CxE": np.concatenate([objective_CxE, elastic_NxE]),
            "rows_LxX": np.concatenate([np.pad(body.rows_LxX, ((0, 0), (0, e + elastic))), -sign_PxX]),
            "limit_L": np.r_[body.limit_L, np.zeros(len(sign_PxX))],
            "equal_QxX": np.pad(body.equal_QxX, ((0, 0), (0, e + elastic))),
            "equal_Q": body.equal_Q,
        }
        batch = BatchedProblem(
            start_X=np.zeros((b, width)),
            theta_FxP=np.concatenate([theta_BxSxTxP.reshape(b, s * t, p), kept_BxUxP], axis=1),
            level_C=np.concatenate([np.stack([g.limit_C for g in each]) / size, limit_BxN], axis=1),
            **{name: np.broadcast_to(x, (b, *x.shape)) for name, x in shared.items()},
            n=float(self.points.n_R[0]),
            d=float(self.points.d_R[0]),
            unique_K=self.points.u_RxK[0],
        )
        start_E = np.r_[rows.start_E, np.ones(elastic)]
        return batch, Layout(len(rows.limit_C), (*of_losses, *curved), start_E, bool(elastic))

    def starts(self, rng: np.random.Generator) -> np.ndarray:
        """Feasible mixtures (by the linear constraints) to start from, shape (Q, K); one for a convex law.

        Otherwise the best, by the fitted law, of vertices, centre, trained, current, prior and random mixtures.
        """
        body, k = self.polytope, len(self.fit.domains)
        if self.fit.family.convex:
            return body.centre_X[None, :k]
        random_QxK = [rng.dirichlet(np.full(k, alpha), RANDOM // 2) for alpha in (1.0, 0.2)]
        known = [x[None] for x in (self.current_K, self.prior_K) if x is not None]
        run_GxK = np.unique(self.fit.dataset.points.h_RxK, axis=0)
        pool_QxK = np.concatenate([np.eye(k), np.full((1, k), 1 / k), run_GxK, *random_QxK, *known])
        inside_QxK = np.maximum(body.inside(pool_QxK)[:, :k], 0)
        value_Q = self.values(self.fit.theta_TxP[None], inside_QxK)[0]
        if limits := self.limits:
            cost_QxT = self.costs(self.fit.theta_TxP[None], inside_QxK)[0]
            over_QxC = (cost_QxT - self.offset_T) / self.unit_T @ limits.share_CxT.T - limits.limit_BxC[0]
            value_Q = value_Q + 10 * self.size * np.maximum(over_QxC.max(axis=1), 0)
        return inside_QxK[np.argsort(value_Q, kind="stable")[:DESCENTS]]


class Layout(NamedTuple):
    """Where the parts of a batched problem are."""

    objective_rows: int  # curved rows of the objective, which come first
    constraints: tuple[Constraint | None, ...]  # of the other curved rows (None: of a second objective)
    start_E: np.ndarray  # see `ObjectiveRows`
    elastic: bool  # whether the last variable is the elastic one


def build_problem(
    fit: LawFit,
    objective: Objective | None = None,
    constraints: Constraints | None = None,
    current: Mapping[str, float] | None = None,
    n_params: float | None = None,
    n_tokens: float | None = None,
) -> Problem:
    """The problem of finding the best mixture by a fit.

    Raises:
        InputError: a target or domain is unknown, the objective or a constraint refers to something that is missing,
            or a scale is not positive.
    """
    for name, value in (("n_params", n_params), ("n_tokens", n_tokens)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value:g}; it must be positive and finite")
    current_K = as_array(current, fit.domains, "the current mixture") if current else None
    problem = Problem(fit, objective or Objective(), constraints or Constraints(), current_K, n_params, n_tokens)
    used = [c.curve for c in problem.of_form(Curved)] + [kl_divergence] * bool(problem.constraints.kl_weight)
    return replace(problem, curves=tuple(dict.fromkeys(used)))
