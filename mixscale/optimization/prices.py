"""Shadow prices: what one more unit of each constraint is worth, in loss and in tokens.

By the envelope theorem the derivative of the optimal value by a bound is the bound's multiplier (Boyd and
Vandenberghe 2004, §5.6). The multipliers of inequalities come from the solver, those of equalities from the gradient
that they hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixscale.optimization.answer import Answer
from mixscale.optimization.question import Question
from mixscale.optimization.solver import Programme, slopes

NOTHING = 1e-7
"""A multiplier below this, in typical losses a unit, is the barrier's and not the constraint's."""
NUDGE = 1e-4
"""Relative change of D by which the worth of tokens is measured."""
POINT = 0.01
"""Of weight, distance or divergence, for which a price is printed."""


@dataclass(frozen=True)
class Price:
    """What a constraint costs.

    Attributes:
        name: of the constraint, as in `upper code`. said: with its value. bound: the value it was given.
        per_unit: derivative of the optimal goal by `bound`: negative where raising the bound helps, zero where the
            constraint does not hold the optimum. The unit is 1 for weights and distances, nats for a divergence, the
            target's own for `keep`.
        tokens: how many more tokens would, at this mixture, save what one hundredth of a unit in the better direction
            saves; to first order. None where the law does not know what tokens are worth.
        text: for available text, derivative by a unique token: what it is worth under the cap on epochs, and to a law
            that counts repeats because less is read again. Limits of targets to keep stay where they are.
    """

    name: str
    said: str
    bound: float
    per_unit: float
    tokens: float | None = None
    text: float | None = None

    @property
    def binding(self) -> bool:
        return self.per_unit != 0


def prices(question: Question, found: Answer) -> tuple[Price, ...]:
    """The price of every named constraint at the first problem of an answer, in the order they were asked for."""
    one = found.batch.part(0)
    body, shape = question.polytope, found.shape
    multiplier_C = found.multiplier_BxC[0]
    multiplier_L = found.multiplier_BxL[0][: len(body.piece_L)]
    weight_F = one.price_F + multiplier_C @ one.share_CxF
    gradient_K = weight_F @ slopes(question.fit.family, one, found.h_BxK[0])[1]
    slope_by = _linear(question, gradient_K, multiplier_L)
    curved_C = multiplier_C[shape.goal_rows :]
    slope_by |= {name: -m for name, m in zip(shape.curved_names, curved_C, strict=True)}
    of_token = _of_token(question, one, shape, multiplier_C, found.h_BxK[0])
    of_text = _of_text(question, one, weight_F, found.h_BxK[0])
    return tuple(
        _price(question, name, said, bound, slope_by.get(name, 0.0) / unit, of_token, of_text)
        for name, said, bound, unit in _asked(question)
    )


def _asked(question: Question) -> list[tuple[str, str, float, float]]:
    """Every constraint that has a value: name, words, value, and how many of its units make one of the programme's."""
    asked = {p.name: (p.said, p.bound, 1.0) for p in question.polytope.pieces if p.name and p.bound is not None}
    if ceilings := question.ceilings:
        asked |= dict(
            zip(ceilings.names, zip(ceilings.said, ceilings.bounds, ceilings.unit_C, strict=True), strict=True)
        )
    if (most := question.constraints.max_kl) is not None:
        asked["max_kl"] = (f"max_kl {most:.4g}", most, 1.0)
    return [(name, *rest) for name, rest in asked.items()]


