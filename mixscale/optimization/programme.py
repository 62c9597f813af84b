"""Builds programmes: a question's goal over scenarios, its constraints and ceilings, as the arrays of `solver`.

The layout of variables and rows is decided here and nowhere else; `Shape` remembers what lies where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixscale.objective import as_rows
from mixscale.optimization.question import HAIR, Ceilings, Question
from mixscale.optimization.solver import Ends, Programme

FILL = {"x": 8, "l": 32, "c": 8, "q": 8, "laws": 4}
"""Sizes are filled up to multiples of these, so that few shapes are ever compiled."""


@dataclass(frozen=True)
class Shape:
    """Where the parts of a programme lie.

    Attributes:
        goal_rows: curved rows of the goal; after them come those of `curved_names`. extra: variables
            behind h and v: the goal's, then, where `elastic`, the excess.
        sizes: of x, linear rows, curved rows, before they are filled up.
    """

    goal_rows: int
    curved_names: tuple[str, ...]
    extra: int
    elastic: bool
    sizes: tuple[int, int, int]


def programme(
    question: Question,
    theta_BxSxTxP: np.ndarray,
    reference_BxSxT: np.ndarray,
    ceilings: Ceilings | None,
    excess_price: float,
    count: int | None = None,
) -> tuple[Programme, Shape]:
    """B problems: the goal over each one's S scenarios, under the question's constraints and ceilings; without starts.

    Curved constraints (ceilings, divergence) may be exceeded by one shared variable at a price, so that any start will
    do and a contradiction shows.

    Args:
        count: as in `Goal.of_all`.
    """
    fit, body = question.fit, question.polytope
    b, s, t, p = theta_BxSxTxP.shape
    of_goal = (question.goal, question.weight_T, question.unit_T, question.offset_T)
    goals = [as_rows(*of_goal, reference_SxT, count) for reference_SxT in reference_BxSxT]
    goal, size = goals[0], question.size
    used_U = np.flatnonzero(np.abs(ceilings.share_CxT).max(axis=0)) if ceilings else np.zeros(0, dtype=int)
    by_BxTxP = ceilings.theta_BxTxP if ceilings else fit.theta_TxP[None]
    kept_BxUxP = np.broadcast_to(by_BxTxP[:, used_U], (b, len(used_U), p))
    share_CxF, level_BxC, names = _curved(question, ceilings, used_U, s * t, b)
    elastic = len(names) > 0
    lift_CxE = np.zeros((len(share_CxF), len(body.free_X) - len(fit.domains) + len(goal.slope_E) + elastic))
    lift_CxE[:, lift_CxE.shape[1] - elastic :] = 1.0
    v, e = len(body.free_X) - len(fit.domains), len(goal.slope_E)
    width = len(body.free_X) + e + elastic
    goal_CxF = np.pad(goal.share_CxF / size, ((0, 0), (0, share_CxF.shape[1] - s * t)))
    goal_CxE = np.pad(goal.lift_CxE, ((0, 0), (v, int(elastic))))
    price_F = np.r_[goal.price_F / size, np.zeros(len(used_U)), question.constraints.kl_weight / size]
    sign_PxX = np.eye(width)[width - elastic - goal.positive :]
    rows_LxX = np.zeros((len(body.limit_L) + len(sign_PxX), width))
    rows_LxX[: len(body.limit_L), : len(body.free_X)][:, body.free_X] = body.rows_LxF
    rows_LxX[len(body.limit_L) :] = -sign_PxX
    equal_QxX, equal_Q = _equalities(body, width)
    shared = {
        "pinned_X": np.r_[~body.free_X, np.zeros(e + elastic)].astype(float),
        "price_F": price_F,
        "slope_E": np.r_[np.zeros(v), goal.slope_E, np.full(int(elastic), excess_price)],
        "share_CxF": np.concatenate([goal_CxF, share_CxF]),
        "raise_CxE": np.concatenate([goal_CxE, lift_CxE]),
        "rows_LxX": rows_LxX,
        "limit_L": np.r_[body.limit_L, np.zeros(len(sign_PxX))],
        "equal_QxX": equal_QxX,
        "equal_Q": equal_Q,
        # A prior that does not pull may lack domains, from which the divergence would be infinite.
        "prior_K": question.prior_K if question.constraints.pulls else np.ones(len(fit.domains)),
    }
    return (
        Programme(
            start_X=np.zeros((b, width)),
            theta_FxP=np.concatenate([theta_BxSxTxP.reshape(b, s * t, p), kept_BxUxP], axis=1),
            level_C=np.concatenate([np.stack([g.limit_C for g in goals]) / size, level_BxC], axis=1),
            **{name: np.broadcast_to(x, (b, *x.shape)) for name, x in shared.items()},
            n=float(question.point.n_R[0]),
            d=float(question.point.d_R[0]),
            unique_K=question.point.u_RxK[0],
        ),
        Shape(len(goal.limit_C), names, e + elastic, elastic, (width, len(rows_LxX), len(goal_CxF) + len(names))),
    )


def _curved(question: Question, ceilings: Ceilings | None, used_U: np.ndarray, own: int, b: int):
    """Curved rows besides the goal's: shares of f (the first `own` are the goal's), levels, names."""
    f = own + len(used_U) + 1
    share_CxF, level_BxC, names = np.zeros((0, f)), np.zeros((b, 0)), ()
    if ceilings:
        share_CxF = np.zeros((len(ceilings.names), f))
        share_CxF[:, own:-1] = ceilings.share_CxT[:, used_U]
        level_BxC, names = np.broadcast_to(ceilings.limit_BxC, (b, len(share_CxF))), ceilings.names
    if (most := question.constraints.max_kl) is not None:
        share_CxF = np.concatenate([share_CxF, np.eye(f)[-1:]])
        level_BxC = np.concatenate([level_BxC, np.full((b, 1), max(most, HAIR))], axis=1)
        names = (*names, "max_kl")
    return share_CxF, level_BxC, names


def _equalities(body, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Equalities among what is free, and one for each number that is not."""
    pinned_N = np.flatnonzero(~body.free_X)
    rows_QxX = np.zeros((len(body.equal_Q), width))
    rows_QxX[:, np.flatnonzero(body.free_X)] = body.equal_QxF
    return np.concatenate([rows_QxX, np.eye(width)[pinned_N]]), np.r_[body.equal_Q, body.whole_X[pinned_N]]


