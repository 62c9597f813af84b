"""Runs programmes: starts, the elastic price of curved constraints, many starts where a law is not convex, polish.

What comes out are mixtures that keep the constraints, with the multipliers that the prices are made of.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixscale.optimization.polytope import Piece, contradiction
from mixscale.optimization.programme import Shape, cut, joined, programme
from mixscale.optimization.question import Ceilings, Question
from mixscale.optimization.solver import Ends, Programme, losses, minimize, slopes

ELASTIC = (1e2, 1e5)
"""Prices of exceeding a curved constraint, in typical costs a unit: the first, then where that was not enough."""
EXCEEDED = 1e-6
BATCH = 2**25
"""Most parameters times weights that are differentiated together."""
PART = 8
"""Problems are solved in a multiple of this, and in this number where the law is not convex."""
TOGETHER = 32
"""Most problems of a convex law that are solved together: all of them wait for the one that takes most steps."""
ACTIVE = 1e-5
"""Room to a linear constraint, with a multiplier larger than it, below which a mixture is put on it."""
SLACK = 1e-8
"""Room by which a polished mixture may exceed a curved constraint."""


@dataclass(frozen=True)
class Answer:
    """The best mixtures of B problems.

    Attributes:
        h_BxK: mixtures. value_B: the goal there, in the targets' units. excess_B: by how much curved constraints had
            to be exceeded. converged_B: whether Newton's method ended where it should.
        multiplier_BxL, multiplier_BxC: of the linear and the curved rows of `batch`, which `shape` explains.
        best_QxK: ends of the first problem's starts, best first.
    """

    h_BxK: np.ndarray
    value_B: np.ndarray
    excess_B: np.ndarray
    converged_B: np.ndarray
    multiplier_BxL: np.ndarray
    multiplier_BxC: np.ndarray
    batch: Programme
    shape: Shape
    best_QxK: np.ndarray


@dataclass(frozen=True)
class Job:
    """B problems of one question, each to be solved from Q starts.

    Attributes:
        theta_BxSxTxP: laws of each problem's scenarios. ceilings: of the question and what else may not be exceeded.
        count: of all scenarios, where these are only the worst of them.
    """

    question: Question
    theta_BxSxTxP: np.ndarray
    starts_QxK: np.ndarray
    ceilings: Ceilings | None = None
    count: int | None = None

    @cached_property
    def reference_BxSxT(self) -> np.ndarray:
        return np.stack([self.question.reference(theta_SxTxP) for theta_SxTxP in self.theta_BxSxTxP])

    @cached_property
    def programme(self) -> tuple[Programme, Shape]:
        """All descents: those of one problem stand together."""
        count, ceilings = len(self.starts_QxK), self.ceilings
        if ceilings:
            each = {name: getattr(ceilings, name) for name in ("limit_BxC", "theta_BxTxP")}
            each = {name: np.repeat(x, count, axis=0) for name, x in each.items() if len(x) > 1}
            ceilings = dataclasses.replace(ceilings, **each)
        repeated = (np.repeat(x, count, axis=0) for x in (self.theta_BxSxTxP, self.reference_BxSxT))
        batch, shape = programme(self.question, *repeated, ceilings, ELASTIC[0], self.count)
        return started(self.question, batch, shape, self.starts_QxK), shape


def answers(*jobs: Job) -> list[Answer]:
    """Solve the jobs together, and keep the best end of each problem."""
    law = jobs[0].question.fit.family
    batch = joined([job.programme[0] for job in jobs])
    found, at = [], 0
    ends = in_parts(law, batch)
    for job in jobs:
        own, shape = job.programme
        part = slice(at, at + len(own.start_X))
        at = part.stop
        mine = cut(ends, part, shape)
        if shape.elastic and (mine.x_BxX[:, -1] > EXCEEDED).any():
            mine = _dearer(law, own, batch.part(part), mine, shape)
        found.append(_best(job, mine))
    return found


def under(job: Job, found: Answer, ceilings: Ceilings) -> Answer:
    """What a job with one start and a convex law would have found under other ceilings.

    An optimum that the job's ceilings do not hold is that without any, so it stays where it keeps the others. The rest
    are solved, and more to fill the last part.
    """
    other = dataclasses.replace(job, ceilings=ceilings)
    moves_B = (_room(job, found.h_BxK) < ACTIVE) | (_room(other, found.h_BxK) < 0)
    if not moves_B.any():
        return found
    again_N = np.argsort(~moves_B, kind="stable")[: -(-int(moves_B.sum()) // TOGETHER) * TOGETHER]
    own = dataclasses.replace(
        ceilings, limit_BxC=ceilings.limit_BxC[again_N], theta_BxTxP=ceilings.theta_BxTxP[again_N]
    )
    [again] = answers(dataclasses.replace(other, theta_BxSxTxP=job.theta_BxSxTxP[again_N], ceilings=own))
    joint = {}
    for name in ("h_BxK", "value_B", "excess_B", "converged_B", "multiplier_BxL", "multiplier_BxC"):
        joint[name] = getattr(found, name).copy()
        joint[name][again_N] = getattr(again, name)
    return dataclasses.replace(found, batch=other.programme[0], **joint)


def _room(job: Job, h_BxK: np.ndarray) -> np.ndarray:
    """How far each problem's mixture is below the nearest of its ceilings, in scaled losses, shape (B,)."""
    batch, shape = job.programme
    over_BxC = _over(batch, losses(job.question.fit.family, batch, h_BxK))[:, shape.goal_rows :]
    return -over_BxC[:, : len(job.ceilings.names)].max(axis=1)


