"""The mixtures that keep all linear constraints: is there one, where is the middle, and if not, which contradict.

A point is `x = (h_K, v_V)`: the weights and, where a total variation distance is capped, how far each weight lies
above the prior's. Constraints that leave a weight no room are found and taken out, so that what remains has an
interior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr
from scipy.optimize import linprog

from mixscale.constraints import Constraints, Row, rows, ties
from mixscale.errors import InputError

EMPTY = 1e-9
"""Room below which an inequality is taken for an equality."""
NEAR = 1e-6
"""Room that the search for such inequalities asks of every row."""
ORDERS = 8
"""Orders in which the deletion filter is run; the smallest set it finds is named."""


@dataclass(frozen=True)
class Piece:
    """Rows over x that one constraint means: `rows_JxX · x <= limit_J`, or equal to it. Without a name: always kept.

    `bound` is the value that was asked for, if there was one, and `sign` the derivative of the limit by it.
    """

    name: str | None
    said: str
    rows_JxX: np.ndarray
    limit_J: np.ndarray
    equal: bool = False
    bound: float | None = None
    sign: float = 1.0


@dataclass(frozen=True)
class Polytope:
    """The linear constraints over the coordinates of x that are free, F of them.

    Attributes:
        free_X: whether a coordinate varies. whole_X: the values of those that do not, zeros elsewhere.
        rows_LxF, limit_L, piece_L: inequalities that have room, and what each belongs to.
        equal_QxF, equal_Q: equalities, of full rank.
        centre_F: a point inside of all inequalities.
        held_NxX, held_N: all rows that hold with equality wherever everything is kept, for their prices.
        pieces: everything that was asked for. prior_K: from which v is counted.
    """

    domains: tuple[str, ...]
    free_X: np.ndarray
    whole_X: np.ndarray
    rows_LxF: np.ndarray
    limit_L: np.ndarray
    piece_L: tuple[Piece, ...]
    equal_QxF: np.ndarray
    equal_Q: np.ndarray
    centre_F: np.ndarray
    held_NxX: np.ndarray
    held_N: tuple[Piece, ...]
    pieces: tuple[Piece, ...]
    prior_K: np.ndarray | None

    @property
    def lift_KxF(self) -> np.ndarray:
        """`h = lift_KxF · x_F + whole_K`."""
        return np.eye(len(self.free_X))[: len(self.domains), self.free_X]

    @property
    def whole_K(self) -> np.ndarray:
        return self.whole_X[: len(self.domains)]

    def free(self, h_QxK: np.ndarray) -> np.ndarray:
        """Free coordinates of mixtures, shape (Q, F)."""
        return self._whole(h_QxK)[:, self.free_X]

    def mixtures(self, x_QxF: np.ndarray) -> np.ndarray:
        return x_QxF @ self.lift_KxF.T + self.whole_K

    def inside(self, h_QxK: np.ndarray, share: float = 1.0) -> np.ndarray:
        """Each mixture pulled towards the centre until it keeps everything, shape (Q, F).

        Args:
            share: how far to go from the centre towards the first constraint met; below 1 stays inside.
        """
        x_QxF = self.free(h_QxK)
        if len(self.equal_Q) and x_QxF.size:
            miss_QxQ = x_QxF @ self.equal_QxF.T - self.equal_Q
            x_QxF = x_QxF - miss_QxQ @ np.linalg.pinv(self.equal_QxF).T
        way_QxF = x_QxF - self.centre_F
        use_QxL = way_QxF @ self.rows_LxF.T
        room_L = self.limit_L - self.rows_LxF @ self.centre_F
        with np.errstate(divide="ignore"):
            reach_QxL = np.where(use_QxL > 1e-15, room_L / np.maximum(use_QxL, 1e-300), np.inf)
        length_Qx1 = share * np.minimum(1.0, reach_QxL.min(axis=1, initial=np.inf))[:, None]
        return self.centre_F + length_Qx1 * way_QxF

    def broken(self, h_K: np.ndarray, tolerance: float = 1e-6) -> list[str]:
        """The constraints, in words, that a mixture does not keep."""
        x_X = self._whole(h_K[None])[0]
        told = {}
        for piece in self.pieces:
            miss_J = piece.rows_JxX @ x_X - piece.limit_J
            if piece.name and (np.abs(miss_J) if piece.equal else miss_J).max(initial=0.0) > tolerance:
                told[piece.name] = piece.said
        return list(told.values())

    def _whole(self, h_QxK: np.ndarray) -> np.ndarray:
        if len(self.free_X) == len(self.domains):
            return h_QxK
        return np.concatenate([h_QxK, np.maximum(h_QxK - self.prior_K, 0)], axis=1)


def polytope(
    constraints: Constraints,
    domains: Sequence[str],
    n_tokens: float | None,
    prior_K: np.ndarray | None,
    current_K: np.ndarray | None,
    unknown: Sequence[str] = (),
) -> Polytope:
    """The mixtures that keep the linear constraints.

    Args:
        unknown: domains that must have no weight, because nothing is known of them.

    Raises:
        InputError: there is none; the message names a smallest set of constraints that contradict each other.
    """
    pieces = _pieces(constraints, domains, n_tokens, prior_K, current_K, unknown)
    rows_LxX, limit_L, piece_L = _stacked([p for p in pieces if not p.equal])
    equal_QxX, equal_Q, held_Q = _stacked([p for p in pieces if p.equal])
    room, _ = _widest(rows_LxX, limit_L, equal_QxX, equal_Q)
    if room < -EMPTY:
        raise contradiction(pieces)
    tight_L = np.zeros(len(limit_L), dtype=bool)
    if room < 10 * EMPTY:
        tight_L = _without_room(rows_LxX, limit_L, equal_QxX, equal_Q)
        equal_QxX = np.concatenate([equal_QxX, rows_LxX[tight_L]])
        equal_Q = np.concatenate([equal_Q, limit_L[tight_L]])
    held = (*held_Q, *(p for p, tight in zip(piece_L, tight_L, strict=True) if tight))
    free_X, whole_X = _settled(equal_QxX, equal_Q)
    left_QxF, left_Q = _independent(equal_QxX[:, free_X], equal_Q - equal_QxX @ whole_X)
    kept_L = ~tight_L & (np.abs(rows_LxX[:, free_X]).max(axis=1, initial=0.0) > 0)
    rows_LxF, limit_L = rows_LxX[kept_L][:, free_X], (limit_L - rows_LxX @ whole_X)[kept_L]
    centre_F = _widest(rows_LxF, limit_L, left_QxF, left_Q)[1] if free_X.any() else np.zeros(0)
    piece_L = tuple(p for p, kept in zip(piece_L, kept_L, strict=True) if kept)
    return Polytope(
        tuple(domains), free_X, whole_X, rows_LxF, limit_L, piece_L, left_QxF, left_Q, centre_F, equal_QxX, held,
        tuple(pieces), prior_K,
    )  # fmt: skip


def contradiction(pieces: Sequence[Piece]) -> InputError:
    """The error that names a smallest set of pieces that no mixture can keep together.

    A deletion filter (Chinneck and Dravnieks 1991) in several orders: what can be left out without the rest becoming
    possible is left out for good, so that of what remains every single one is needed for the contradiction.
    """
    names = list(dict.fromkeys(p.name for p in pieces if p.name))
    rng = np.random.default_rng(0)
    found = min((_filtered(pieces, list(rng.permutation(names))) for _ in range(ORDERS)), key=len)
    said = list(dict.fromkeys(p.said for p in pieces if p.name in found))
    if len(said) == 1:
        return InputError(f"no mixture keeps '{said[0]}'; loosen it")
    return InputError(
        f"constraints contradict each other: no mixture keeps all of: {'; '.join(said)}; loosen one of them"
    )


def _filtered(pieces: Sequence[Piece], order: list[str]) -> set[str]:
    kept = set(order)
    for name in order:
        if not possible([p for p in pieces if p.name is None or p.name in kept - {name}]):
            kept.discard(name)
    return kept


def possible(pieces: Sequence[Piece]) -> bool:
    """Whether some x keeps all pieces."""
    rows_LxX, limit_L, _ = _stacked([p for p in pieces if not p.equal])
    equal_QxX, equal_Q, _ = _stacked([p for p in pieces if p.equal])
    return _widest(rows_LxX, limit_L, equal_QxX, equal_Q)[0] >= -EMPTY


def _pieces(constraints, domains, n_tokens, prior_K, current_K, unknown) -> list[Piece]:
    """All linear constraints over x; the simplex first."""
    k = len(domains)
    v = 0 if constraints.max_tv is None else k
    eye_XxX = np.eye(k + v)
    pieces = [
        Piece(None, "weights sum to one", np.r_[np.ones(k), np.zeros(v)][None], np.ones(1), equal=True),
        Piece(None, "weights are not negative", -eye_XxX, np.zeros(k + v)),
    ]
    for row in rows(constraints, domains, n_tokens):
        pieces.append(_piece(row, v))
    # Ties follow the prior where there is one: it says what proportions ought to be, the current ones what they are.
    model_K = current_K if prior_K is None else prior_K
    for name, rows_JxK in ties(constraints, domains, model_K).items():
        wide_JxX = np.pad(rows_JxK, ((0, 0), (0, v)))
        listed = ", ".join(constraints.groups[name.removeprefix("tie ")].domains)
        said = f"{name} ({listed})"
        pieces.append(Piece(name, said, wide_JxX, np.zeros(len(rows_JxK)), equal=True, bound=0.0))
    for domain in unknown:
        one_1xX = eye_XxX[[list(domains).index(domain)]]
        pieces.append(
            Piece(f"unused {domain}", f"nothing of {domain}, which no fitted run used", one_1xX, np.zeros(1))
        )
    if constraints.pulls:
        absent_JxX = eye_XxX[:k][prior_K == 0]
        names = ", ".join(d for d, p in zip(domains, prior_K, strict=True) if p == 0)
        if len(absent_JxX):
            pieces.append(
                Piece("prior", f"nothing of {names}, as in the prior", absent_JxX, np.zeros(len(absent_JxX)))
            )
    if v:
        pieces.append(Piece(None, "v is what lies above the prior", eye_XxX[:k] - eye_XxX[k:], prior_K))
        total_1xX = np.r_[np.zeros(k), np.ones(v)][None]
        said = f"max_tv {constraints.max_tv:.4g}"
        pieces.append(Piece("max_tv", said, total_1xX, np.array([constraints.max_tv]), bound=constraints.max_tv))
    return pieces


def _piece(row: Row, v: int) -> Piece:
    coefficient_1xX = np.pad(row.coefficient_K, (0, v))[None]
    return Piece(row.name, row.said, coefficient_1xX, np.array([row.limit]), bound=row.bound, sign=row.sign)


def _stacked(pieces: Sequence[Piece]) -> tuple[np.ndarray, np.ndarray, list[Piece]]:
    return (
        np.concatenate([p.rows_JxX for p in pieces]),
        np.concatenate([p.limit_J for p in pieces]),
        [p for p in pieces for _ in p.limit_J],
    )


def _linear_programme(price_X, rows_LxX, limit_L, equal_QxX, equal_Q, span=(None, None)):
    result = linprog(
        price_X, rows_LxX, limit_L, equal_QxX if len(equal_QxX) else None, equal_Q if len(equal_Q) else None, span,
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )  # fmt: skip
    return result.x


def _widest(rows_LxX, limit_L, equal_QxX, equal_Q) -> tuple[float, np.ndarray]:
    """The point whose least room to any inequality is greatest, and that room (negative: there is no such point)."""
    wide_LxY = np.column_stack([rows_LxX, np.ones(len(limit_L))])
    price_Y = np.r_[np.zeros(rows_LxX.shape[1]), -1.0]
    cap_Y = np.r_[np.zeros(rows_LxX.shape[1]), 1.0]
    x_Y = _linear_programme(
        price_Y, np.vstack([wide_LxY, cap_Y]), np.r_[limit_L, 1.0], np.pad(equal_QxX, ((0, 0), (0, 1))), equal_Q
    )
    # Equalities alone may be impossible, which the room cannot make up for.
    return (-np.inf, np.zeros(rows_LxX.shape[1])) if x_Y is None else (float(x_Y[-1]), x_Y[:-1])


def _without_room(rows_LxX, limit_L, equal_QxX, equal_Q) -> np.ndarray:
    """Which inequalities hold with equality wherever all are kept, shape (L,)."""
    count, width = rows_LxX.shape
    wide_LxY = np.column_stack([rows_LxX, np.eye(count)])
    price_Y = np.r_[np.zeros(width), -np.ones(count)]
    span = [(None, None)] * width + [(0, NEAR)] * count
    x_Y = _linear_programme(price_Y, wide_LxY, limit_L + EMPTY, np.pad(equal_QxX, ((0, 0), (0, count))), equal_Q, span)
    return x_Y[width:] < 5 * EMPTY


def _settled(equal_QxX: np.ndarray, equal_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which coordinates the equalities leave free, and the values of the others."""
    free_X, whole_X = np.ones(equal_QxX.shape[1], dtype=bool), np.zeros(equal_QxX.shape[1])
    while True:
        left_QxX = np.where(free_X & (np.abs(equal_QxX) > 1e-12), equal_QxX, 0.0)
        single_Q = (left_QxX != 0).sum(axis=1) == 1
        if not single_Q.any():
            break
        q = int(np.argmax(single_Q))
        x = int(np.argmax(left_QxX[q] != 0))
        whole_X[x] = max((equal_Q[q] - equal_QxX[q] @ whole_X) / equal_QxX[q, x], 0.0)
        free_X[x] = False
    if free_X.any() and np.linalg.matrix_rank(equal_QxX[:, free_X]) == free_X.sum():
        whole_X[free_X] = np.linalg.lstsq(equal_QxX[:, free_X], equal_Q - equal_QxX @ whole_X, rcond=None)[0]
        free_X[:] = False
    return free_X, whole_X


def _independent(equal_QxF: np.ndarray, equal_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As many of the equalities as are independent of each other."""
    if not equal_QxF.shape[1]:
        return equal_QxF[:0], equal_Q[:0]
    _, triangle, order = qr(equal_QxF.T, mode="economic", pivoting=True)
    rank = int((np.abs(np.diag(triangle)) > 1e-10).sum())
    return equal_QxF[order[:rank]], equal_Q[order[:rank]]
