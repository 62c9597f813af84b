"""The mixtures that satisfy all linear constraints: whether there are any, a centre, constraints that contradict.

A point is `x = (h_K, v_V)`: the weights and, if a total variation distance is limited, the excess of each weight over
the prior. Inequalities that no mixture satisfies strictly become equalities, so that the others have an interior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

from mixscale.constraints import Constraint, Linear
from mixscale.errors import InputError

FEASIBILITY_TOL = 1e-9  # an inequality with less slack counts as an equality
SEARCH_SLACK = 1e-6  # slack of every row in the search for such inequalities
ORDERS = 8  # orders in which the deletion filter runs; the smallest set it finds is named


class Rows(NamedTuple):
    """`rows_JxX · x <= limit_J`, or equal to it, of one constraint; the simplex has no owner."""

    owner: Constraint | None
    rows_JxX: np.ndarray
    limit_J: np.ndarray
    equal: bool = False


@dataclass(frozen=True)
class Polytope:
    """Mixtures that satisfy linear constraints."""

    all_rows: list[Rows]  # of every constraint and of the simplex
    above_K: np.ndarray | None  # the prior that v refers to, None without v
    rows_LxX: np.ndarray  # inequalities with slack
    limit_L: np.ndarray
    owner_L: tuple[Constraint | None, ...]
    equal_QxX: np.ndarray  # independent equalities
    equal_Q: np.ndarray
    pinned_X: np.ndarray  # coordinates that the equalities determine
    centre_X: np.ndarray  # strictly feasible
    held_NxX: np.ndarray  # all rows that hold with equality at every feasible point
    held_N: tuple[Rows, ...]  # whose they are

    def inside(self, h_QxK: np.ndarray, share: float = 1.0) -> np.ndarray:
        """Each mixture moved towards the centre until it is feasible, shape (Q, X); with `share` < 1, strictly."""
        x_QxX = h_QxK
        if self.above_K is not None:
            x_QxX = np.concatenate([h_QxK, np.maximum(h_QxK - self.above_K, 0)], axis=1)
        x_QxX = x_QxX - (x_QxX @ self.equal_QxX.T - self.equal_Q) @ np.linalg.pinv(self.equal_QxX).T
        way_QxX = x_QxX - self.centre_X
        use_QxL = way_QxX @ self.rows_LxX.T
        slack_L = self.limit_L - self.rows_LxX @ self.centre_X
        with np.errstate(divide="ignore"):
            reach_QxL = np.where(use_QxL > 1e-15, slack_L / np.maximum(use_QxL, 1e-300), np.inf)
        return self.centre_X + share * np.minimum(1.0, reach_QxL.min(axis=1, initial=np.inf))[:, None] * way_QxX

    def projected(self, x_X: np.ndarray, held_L: np.ndarray) -> np.ndarray:
        """The nearest point on the equalities and on the inequalities `held_L`."""
        rows_HxX = np.concatenate([self.equal_QxX, self.rows_LxX[held_L]])
        limit_H = np.r_[self.equal_Q, self.limit_L[held_L]]
        return x_X + np.linalg.lstsq(rows_HxX, limit_H - rows_HxX @ x_X, rcond=1e-10)[0]


def polytope(linear: Sequence[Linear], domains: int) -> Polytope:
    """The mixtures that satisfy linear constraints; if there are none, an InputError by `contradiction`."""
    above_K = next((c.above_K for c in linear if c.above_K is not None), None)
    all_rows = _all_rows(linear, domains, above_K)
    (rows_LxX, limit_L, owner_L), (equal_QxX, equal_Q, held_Q) = _stacked(all_rows)
    slack, _ = _widest(rows_LxX, limit_L, equal_QxX, equal_Q)
    if slack < -FEASIBILITY_TOL:
        raise contradiction(all_rows)
    tight_L = np.zeros(len(limit_L), dtype=bool)
    if slack < 10 * FEASIBILITY_TOL:
        tight_L = _without_slack(rows_LxX, limit_L, equal_QxX, equal_Q)
        equal_QxX = np.concatenate([equal_QxX, rows_LxX[tight_L]])
        equal_Q = np.concatenate([equal_Q, limit_L[tight_L]])
    held_N = (*held_Q, *(r for r, tight in zip(owner_L, tight_L, strict=True) if tight))
    left_QxX, left_Q, pinned_X = _independent(equal_QxX, equal_Q)
    kept_L = ~tight_L & (np.abs(rows_LxX[:, ~pinned_X]).max(axis=1, initial=0.0) > 0)
    centre_X = _widest(rows_LxX[kept_L], limit_L[kept_L], left_QxX, left_Q)[1]
    centre_X[pinned_X] = left_Q[: pinned_X.sum()]
    kept = tuple(r.owner for r, kept in zip(owner_L, kept_L, strict=True) if kept)
    return Polytope(
        all_rows, above_K, rows_LxX[kept_L], limit_L[kept_L], kept, left_QxX, left_Q, pinned_X, centre_X, equal_QxX,
        held_N,
    )  # fmt: skip


def contradiction(rows: Sequence[Rows]) -> InputError:
    """The error that names a smallest set of constraints that no mixture satisfies together.

    A deletion filter (Chinneck and Dravnieks 1991): it drops every constraint without which the others still
    contradict each other.
    """
    owners = {r.owner.name: r.owner for r in rows if r.owner is not None}
    rng = np.random.default_rng(0)
    found = min((_filtered(rows, list(rng.permutation(list(owners)))) for _ in range(ORDERS)), key=len)
    texts = [owner.description for name, owner in owners.items() if name in found]
    if len(texts) == 1:
        return InputError(f"no mixture satisfies the constraint '{texts[0]}'; loosen it")
    return InputError(
        f"constraints contradict each other: no mixture satisfies all of: {'; '.join(texts)}; loosen one of them"
    )


def _filtered(rows: Sequence[Rows], order: list[str]) -> set[str]:
    kept = set(order)
    for name in order:
        inequalities, equalities = _stacked([r for r in rows if r.owner is None or r.owner.name in kept - {name}])
        if _widest(*inequalities[:2], *equalities[:2])[0] < -FEASIBILITY_TOL:
            kept.discard(name)
    return kept


def _all_rows(linear: Sequence[Linear], k: int, above_K: np.ndarray | None) -> list[Rows]:
    """Rows over x; those of the simplex first."""
    v = 0 if above_K is None else k
    eye_XxX = np.eye(k + v)
    rows = [Rows(None, np.r_[np.ones(k), np.zeros(v)][None], np.ones(1), equal=True),
            Rows(None, -eye_XxX, np.zeros(k + v))]  # fmt: skip
    for c in linear:
        of_v_JxV = np.full((len(c.limit_J), v), float(c.above_K is not None))
        rows.append(Rows(c, np.concatenate([c.rows_JxK, of_v_JxV], axis=1), c.limit_J, c.equal))
    if above_K is not None:
        rows.append(Rows(None, eye_XxX[:k] - eye_XxX[k:], above_K))
    return rows


def _stacked(rows: Sequence[Rows]) -> list[tuple[np.ndarray, np.ndarray, list[Rows]]]:
    """The inequalities, then the equalities: coefficients, limits and the `Rows` of each."""
    kinds = ([r for r in rows if r.equal == equal] for equal in (False, True))
    return [
        (np.concatenate([r.rows_JxX for r in kind]), np.concatenate([r.limit_J for r in kind]),
         [r for r in kind for _ in r.limit_J])
        for kind in kinds
    ]  # fmt: skip


def _linear_program(coef_X, rows_LxX, limit_L, equal_QxX, equal_Q, span=(None, None)):
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    return linprog(coef_X, rows_LxX, limit_L, equal_QxX, equal_Q, span, options=options).x


def _widest(rows_LxX, limit_L, equal_QxX, equal_Q) -> tuple[float, np.ndarray]:
    """The greatest least slack of the inequalities (negative: infeasible), and a point that has it."""
    width = rows_LxX.shape[1]
    wide_LxY = np.column_stack([rows_LxX, np.ones(len(limit_L))])
    cap_Y = np.r_[np.zeros(width), 1.0]
    x_Y = _linear_program(
        -cap_Y, np.vstack([wide_LxY, cap_Y]), np.r_[limit_L, 1.0], np.pad(equal_QxX, ((0, 0), (0, 1))), equal_Q
    )
    # The equalities alone may be infeasible.
    return (-np.inf, np.zeros(width)) if x_Y is None else (float(x_Y[-1]), x_Y[:-1])


def _without_slack(rows_LxX, limit_L, equal_QxX, equal_Q) -> np.ndarray:
    """Which inequalities hold with equality at every feasible point, shape (L,)."""
    count, width = rows_LxX.shape
    wide_LxY = np.column_stack([rows_LxX, np.eye(count)])
    coef_Y = np.r_[np.zeros(width), -np.ones(count)]
    span = [(None, None)] * width + [(0, SEARCH_SLACK)] * count
    padded_QxY = np.pad(equal_QxX, ((0, 0), (0, count)))
    x_Y = _linear_program(coef_Y, wide_LxY, limit_L + FEASIBILITY_TOL, padded_QxY, equal_Q, span)
    return x_Y[width:] < 5 * FEASIBILITY_TOL


def _independent(equal_QxX: np.ndarray, equal_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Independent equalities with the same solutions, those of single coordinates first, and which these are."""
    _, size_Q, along_XxX = np.linalg.svd(equal_QxX)
    null_NxX = along_XxX[int((size_Q > 1e-10 * size_Q[0]).sum()) :]
    pinned_X = np.abs(null_NxX).max(axis=0, initial=0.0) < 1e-9
    whole_X = np.linalg.lstsq(equal_QxX, equal_Q, rcond=1e-10)[0]
    whole_X = np.where(np.abs(whole_X) < 1e-12, 0.0, whole_X)
    _, size_Q, along_XxX = np.linalg.svd(np.where(pinned_X, 0.0, equal_QxX))
    others_QxX = along_XxX[: int((size_Q > 1e-10).sum())]
    rows_QxX = np.concatenate([np.eye(len(pinned_X))[pinned_X], others_QxX])
    return rows_QxX, np.r_[whole_X[pinned_X], others_QxX @ whole_X], pinned_X