def _dearer(law, own: Programme, batch: Programme, ends: Ends, shape: Shape) -> Ends:
    """Solved again at a price that no multiplier of a constraint that can be kept should reach."""
    slope_BxE = batch.slope_E.copy()
    slope_BxE[:, own.slope_E.shape[1] - 1] = ELASTIC[1]
    again = cut(in_parts(law, batch._replace(slope_E=slope_BxE)), slice(None), shape)
    exceeded_B = ends.x_BxX[:, -1] > EXCEEDED
    return Ends(
        *(np.where(exceeded_B.reshape(-1, *[1] * (x.ndim - 1)), x, old) for x, old in zip(again, ends, strict=True))
    )


def _best(job: Job, ends: Ends) -> Answer:
    batch, shape = job.programme
    question, count = job.question, len(job.starts_QxK)
    h_BxK, value_B = polished(job, ends)
    excess_B = ends.x_BxX[:, -1] if shape.elastic else np.zeros(len(h_BxK))
    # Of several starts the best that keeps the constraints, or else the one that exceeds them least.
    over_B = np.where(excess_B > EXCEEDED, excess_B, 0.0)
    merit_PxQ = (value_B + 1e6 * question.size * over_B).reshape(-1, count)
    best_P = merit_PxQ.argmin(axis=1) + count * np.arange(len(merit_PxQ))
    return Answer(
        h_BxK[best_P], value_B[best_P], excess_B[best_P], ends.converged_B[best_P], ends.multiplier_BxL[best_P],
        ends.multiplier_BxC[best_P], batch.part(best_P), shape, h_BxK[:count][np.argsort(merit_PxQ[0], kind="stable")],
    )  # fmt: skip


def check_possible(question: Question, found: Answer) -> None:
    """Raises where the first problem's curved constraints had to be exceeded, naming those that contradict.

    Where the law is convex, the tangents of the curved constraints at the mixture that exceeds them least contradict
    the linear ones, so the linear deletion filter finds the names.

    Raises:
        InputError: constraints contradict each other.
    """
    if found.excess_B[0] <= EXCEEDED:
        return
    shape, only = found.shape, found.batch.part(slice(0, 1))
    # The goal's own variables keep a small price, or they would run away.
    slope_1xE = np.full_like(only.slope_E, 1e-3)
    slope_1xE[:, -1] = 1.0
    search = only._replace(price_F=np.zeros_like(only.price_F), slope_E=slope_1xE)
    search = started(question, search, shape, found.h_BxK[:1])
    ends = cut(in_parts(question.fit.family, joined([search])), slice(None), shape)
    if ends.x_BxX[0, -1] > EXCEEDED:
        h_K = ends.x_BxX[0, : len(question.fit.domains)]
        raise contradiction([*question.polytope.pieces, *_tangents(question, search.part(0), shape, h_K)])


def _tangents(question: Question, one: Programme, shape: Shape, h_K: np.ndarray) -> list[Piece]:
    f_F, slope_FxK = slopes(question.fit.family, one, h_K)
    share_CxF, level_C = one.share_CxF[shape.goal_rows :], one.level_C[shape.goal_rows :]
    said = (question.ceilings.said if question.ceilings else ()) + (f"max_kl {question.constraints.max_kl}",)
    rows_CxK = share_CxF @ slope_FxK
    limit_C = level_C - share_CxF @ f_F + rows_CxK @ h_K
    wide = len(question.polytope.free_X) - len(h_K)
    return [
        Piece(name, text, np.pad(row_K, (0, wide))[None], np.array([limit]))
        for name, text, row_K, limit in zip(shape.curved_names, said, rows_CxK, limit_C, strict=False)
    ]


