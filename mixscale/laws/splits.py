"""Which rows are left out together, so that what is left in looks like what is known when the question is asked.

Unseen mixtures, a larger size, more tokens, or a larger size of unseen mixtures. Rows of one mixture, and every step
of a run, are never on both sides where the question is about mixtures.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from mixscale.errors import InputError, did_you_mean
from mixscale.laws import hull_distance
from mixscale.laws.dataset import Dataset, levels
from mixscale.laws.families import Points

FOLDS = 10
QUESTIONS = {
    "mixtures": "unseen mixtures",
    "larger-n": "larger sizes",
    "larger-d": "more tokens",
    "both": "larger sizes of unseen mixtures",
}
"""What may be asked, and what is then left out, in words."""
STEPS = 3
"""Largest number of sizes, or of groups of token counts, that are left out one after another."""
LEAST = 0.2
"""Share of the rows that must be left in."""


@dataclass(frozen=True)
class Split:
    """F folds: what each is fitted to and what it is tested on.

    Attributes:
        kept_FxR: 1 for rows that are fitted, 0 for others. fold_R: the fold that tests each row, -1 for none.
        count_R: how much each row's mixture counts when laws are compared.
    """

    kept_FxR: np.ndarray
    fold_R: np.ndarray
    count_R: np.ndarray

    @property
    def tested_R(self) -> np.ndarray:
        return self.fold_R >= 0


def split(dataset: Dataset, question: str, seed: int) -> Split:
    """The folds for a question.

    Raises:
        InputError: no such question, or the table has one size (or token count) only where larger ones are asked for.
    """
    if question not in QUESTIONS:
        raise InputError(f"question '{question}' is not known{did_you_mean(question, QUESTIONS)}")
    if question == "mixtures":
        return _among(dataset, by_mixture(dataset.group_R, seed))
    if question == "larger-d":
        return _larger(_longer(dataset.points), "token count", "n_tokens")
    larger = _larger(_levels(dataset.points.n_R), "size", "n_params")
    return larger if question == "larger-n" else _crossed(larger, _among(dataset, by_mixture(dataset.group_R, seed)))


def by_mixture(group_R: np.ndarray, seed: int) -> Split:
    """Groups of rows shuffled into at most FOLDS folds of near equal numbers of groups."""
    groups = int(group_R.max()) + 1
    if groups < 2:
        raise InputError("all rows are of one mixture or run, so none can be left out to test a law; add runs")
    fold_G = np.arange(groups) % min(FOLDS, groups)
    fold_R = np.random.default_rng(seed).permutation(fold_G)[group_R]
    kept_FxR = (fold_R != np.arange(int(fold_R.max()) + 1)[:, None]).astype(np.float64)
    return Split(kept_FxR, fold_R, np.ones(len(fold_R)))


def _among(dataset: Dataset, by_mixture: Split) -> Split:
    """Mixtures count as they are among those that stay in."""
    first_G, group_R = np.unique(dataset.group_R, return_index=True, return_inverse=True)[1:]
    count_G = hull_distance.counts(dataset.points.h_RxK[first_G], by_mixture.fold_R[first_G])
    return dataclasses.replace(by_mixture, count_R=count_G[group_R])


def _levels(value_R: np.ndarray) -> np.ndarray:
    """Number of each row's level, ascending; many values are a few levels."""
    rank_R = levels(value_R)
    count = int(rank_R.max()) + 1
    return rank_R if count <= 2 * STEPS else rank_R * 2 * STEPS // count


def _longer(points: Points) -> np.ndarray:
    """Number of each row's level in tokens, or in epochs where these put it farther out.

    More tokens of the same text are more epochs, so what is left in must have fewer of both.
    """
    tokens_R = _levels(points.d_R)
    epochs_R = _levels(np.exp((points.h_RxK * points.log_epochs_RxK).sum(axis=1)))
    if tokens_R.max() == 0 or epochs_R.max() == 0:
        return tokens_R
    farther_R = np.maximum(tokens_R / tokens_R.max(), epochs_R / epochs_R.max())
    return np.unique(farther_R, return_inverse=True)[1].reshape(-1)


def _larger(level_R: np.ndarray, what: str, column: str) -> Split:
    """Each of the highest levels tested by the rows below it, the highest first."""
    top = int(level_R.max())
    steps = [v for v in range(top, 0, -1) if (level_R < v).mean() >= LEAST][:STEPS]
    if not steps:
        raise InputError(
            f"predictions at a larger {what} cannot be tested: the table has too few rows below its largest {column}; "
            "ask about mixtures"
        )
    fold_R = np.full(len(level_R), -1)
    for fold, level in enumerate(steps):
        fold_R[level_R == level] = fold
    return Split(np.stack([(level_R < v).astype(np.float64) for v in steps]), fold_R, np.ones(len(fold_R)))


def _crossed(larger: Split, mixture: Split) -> Split:
    """Rows that are larger and of unseen mixtures, tested by those that are neither."""
    folds = len(mixture.kept_FxR)
    kept_FxR = (larger.kept_FxR[:, None] * mixture.kept_FxR).reshape(-1, len(larger.fold_R))
    fold_R = np.where(larger.tested_R, larger.fold_R * folds + mixture.fold_R, -1)
    testing_F, fold_N = np.unique(fold_R[fold_R >= 0], return_inverse=True)
    fold_R[fold_R >= 0] = fold_N
    return Split(kept_FxR[testing_F], fold_R, mixture.count_R)
