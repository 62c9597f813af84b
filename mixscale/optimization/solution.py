"""Solves problems: elastic curved constraints, several starts if a law is not convex, exact bounds, many scenarios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mixscale.constraints import kl_divergence
from mixscale.optimization.polytope import Rows, contradiction
from mixscale.optimization.problem import Layout, LossLimits, Problem
from mixscale.optimization.solver import BatchedProblem, SolverResult, losses, minimize, slopes, stack, unstack

ELASTIC = (1e2, 1e5)  # coefficient of the excess over curved constraints, in typical costs; second if the first fails
EXCEEDED = 1e-6  # excess from which a curved constraint counts as violated
MEMORY = 2**25  # most parameters times weights that are differentiated together
PART, TOGETHER = 8, 32  # batches are multiples of the first (at most, if not convex), and at most the second
ACTIVE = 1e-5  # slack of a linear constraint, with a larger multiplier, below which the mixture is put on it
ZERO = 1e-9  # a smaller weight is the rounding of zero
ALLOWED = 1e-8  # excess over a curved constraint that this may cause
SCENARIOS, WIDER = 24, 2.0  # first scenarios: so many, plus so many times those that determine the value
ROUNDS = 8  # most rounds in which scenarios are added
MOST_SCENARIOS = 50  # most scenarios if each adds variables and rows for its targets


@dataclass(frozen=True)
class Solution:
    """The best mixtures of B problems."""

    h_BxK: np.ndarray
    value_B: np.ndarray  # the objective, in the targets' units
    excess_B: np.ndarray  # over curved constraints
    converged_B: np.ndarray
    multiplier_BxL: np.ndarray  # of the linear rows of `batch`, see `layout`
    multiplier_BxC: np.ndarray  # of the curved rows
    batch: BatchedProblem
    layout: Layout
    best_QxK: np.ndarray  # ends of the first problem's descents, best first


@dataclass(frozen=True)
class Job:
    """B variants of one problem, each solved from Q starts."""

    problem: Problem
    theta_BxSxTxP: np.ndarray  # laws of each variant's scenarios
    starts_QxK: np.ndarray
    limits: LossLimits | None = None
    count: int | None = None  # as in `Objective.over_scenarios`

    @cached_property
    def reference_BxSxT(self) -> np.ndarray:
        return np.stack([self.problem.reference(theta_SxTxP) for theta_SxTxP in self.theta_BxSxTxP])

    @cached_property
    def arrays(self) -> tuple[BatchedProblem, Layout]:
        """All descents; those of one variant are adjacent."""
        count, limits = len(self.starts_QxK), self.limits
        if limits and len(limits.limit_BxC) > 1:
            limits = limits.part(np.repeat(np.arange(len(limits.limit_BxC)), count))
        repeated = (np.repeat(x, count, axis=0) for x in (self.theta_BxSxTxP, self.reference_BxSxT))
        batch, layout = self.problem.arrays(*repeated, limits, ELASTIC[0], self.count)
        return self.started(batch, layout, self.starts_QxK), layout

    def started(self, batch: BatchedProblem, layout: Layout, starts_QxK: np.ndarray) -> BatchedProblem:
        """The batch with strictly feasible starts near the given mixtures."""
        inside_QxX = self.problem.polytope.inside(starts_QxK, 0.9)
        extra_BxE = np.zeros((len(batch.start_X), batch.start_X.shape[1] - inside_QxX.shape[1]))
        x_BxX = np.tile(inside_QxX, (len(extra_BxE) // len(starts_QxK), 1))
        if extra_BxE.size:
            f_BxF = self.losses(batch, x_BxX[:, : len(batch.unique_K)])
            extra_BxE = (_over(batch, f_BxF).max(axis=1, initial=0.0)[:, None] + 0.1) * layout.start_E
        return batch._replace(start_X=np.concatenate([x_BxX, extra_BxE], axis=1))

    def losses(self, batch: BatchedProblem, h_BxK: np.ndarray) -> np.ndarray:
        return losses(self.problem.fit.family, self.problem.curves, batch, h_BxK)

    def slack(self, h_BxK: np.ndarray) -> np.ndarray:
        """Least slack of the loss limits at each variant's mixture, in scaled losses, shape (B,)."""
        batch, layout = self.arrays
        over_BxC = _over(batch, self.losses(batch, h_BxK))[:, layout.objective_rows :]
        return -over_BxC[:, : len(self.limits.constraints)].max(axis=1)

    def solve(self, batch: BatchedProblem) -> SolverResult:
        """The whole batch, in parts of one size that fit into memory; sizes are rounded so that few compile."""
        law, (b, t, p) = self.problem.fit.family, batch.theta_FxP.shape
        rounded = b if b <= 2 else -(-b // PART) * PART
        most = min(rounded, TOGETHER) if law.convex else min(PART, b)
        size = int(np.clip(MEMORY // (t * p * len(batch.unique_K)), 1, most))
        parts = []
        for at in range(0, b, size):
            part = batch.part(np.minimum(np.arange(at, at + size), b - 1))
            parts.append(SolverResult(*(x[: min(size, b - at)] for x in minimize(law, self.problem.curves, part))))
        return SolverResult(*map(np.concatenate, zip(*parts, strict=True)))


def solve_jobs(*jobs: Job) -> list[Solution]:
    """Solves the jobs in one batch; keeps the best end of each variant."""
    batch = stack([job.arrays[0] for job in jobs])
    found, at, result = [], 0, jobs[0].solve(batch)
    for job in jobs:
        own, layout = job.arrays
        part = slice(at, at + len(own.start_X))
        at = part.stop
        mine = unstack(result, part, own)
        exceeded_B = mine.x_BxX[:, -1] > EXCEEDED if layout.elastic else np.zeros(len(mine.x_BxX), dtype=bool)
        if exceeded_B.any():
            # Again with a coefficient above any multiplier of a feasible constraint.
            coef_BxE = batch.coef_E[part].copy()
            coef_BxE[:, own.coef_E.shape[1] - 1] = ELASTIC[1]
            again = unstack(job.solve(batch.part(part)._replace(coef_E=coef_BxE)), slice(None), own)
            mine = SolverResult(
                *(np.where(exceeded_B.reshape(-1, *[1] * (x.ndim - 1)), x, old)
                  for x, old in zip(again, mine, strict=True))
            )  # fmt: skip
        found.append(_best(job, mine))
    return found


def solve_under(job: Job, found: Solution, limits: LossLimits) -> Solution:
    """The solution of a job with one start and a convex law under other loss limits.

    An optimum that the job's limits do not bind stays if it satisfies the new ones. The others are solved again,
    together with some more that fill the last part.
    """
    other = replace(job, limits=limits)
    moves_B = (job.slack(found.h_BxK) < ACTIVE) | (other.slack(found.h_BxK) < 0)
    if not moves_B.any():
        return found
    again_N = np.argsort(~moves_B, kind="stable")[: -(-int(moves_B.sum()) // TOGETHER) * TOGETHER]
    [again] = solve_jobs(replace(other, theta_BxSxTxP=job.theta_BxSxTxP[again_N], limits=limits.part(again_N)))
    joint = {}
    for name in ("h_BxK", "value_B", "excess_B", "converged_B", "multiplier_BxL", "multiplier_BxC"):
        joint[name] = getattr(found, name).copy()
        joint[name][again_N] = getattr(again, name)
    return replace(found, batch=other.arrays[0], **joint)


def solve_robust(
    problems: Sequence[Problem], theta_SxTxP: np.ndarray, starts: Sequence[np.ndarray], near_1xK: np.ndarray
) -> list[Solution]:
    """The optimum of each problem over all scenarios, from its starts; `near_1xK` ranks the first scenarios.

    An exchange method: solve for the worst scenarios, evaluate all at the solution, and add those that have become
    worst. Fewer scenarios can only lower the objective, so the result is exact once it includes the worst of all.
    """
    theta_SxTxP = scenarios(problems[0], theta_SxTxP)
    count, spec = len(theta_SxTxP), problems[0].spec
    if spec.robust == "mean":
        return solve_jobs(*(Job(q, theta_SxTxP[None], s, q.limits) for q, s in zip(problems, starts, strict=True)))
    size = min(count, SCENARIOS + int(np.ceil(WIDER * spec.tail(count))))
    taken = [_worst(q, theta_SxTxP, near_1xK)[:size] for q in problems]
    for _ in range(ROUNDS):
        parts = zip(problems, taken, starts, strict=True)
        found = solve_jobs(*(Job(q, theta_SxTxP[None, index], s, q.limits, count) for q, index, s in parts))
        missing = [_missing(q, theta_SxTxP, f, index) for q, f, index in zip(problems, found, taken, strict=True)]
        if not any(len(m) for m in missing):
            break
        # All add as many, so that they stay one batch.
        more = max(map(len, missing))
        orders = [_worst(q, theta_SxTxP, f.h_BxK) for q, f in zip(problems, found, strict=True)]
        taken = [np.union1d(i, order[~np.isin(order, i)][:more]) for i, order in zip(taken, orders, strict=True)]
    # With scenarios missing it is a lower bound.
    return [replace(f, converged_B=f.converged_B & (len(m) == 0)) for f, m in zip(found, missing, strict=True)]


def scenarios(problem: Problem, theta_SxTxP: np.ndarray) -> np.ndarray:
    """The scenarios of the objective: all, unless each adds variables and rows for its targets."""
    many = problem.spec.kind != "mean" and problem.spec.robust in ("mean", "quantile")
    return theta_SxTxP[:MOST_SCENARIOS] if many else theta_SxTxP


def _worst(problem: Problem, theta_SxTxP: np.ndarray, h_1xK: np.ndarray) -> np.ndarray:
    return np.argsort(-problem.values(theta_SxTxP, h_1xK)[:, 0], kind="stable")


def _missing(problem: Problem, theta_SxTxP: np.ndarray, found: Solution, taken: np.ndarray) -> np.ndarray:
    """Scenarios that determine the value at the solution but were not included."""
    value_SxQ = problem.values(theta_SxTxP, found.h_BxK)
    if problem.spec.over_scenarios(value_SxQ)[0] <= found.value_B[0] + 1e-9 * problem.size:
        return taken[:0]
    tail = int(np.ceil(problem.spec.tail(len(theta_SxTxP))))
    return np.setdiff1d(np.argsort(-value_SxQ[:, 0], kind="stable")[:tail], taken)


def check_feasible(job: Job, found: Solution) -> None:
    """Raises InputError, naming constraints that contradict each other, if the first variant is infeasible.

    For a convex law, the tangents of the curved constraints at the mixture of least excess contradict the linear
    constraints, so the linear deletion filter finds the names.
    """
    if found.excess_B[0] <= EXCEEDED:
        return
    problem, layout, only = job.problem, found.layout, found.batch.part(slice(0, 1))
    # The objective's own variables keep a small coefficient, or they would be unbounded.
    coef_1xE = np.full_like(only.coef_E, 1e-3)
    coef_1xE[:, -1] = 1.0
    search = only._replace(coef_F=np.zeros_like(only.coef_F), coef_E=coef_1xE)
    search = job.started(search, layout, found.h_BxK[:1])
    result = unstack(job.solve(stack([search])), slice(None), search)
    if result.x_BxX[0, -1] <= EXCEEDED:
        return
    h_K, one = result.x_BxX[0, : len(problem.fit.domains)], search.part(0)
    f_F, slope_FxK = slopes(problem.fit.family, problem.curves, one, h_K)
    share_CxF, level_C = one.share_CxF[layout.objective_rows :], one.level_C[layout.objective_rows :]
    rows_CxK = share_CxF @ slope_FxK
    limit_C = level_C - share_CxF @ f_F + rows_CxK @ h_K
    rows_CxX = np.pad(rows_CxK, ((0, 0), (0, problem.polytope.equal_QxX.shape[1] - len(h_K))))
    tangents = map(Rows, layout.constraints, rows_CxX[:, None], limit_C[:, None])
    raise contradiction([*problem.polytope.all_rows, *tangents])


def _over(batch: BatchedProblem, f_BxF: np.ndarray) -> np.ndarray:
    """Excess over each curved row if its variables are zero, shape (B, C)."""
    return (batch.share_CxF @ f_BxF[:, :, None])[:, :, 0] - batch.level_C


def _best(job: Job, result: SolverResult) -> Solution:
    """Of the descents of each variant the best that satisfies the constraints, or else that of least excess."""
    batch, layout = job.arrays
    count, size = len(job.starts_QxK), job.problem.size
    h_BxK, value_B = _on_bounds(job, result)
    excess_B = result.x_BxX[:, -1] if layout.elastic else np.zeros(len(h_BxK))
    over_B = np.where(excess_B > EXCEEDED, excess_B, 0.0)
    merit_PxQ = (value_B + 1e6 * size * over_B).reshape(-1, count)
    best_P = merit_PxQ.argmin(axis=1) + count * np.arange(len(merit_PxQ))
    return Solution(
        h_BxK[best_P], value_B[best_P], excess_B[best_P], result.converged_B[best_P], result.multiplier_BxL[best_P],
        result.multiplier_BxC[best_P], batch.part(best_P), layout,
        h_BxK[:count][np.argsort(merit_PxQ[0], kind="stable")],
    )  # fmt: skip


def _on_bounds(job: Job, result: SolverResult) -> tuple[np.ndarray, np.ndarray]:
    """Mixtures put exactly on the binding linear constraints, if that satisfies all others, and their values."""
    (batch, layout), body, k = job.arrays, job.problem.polytope, len(job.problem.fit.domains)
    x_BxX = result.x_BxX[:, : body.equal_QxX.shape[1]]
    slack_BxL = body.limit_L - x_BxX @ body.rows_LxX.T
    held_BxL = (slack_BxL < ACTIVE) & (result.multiplier_BxL[:, : slack_BxL.shape[1]] > slack_BxL)
    raw_BxX = np.stack([body.projected(x_X, np.zeros(len(body.limit_L), bool)) for x_X in x_BxX])
    moved_BxX = np.stack([body.projected(x_X, held_L) for x_X, held_L in zip(x_BxX, held_BxL, strict=True)])
    take_B = (body.limit_L - moved_BxX @ body.rows_LxX.T).min(axis=1, initial=np.inf) > -1e-12
    f_2xBxF = np.stack([job.losses(batch, np.maximum(x_BxX[:, :k], 0.0)) for x_BxX in (moved_BxX, raw_BxX)])
    if layout.constraints:
        over_BxC = _over(batch, f_2xBxF[0])[:, layout.objective_rows :]
        take_B &= over_BxC.max(axis=1) <= ALLOWED + result.x_BxX[:, -1]
    value_2xB = np.stack([_values(job, f_BxF) for f_BxF in f_2xBxF])
    take_B &= value_2xB[0] <= value_2xB[1] + 1e-9 * job.problem.size
    h_BxK = np.where(take_B[:, None], moved_BxX, raw_BxX)[:, :k]
    h_BxK = np.where(h_BxK < ZERO, 0.0, h_BxK)
    h_BxK[:, body.pinned_X[:k]] = body.centre_X[:k][body.pinned_X[:k]]
    return h_BxK / h_BxK.sum(axis=1, keepdims=True), np.where(take_B, *value_2xB)


def _values(job: Job, f_BxF: np.ndarray) -> np.ndarray:
    """The objective, with the penalty, of each descent from its f, in the targets' units, shape (B,)."""
    problem, m = job.problem, len(job.problem.curves)
    reference_BxSxT = np.repeat(job.reference_BxSxT, len(job.starts_QxK), axis=0)
    _, s, t = reference_BxSxT.shape
    cost_BxSxT = f_BxF[:, m : m + s * t].reshape(-1, s, t) * problem.unit_T + problem.offset_T
    kl = [problem.curves.index(kl_divergence)] if problem.objective.kl_weight else []
    value_BxS = problem.objective.value(cost_BxSxT, reference_BxSxT, f_BxF[:, kl].sum(axis=1, keepdims=True))
    return problem.spec.over_scenarios(value_BxS.T, job.count)
