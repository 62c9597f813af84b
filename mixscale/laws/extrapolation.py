"""How far a point lies beyond the sizes, token counts and epochs of a table, and how much a law misses there.

Distance is measured in loss: what the loss would change on the way if it went on as steeply as in the table. Of that a
law misses a share, the drift, which is judged on the levels that were left out. Inside the table there is no distance.
Tokens that are read again are tokens, so an epoch more is as far as new text would be: a law may be wrong by all that
it says of them.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from mixscale.laws import fitting
from mixscale.laws.families import Points
from mixscale.laws.splits import Split

NUDGE = 0.02
"""Step in the log of size and tokens by which slopes are measured."""
USUAL, DOUBT = 0.25, 1.0
"""Drift where nothing speaks for another, and standard deviation of its log: a weak prior."""
HEAVY = 4
"""Degrees of freedom of the residuals that it is judged by, so that a few do not rule the rest."""
DRIFTS = np.geomspace(0.01, 6.0, 80)
"""Drifts that are tried."""


def steepness(law, theta_TxP: np.ndarray, points: Points) -> np.ndarray:
    """Root mean square of what a loss changes in an e-fold of size and of new tokens, scaled, shape (2, T)."""

    def slope(more: Points, less: Points) -> np.ndarray:
        change_TxR = fitting.evaluate(law, theta_TxP, more) - fitting.evaluate(law, theta_TxP, less)
        return np.sqrt((change_TxR**2).mean(axis=1)) / (2 * NUDGE)

    up, down = np.exp(NUDGE), np.exp(-NUDGE)
    larger, smaller = (points._replace(n_R=points.n_R * by) for by in (up, down))
    longer, shorter = (points._replace(d_R=points.d_R * by, u_RxK=points.u_RxK * by) for by in (up, down))
    return np.stack([slope(larger, smaller), slope(longer, shorter)])


def distance(steep_2xT: np.ndarray, known: Points, asked: Points) -> np.ndarray:
    """Distance of each point from the range of the known ones, scaled like the losses, shape (T, Q)."""
    return np.sqrt(np.square(steep_2xT).T @ _excess_squared(known, asked))


def left_out(steep_2xT: np.ndarray, points: Points, split: Split) -> np.ndarray:
    """Distance of each row from those that its fold keeps, shape (T, R); zero for rows that no fold tests."""
    away_TxR = np.zeros((steep_2xT.shape[1], points.count))
    for fold, kept_R in enumerate(split.kept_FxR > 0):
        tested_R = split.fold_R == fold
        known, asked = (Points(*(x[rows_R] for x in points)) for rows_R in (kept_R, tested_R))
        away_TxR[:, tested_R] = distance(steep_2xT, known, asked)
    return away_TxR


def drift(residual_TxR: np.ndarray, spread_TxR: np.ndarray, away_TxR: np.ndarray, fold_R: np.ndarray) -> float:
    """The share of the distance that the law missed where it was left out: the mode of its posterior.

    Args:
        residual_TxR: left-out residuals. spread_TxR: standard deviation expected of them where there is no drift.
        fold_R: the fold that tests each row. All rows of a fold count as one: a law that bends the wrong way is wrong
            about all of them.
    """
    evidence_C = stats.norm.logpdf(np.log(DRIFTS / USUAL) / DOUBT)
    for fold in np.unique(fold_R[(fold_R >= 0) & (away_TxR > 0).any(axis=0)]):
        of_R = fold_R == fold
        size_CxTxR = np.hypot(spread_TxR[:, of_R], DRIFTS[:, None, None] * away_TxR[:, of_R])
        evidence_C += stats.t.logpdf(residual_TxR[:, of_R], HEAVY, scale=size_CxTxR).mean(axis=(1, 2))
    return float(DRIFTS[evidence_C.argmax()])


def _excess_squared(known: Points, asked: Points) -> np.ndarray:
    """Squares of the logs beyond the known range of size, and of tokens with epochs, shape (2, Q)."""
    size_Q, tokens_Q = (_outside(np.log(getattr(known, x)), np.log(getattr(asked, x))) for x in ("n_R", "d_R"))
    again_QxK = np.maximum(asked.log_epochs_RxK - known.log_epochs_RxK.max(axis=0), 0.0)
    return np.stack([size_Q**2, tokens_Q**2 + (asked.h_RxK * again_QxK).sum(axis=1) ** 2])


def _outside(known_R: np.ndarray, asked_Q: np.ndarray) -> np.ndarray:
    return np.maximum(np.maximum(known_R.min() - asked_Q, asked_Q - known_R.max()), 0.0)
