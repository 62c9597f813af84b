"""The mixtures that satisfy all linear constraints: are there any, where is the centre, which constraints contradict.

A point is `x = (h_K, v_V)`: the weights and, if a total variation distance is limited, how far each weight lies above
the prior's. Inequalities that no mixture satisfies strictly become equalities, so that what remains has an interior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

from mixscale.constraints import Constraint, Linear
from mixscale.errors import InputError

FEASIBILITY_TOL = 1e-9
"""Room below which an inequality counts as an equality."""
ASKED_ROOM = 1e-6
"""Room that the search for such inequalities asks of every row."""
ORDERS = 8
"""Orders in which the deletion filter runs; the smallest set it finds is named."""


class Rows(NamedTuple):
    """`rows_JxX · x <= limit_J`, or equal to it, of one constraint; those of the simplex have no owner."""

    owner: Constraint | None
    rows_JxX: np.ndarray
    limit_J: np.ndarray
    equal: bool = False


@dataclass(frozen=True)
class Polytope:
    """Mixtures that satisfy linear constraints.

    Attributes:
        all_rows: of every constraint and of the simplex. above_K: what v is measured from, None without v.
        rows_LxX, limit_L, owner_L: inequalities that have room.
        equal_QxX, equal_Q: independent equalities. pinned_X: which coordinates they determine.
        centre_X: a point inside of all inequalities.
        held_NxX, held_N: all rows that hold with equality wherever all constraints do, for dual values, and owners.
    """

    all_rows: tuple[Rows, ...]
    above_K: np.ndarray | None
    rows_LxX: np.ndarray
    limit_L: np.ndarray
    owner_L: tuple[Constraint | None, ...]
    equal_QxX: np.ndarray
    equal_Q: np.ndarray
    pinned_X: np.ndarray
    centre_X: np.ndarray
    held_NxX: np.ndarray
    held_N: tuple[Rows, ...]

    def inside(self, h_QxK: np.ndarray, share: float = 1.0) -> np.ndarray:
        """Each mixture moved towards the centre until it satisfies everything, shape (Q, X).

        Args:
            share: how far to go from the centre towards the first constraint met; below 1 stays inside.
        """
        x_QxX = h_QxK
        if self.above_K is not None:
            x_QxX = np.concatenate([h_QxK, np.maximum(h_QxK - self.above_K, 0)], axis=1)
        x_QxX = x_QxX - (x_QxX @ self.equal_QxX.T - self.equal_Q) @ np.linalg.pinv(self.equal_QxX).T
        way_QxX = x_QxX - self.centre_X
        use_QxL = way_QxX @ self.rows_LxX.T
        room_L = self.limit_L - self.rows_LxX @ self.centre_X
        with np.errstate(divide="ignore"):
            reach_QxL = np.where(use_QxL > 1e-15, room_L / np.maximum(use_QxL, 1e-300), np.inf)
        return self.centre_X + share * np.minimum(1.0, reach_QxL.min(axis=1, initial=np.inf))[:, None] * way_QxX

    def projected(self, x_X: np.ndarray, held_L: np.ndarray) -> np.ndarray:
        """The nearest point on the equalities and on the inequalities `held_L`."""
        rows_HxX = np.concatenate([self.equal_QxX, self.rows_LxX[held_L]])
        limit_H = np.r_[self.equal_Q, self.limit_L[held_L]]
        return x_X + np.linalg.lstsq(rows_HxX, limit_H - rows_HxX @ x_X, rcond=1e-10)[0]


def polytope(linear: Sequence[Linear], domains: int) -> Polytope:
    """The mixtures that satisfy linear constraints.

    Raises:
        InputError: there is none; the message names a smallest set of constraints that contradict each other.
    """
    above_K = next((c.above_K for c in linear if c.above_K is not None), None)
    all_rows = _all_rows(linear, domains, above_K)
    rows_LxX, limit_L, owner_L = _stacked([r for r in all_rows if not r.equal])
    equal_QxX, equal_Q, held_Q = _stacked([r for r in all_rows if r.equal])
    room, _ = _widest(rows_LxX, limit_L, equal_QxX, equal_Q)
    if room < -FEASIBILITY_TOL:
        raise contradiction(all_rows)
    tight_L = np.zeros(len(limit_L), dtype=bool)
    if room < 10 * FEASIBILITY_TOL:
        tight_L = _without_room(rows_LxX, limit_L, equal_QxX, equal_Q)
        equal_QxX = np.concatenate([equal_QxX, rows_LxX[tight_L]])
        equal_Q = np.concatenate([equal_Q, limit_L[tight_L]])
    held_N = (*held_Q, *(r for r, tight in zip(owner_L, tight_L, strict=True) if tight))
    left_QxX, left_Q, pinned_X = _independent(equal_QxX, equal_Q)
    kept_L = ~tight_L & (np.abs(rows_LxX[:, ~pinned_X]).max(axis=1, initial=0.0) > 0)
    centre_X = _widest(rows_LxX[kept_L], limit_L[kept_L], left_QxX, left_Q)[1]
    centre_X[pinned_X] = left_Q[: pinned_X.sum()]
    kept = tuple(r.owner for r, kept in zip(owner_L, kept_L, strict=True) if kept)
    return Polytope(
        tuple(all_rows), above_K, rows_LxX[kept_L], limit_L[kept_L], kept, left_QxX, left_Q, pinned_X, centre_X,
        equal_QxX, held_N,
    )  # fmt: skip


def contradiction(rows: Sequence[Rows]) -> InputError:
    """The error that names a smallest set of constraints that no mixture satisfies together.

    A deletion filter (Chinneck and Dravnieks 1991) in several orders: what can be left out without the rest becoming
    possible is left out for good, so that of what remains every single one is needed for the contradiction.
    """
    owners = {r.owner.name: r.owner for r in rows if r.owner is not None}
    rng = np.random.default_rng(0)
    found = min((_filtered(rows, list(rng.permutation(list(owners)))) for _ in range(ORDERS)), key=len)
    texts = [owner.describe() for name, owner in owners.items() if name in found]
    if len(texts) == 1:
        return InputError(f"no mixture satisfies the constraint '{texts[0]}'; loosen it")
    return InputError(
        f"constraints contradict each other: no mixture satisfies all of: {'; '.join(texts)}; loosen one of them"
    )


def _filtered(rows: Sequence[Rows], order: list[str]) -> set[str]:
    kept = set(order)
    for name in order:
        left = [r for r in rows if r.owner is None or r.owner.name in kept - {name}]
        inequalities, equalities = _stacked([r for r in left if not r.equal]), _stacked([r for r in left if r.equal])
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
        excess_JxV = np.zeros((len(c.limit_J), v)) if c.excess_JxK is None else c.excess_JxK
        rows.append(Rows(c, np.concatenate([c.rows_JxK, excess_JxV], axis=1), c.limit_J, c.equal))
    if above_K is not None:
        rows.append(Rows(None, eye_XxX[:k] - eye_XxX[k:], above_K))
    return rows


def _stacked(rows: Sequence[Rows]) -> tuple[np.ndarray, np.ndarray, list[Rows]]:
    return (
        np.concatenate([r.rows_JxX for r in rows]),
        np.concatenate([r.limit_J for r in rows]),
        [r for r in rows for _ in r.limit_J],
    )


def _linear_program(price_X, rows_LxX, limit_L, equal_QxX, equal_Q, span=(None, None)):
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    return linprog(price_X, rows_LxX, limit_L, equal_QxX, equal_Q, span, options=options).x


def _widest(rows_LxX, limit_L, equal_QxX, equal_Q) -> tuple[float, np.ndarray]:
    """The point whose least room to any inequality is greatest, and that room (negative: there is no such point)."""
    wide_LxY = np.column_stack([rows_LxX, np.ones(len(limit_L))])
    price_Y = np.r_[np.zeros(rows_LxX.shape[1]), -1.0]
    cap_Y = np.r_[np.zeros(rows_LxX.shape[1]), 1.0]
    x_Y = _linear_program(
        price_Y, np.vstack([wide_LxY, cap_Y]), np.r_[limit_L, 1.0], np.pad(equal_QxX, ((0, 0), (0, 1))), equal_Q
    )
    # Equalities alone may be impossible, which no room can make up for.
    return (-np.inf, np.zeros(rows_LxX.shape[1])) if x_Y is None else (float(x_Y[-1]), x_Y[:-1])


def _without_room(rows_LxX, limit_L, equal_QxX, equal_Q) -> np.ndarray:
    """Which inequalities hold with equality wherever all are satisfied, shape (L,)."""
    count, width = rows_LxX.shape
    wide_LxY = np.column_stack([rows_LxX, np.eye(count)])
    price_Y = np.r_[np.zeros(width), -np.ones(count)]
    span = [(None, None)] * width + [(0, ASKED_ROOM)] * count
    padded_QxY = np.pad(equal_QxX, ((0, 0), (0, count)))
    x_Y = _linear_program(price_Y, wide_LxY, limit_L + FEASIBILITY_TOL, padded_QxY, equal_Q, span)
    return x_Y[width:] < 5 * FEASIBILITY_TOL


def _independent(equal_QxX: np.ndarray, equal_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Independent equalities with the same solutions: a row for each coordinate that they determine, then the rest."""
    _, size_Q, along_XxX = np.linalg.svd(equal_QxX)
    null_NxX = along_XxX[int((size_Q > 1e-10 * size_Q[0]).sum()) :]
    pinned_X = np.abs(null_NxX).max(axis=0, initial=0.0) < 1e-9
    whole_X = np.linalg.lstsq(equal_QxX, equal_Q, rcond=1e-10)[0]
    whole_X = np.where(np.abs(whole_X) < 1e-12, 0.0, whole_X)
    _, size_Q, along_XxX = np.linalg.svd(np.where(pinned_X, 0.0, equal_QxX))
    rest_QxX = along_XxX[: int((size_Q > 1e-10).sum())]
    rows_QxX = np.concatenate([np.eye(len(pinned_X))[pinned_X], rest_QxX])
    return rows_QxX, np.r_[whole_X[pinned_X], rest_QxX @ whole_X], pinned_X