def joined(batches: Sequence[Programme]) -> Programme:
    """One batch of them all, filled up to a common shape; what fills is never active."""
    k = len(batches[0].unique_K)
    size = {
        name: -(-max(getattr(p, field).shape[1] for p in batches) // FILL[name]) * FILL[name]
        for name, field in (("x", "start_X"), ("l", "limit_L"), ("c", "level_C"), ("q", "equal_Q"))
    }
    laws = -(-max(p.theta_FxP.shape[1] for p in batches) // FILL["laws"]) * FILL["laws"]
    filled = [_filled(p, size["x"], size["l"], size["c"], size["q"], laws, k) for p in batches]
    return Programme(
        *(np.concatenate(parts) for parts in zip(*(p[:-3] for p in filled), strict=True)), *batches[0][-3:]
    )


def _filled(p: Programme, x: int, l: int, c: int, q: int, laws: int, k: int) -> Programme:  # noqa: E741
    b, f = p.price_F.shape
    # Laws stand before the divergence, so that what fills goes between them.
    place_F = np.r_[np.arange(f - 1), laws]
    price_BxF, share_BxCxF = np.zeros((b, laws + 1)), np.zeros((b, c, laws + 1))
    price_BxF[:, place_F] = p.price_F
    share_BxCxF[:, : p.level_C.shape[1]][:, :, place_F] = p.share_CxF
    repeated_BxFxP = np.repeat(p.theta_FxP[:, :1], laws - (f - 1), axis=1)

    def wide(values, *shape, value=0.0):
        to = [(0, 0), *((0, n - m) for n, m in zip(shape, values.shape[1:], strict=True))]
        return np.pad(values, to, constant_values=value)

    return p._replace(
        start_X=wide(p.start_X, x), pinned_X=wide(p.pinned_X, x, value=1.0),
        theta_FxP=np.concatenate([p.theta_FxP, repeated_BxFxP], axis=1), price_F=price_BxF,
        slope_E=wide(p.slope_E, x - k),
        share_CxF=share_BxCxF, raise_CxE=wide(p.raise_CxE, c, x - k), level_C=wide(p.level_C, c, value=1.0),
        rows_LxX=wide(p.rows_LxX, l, x), limit_L=wide(p.limit_L, l, value=1.0),
        equal_QxX=wide(p.equal_QxX, q, x), equal_Q=wide(p.equal_Q, q),
    )  # fmt: skip


def cut(ends: Ends, at: slice, shape: Shape) -> Ends:
    """The ends of one of the joined batches, in its own shape."""
    x, linear, curved = shape.sizes
    return Ends(
        ends.x_BxX[at, :x], ends.multiplier_BxL[at, :linear], ends.multiplier_BxC[at, :curved], ends.converged_B[at]
    )