def started(question: Question, batch: Programme, shape: Shape, starts_QxK: np.ndarray) -> Programme:
    """The batch with starts inside of all inequalities: near the given mixtures, tiled, with room in every bound."""
    body, k = question.polytope, len(question.fit.domains)
    x_BxX = np.zeros(batch.start_X.shape)
    inside_QxX = np.tile(body.whole_X, (len(starts_QxK), 1))
    inside_QxX[:, body.free_X] = body.inside(starts_QxK, 0.9)
    x_BxX[:, : inside_QxX.shape[1]] = np.tile(inside_QxX, (len(x_BxX) // len(starts_QxK), 1))
    if shape.extra:
        f_BxF = losses(question.fit.family, batch, x_BxX[:, :k])
        over_B = _over(batch, f_BxF).max(axis=1, initial=0.0)
        x_BxX[:, -shape.extra :] = over_B[:, None] + 0.1
    return batch._replace(start_X=x_BxX)


def _over(batch: Programme, f_BxF: np.ndarray) -> np.ndarray:
    """By how much each curved row is exceeded where its variables are zero, shape (B, C)."""
    return (batch.share_CxF @ f_BxF[:, :, None])[:, :, 0] - batch.level_C


def in_parts(law, batch: Programme) -> Ends:
    """The whole batch, in parts of one size that fit into memory."""
    b, f, p = batch.theta_FxP.shape
    # Sizes are rounded up, or the same for many problems, so that few are ever compiled.
    rounded = b if b <= 2 else -(-b // PART) * PART
    most = min(rounded, TOGETHER) if law.convex else min(PART, b)
    size = int(np.clip(BATCH // (f * p * len(batch.unique_K)), 1, most))
    parts = []
    for at in range(0, b, size):
        part = batch.part(np.minimum(np.arange(at, at + size), b - 1))
        parts.append(Ends(*(x[: min(size, b - at)] for x in minimize(law, part))))
    return Ends(*map(np.concatenate, zip(*parts, strict=True)))


def polished(job: Job, ends: Ends) -> tuple[np.ndarray, np.ndarray]:
    """Mixtures put exactly on the linear constraints that hold them, where that keeps all others, and their values."""
    (batch, shape), question = job.programme, job.question
    reference_BxSxT = np.repeat(job.reference_BxSxT, len(job.starts_QxK), axis=0)
    body = question.polytope
    x_BxF = ends.x_BxX[:, : len(body.free_X)][:, body.free_X]
    room_BxL = body.limit_L - x_BxF @ body.rows_LxF.T
    held_BxL = (room_BxL < ACTIVE) & (ends.multiplier_BxL[:, : room_BxL.shape[1]] > room_BxL)
    raw_BxF = np.stack([_moved(body, x_F, np.zeros(len(body.limit_L), bool)) for x_F in x_BxF])
    moved_BxF = np.stack([_moved(body, x_F, held_L) for x_F, held_L in zip(x_BxF, held_BxL, strict=True)])
    keeps_B = (body.limit_L - moved_BxF @ body.rows_LxF.T).min(axis=1, initial=np.inf) > -1e-12
    f_2xBxF = np.stack(
        [losses(question.fit.family, batch, np.maximum(body.mixtures(x), 0.0)) for x in (moved_BxF, raw_BxF)]
    )
    if shape.curved_names:
        over_BxC = _over(batch, f_2xBxF[0])[:, shape.goal_rows :]
        keeps_B &= over_BxC.max(axis=1) <= SLACK + ends.x_BxX[:, -1]
    value_2xB = np.stack([_values(job, f_BxF, reference_BxSxT) for f_BxF in f_2xBxF])
    take_B = keeps_B & (value_2xB[0] <= value_2xB[1] + 1e-9 * question.size)
    h_BxK = np.maximum(body.mixtures(np.where(take_B[:, None], moved_BxF, raw_BxF)), 0.0)
    return h_BxK / h_BxK.sum(axis=1, keepdims=True), np.where(take_B, *value_2xB)


def _values(job: Job, f_BxF: np.ndarray, reference_BxSxT: np.ndarray) -> np.ndarray:
    """The goal of each problem from its losses, with the pull to the prior, in the targets' units, shape (B,)."""
    question, (_, s, t) = job.question, reference_BxSxT.shape
    cost_BxSxT = f_BxF[:, : s * t].reshape(-1, s, t) * question.unit_T + question.offset_T
    flat = (cost_BxSxT.reshape(-1, 1, t), reference_BxSxT.reshape(-1, t))
    inner_SxB = question.goal.of_scenario(*flat, question.weight_T).reshape(-1, s).T
    return question.goal.of_all(inner_SxB, job.count) + question.constraints.kl_weight * f_BxF[:, -1]


def _moved(body, x_F: np.ndarray, held_L: np.ndarray) -> np.ndarray:
    """The nearest point on the equalities and on the inequalities that hold it."""
    rows_HxF = np.concatenate([body.equal_QxF, body.rows_LxF[held_L]])
    limit_H = np.r_[body.equal_Q, body.limit_L[held_L]]
    return x_F + np.linalg.lstsq(rows_HxF, limit_H - rows_HxF @ x_F, rcond=1e-10)[0]