def _linear(question: Question, gradient_K: np.ndarray, multiplier_L: np.ndarray) -> dict[str, float]:
    """Derivative of the optimal value by the bound of every linear constraint, in typical losses."""
    body = question.polytope
    slope_by: dict[str, float] = {}
    for piece, multiplier in zip(body.piece_L, multiplier_L, strict=True):
        slope_by[piece.name] = slope_by.get(piece.name, 0.0) - piece.sign * multiplier
    wide_LxX = np.zeros((len(multiplier_L), len(body.free_X)))
    wide_LxX[:, body.free_X] = body.rows_LxF
    pulled_X = np.r_[gradient_K, np.zeros(len(body.free_X) - len(gradient_K))] + wide_LxX.T @ multiplier_L
    # A weight that its own constraint holds at zero is held by non-negativity as well, which has no price.
    told_N = np.array([p.name is not None or p.equal for p in body.held_N])
    owned_X = (
        np.abs(body.held_NxX[told_N & (np.count_nonzero(body.held_NxX, axis=1) == 1)]).max(axis=0, initial=0.0) > 0
    )
    alone_N = told_N | ~(np.abs(body.held_NxX) @ owned_X.astype(float) > 0)
    rows_NxX, pieces = body.held_NxX[alone_N], [p for p, kept in zip(body.held_N, alone_N, strict=True) if kept]
    multiplier_N = -np.linalg.lstsq(rows_NxX.T, pulled_X, rcond=1e-10)[0]
    for piece, multiplier in zip(pieces, multiplier_N, strict=True):
        slope_by[piece.name] = slope_by.get(piece.name, 0.0) - piece.sign * multiplier
    for name in {p.name for p in pieces if p.name and p.name.startswith("tie ")}:
        # What holds the members together is how much they would gain apart: from the dearest to the cheapest.
        tied_N = np.array([p.name == name for p in pieces])
        apart_X = rows_NxX[tied_N].T @ multiplier_N[tied_N]
        slope_by[name] = -float(np.ptp(apart_X[np.abs(rows_NxX[tied_N]).max(axis=0) > 0]))
    return slope_by


def _of_token(question: Question, one: Programme, shape, multiplier_C: np.ndarray, h_K: np.ndarray) -> float | None:
    """Derivative of the goal by D at the optimum, in typical losses a token; None where the law has no D."""
    if not question.fit.uses_scale or question.n_tokens is None:
        return None
    goal_C = np.where(np.arange(len(multiplier_C)) < shape.goal_rows, multiplier_C, 0.0)
    weight_F = one.price_F + goal_C @ one.share_CxF
    nudged = [one._replace(d=one.d * (1 + sign * NUDGE)) for sign in (1, -1)]
    more_F, less_F = (slopes(question.fit.family, p, h_K)[0] for p in nudged)
    slope = float(weight_F[:-1] @ (more_F - less_F)[:-1]) / (2 * NUDGE * question.n_tokens)
    return slope if slope < 0 else None


def _of_text(question: Question, one: Programme, weight_F: np.ndarray, h_K: np.ndarray) -> dict[str, float]:
    """Derivative by a unique token of each available text at this mixture, in typical losses, if the law counts it."""
    family, available = question.fit.family, question.constraints.available
    if not family.uses_unique:
        return {}
    worth = {}
    for domain, tokens in available.items():
        this_K = np.array(question.fit.domains) == domain
        nudged = [one._replace(unique_K=one.unique_K * (1 + sign * NUDGE * this_K)) for sign in (1, -1)]
        more_F, less_F = (slopes(family, p, h_K)[0] for p in nudged)
        worth[domain] = float(weight_F[:-1] @ (more_F - less_F)[:-1]) / (2 * NUDGE * max(tokens, 1.0))
    return worth


def _price(
    question: Question,
    name: str,
    said: str,
    bound: float,
    slope: float,
    of_token: float | None,
    of_text: dict[str, float],
) -> Price:
    held = abs(slope) >= NOTHING
    slope = slope if held else 0.0
    tokens = POINT * abs(slope) / -of_token if held and of_token is not None else None
    text = None
    if name.startswith("available "):
        domain = name.split(" ", 1)[1]
        capped = slope * question.constraints.epochs_of(domain) / question.n_tokens
        text = (capped + of_text.get(domain, 0.0)) * question.size if held or domain in of_text else None
    return Price(name, said, bound, slope * question.size, tokens, text)
